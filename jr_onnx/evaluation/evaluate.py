"""A hardened model against its original: the campaign, and what JumpReLU does to each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from jr_onnx.arguments import as_model
from jr_onnx.attacks.attack import Effort
from jr_onnx.dataset import Dataset, load, read_classifier
from jr_onnx.dataset.classifier import guessing
from jr_onnx.dataset.loading import Source
from jr_onnx.errors import ModelError
from jr_onnx.evaluation.campaign import DEFAULT_ATTACKS, run_campaign
from jr_onnx.evaluation.results import EvaluationReport
from jr_onnx.evaluation.zeroed import zeroed_layers
from jr_onnx.inspection import find_sites
from jr_onnx.metadata import MADE_FOR, SOURCE, hardened_metadata, origin_digest
from jr_onnx.modelfile.source import open_model
from jr_onnx.sites.matchers import SiteKind

#: How the two models are called in the report.
REFERENCE, HARDENED = "original", "hardened"


def evaluate(
    hardened: str | Path | onnx.ModelProto,
    reference: str | Path | onnx.ModelProto,
    data: Dataset | Source,
    *,
    eps: float | Sequence[float],
    attacks: Sequence[str] = DEFAULT_ATTACKS,
    effort: Effort | None = None,
    seed: int = 0,
    workers: int = 1,
    dask: str | None = None,
    journal: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> EvaluationReport:
    """Attack a hardened model and its original at equal effort, and say what the jump bought.

    The arguments and errors are those of `jr_onnx.evaluation.campaign.run_campaign`; data may also be what
    `jr_onnx.dataset.load` takes, and eps one number. In the report, the models are called "original" and "hardened".
    What makes the comparison doubtful stands first in the evidence of the verdict.
    """
    hardened, reference = as_model("hardened", hardened), as_model("reference", reference)
    classifier = read_classifier(reference)
    dataset = data if isinstance(data, Dataset) else load(data, classifier=classifier)
    doubts = tuple(_doubts(hardened, reference))
    zeroed = zeroed_layers(hardened, dataset)  # minutes at most, so what is wrong shows before hours of attacks
    report = run_campaign(
        {REFERENCE: reference, HARDENED: hardened},
        dataset,
        eps=[eps] if isinstance(eps, (int, float)) else eps,
        attacks=attacks,
        effort=effort,
        seed=seed,
        workers=workers,
        dask=dask,
        journal=journal,
        progress=progress,
    )
    about_data = tuple(_doubts_about_data(dataset, classifier.classes, report.models[REFERENCE].clean_accuracy))
    verdict = report.verdicts[HARDENED]
    verdict = replace(verdict, evidence=(*doubts, *about_data, *verdict.evidence))
    return replace(report, zeroed={HARDENED: zeroed}, verdicts={HARDENED: verdict})


def _doubts(hardened: str | Path | onnx.ModelProto, reference: str | Path | onnx.ModelProto) -> Iterator[str]:
    """What says that the one was not made from the other.

    Raises:
        ModelError: one of them cannot be read, or was optimised for one machine.
    """
    with open_model(reference) as ours, open_model(hardened) as theirs:
        recorded = hardened_metadata(theirs.skeleton)
        if MADE_FOR in recorded:
            name = f"{theirs.path}: " if theirs.path else ""
            raise ModelError(f"{name}was optimised for one machine; evaluate the hardened model that it was made from")
        if not any(site.kind is SiteKind.HARDENED for site in find_sites(hardened)):
            yield "The model called hardened holds no JumpReLU: were the two files swapped?"
        elif recorded.get(SOURCE, ours.digest) not in (ours.digest, origin_digest(ours.skeleton, ours.digest)):
            yield (
                "The hardened model records that it was made from another model than this original: the difference "
                "between the two need not come from JumpReLU."
            )


def _doubts_about_data(dataset: Dataset, classes: int | None, accuracy: float) -> Iterator[str]:
    if dataset.labels is None:
        yield "The data have no labels: the original's answers stand for them, and clean accuracy is agreement with it."
    elif said := guessing(accuracy, classes):
        yield said
