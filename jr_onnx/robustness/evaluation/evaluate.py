"""A hardened model against its original: the campaign, and what JumpReLU does to each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.arguments import as_model
from jr_onnx.conversion.inspect import find_sites
from jr_onnx.conversion.metadata import MADE_FOR, SOURCE, hardened_metadata, origin_digest
from jr_onnx.conversion.sites.matchers import SiteKind
from jr_onnx.conversion.sites.surveyed import jump_of, text_of_jump
from jr_onnx.errors import ModelError
from jr_onnx.files.source import open_model
from jr_onnx.robustness.activations import site_inputs
from jr_onnx.robustness.attacks.target import Effort
from jr_onnx.robustness.dataset import Dataset, load_data, read_classifier
from jr_onnx.robustness.dataset.classifier import guessing
from jr_onnx.robustness.evaluation.campaign import DEFAULT_ATTACKS, run_campaign
from jr_onnx.robustness.evaluation.report import EvaluationReport, ZeroedLayer
from jr_onnx.robustness.statistics import MAX_DROP
from jr_onnx.runtime.data.loading import DataSource
from jr_onnx.runtime.instrumented import runnable

#: How the two models are called in the report.
REFERENCE, HARDENED = "original", "hardened"


def evaluate(
    original: str | Path | onnx.ModelProto,
    hardened: str | Path | onnx.ModelProto,
    data: Dataset | DataSource,
    *,
    eps: float | Sequence[float],
    attacks: Sequence[str] = DEFAULT_ATTACKS,
    effort: Effort | None = None,
    max_drop: float = MAX_DROP,
    seed: int = 0,
    workers: int = 1,
    executor: Executor | None = None,
    journal: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> EvaluationReport:
    """Attack a hardened model and its original at equal effort, and say what the jump bought.

    In the report, the models are called "original" and "hardened". What makes the comparison doubtful stands first in
    the evidence of the verdict. The result is the same, bit for bit, whoever does the work.

    Args:
        original: the model that was hardened, a file or in memory.
        hardened: the model in question.
        data: samples of the models' shape, with labels or without (then the original's answers are the labels); also
            what `jr_onnx.load_data` takes.
        eps: the radius of the Linf ball in pixel units (pixels from 0 to 1), or several, each in (0, 1].
        attacks: their names; they run in a fixed order, those that follow the true gradient first.
        effort: steps, restarts and queries of every attack, by default with 3 restarts; its own eps is not used.
        max_drop: how many percentage points of clean accuracy may be lost; with a larger loss no gain is called.
        seed: of all random numbers, >= 0.
        workers: processes on this machine, one thread each; 1 is this process.
        executor: any `concurrent.futures.Executor` in place of processes here, such as what Dask's
            `Client.get_executor()` gives; it is not shut down. A `ProcessPoolExecutor` needs the start method
            "spawn": onnxruntime has threads, which do not survive a fork.
        journal: a folder to keep finished parts in, and to take up again from.
        progress: called with the number of parts that are done, and of all; a part is a model on a few samples, about a
            minute's work.

    Raises:
        OptionError: an argument makes no sense, or the data do not fit the models.
        ModelError: a model is no classifier, cannot be run, or has no gradients, which
            black-box attacks do not need.
        RuntimeMissingError: onnxruntime or onnx-ad is needed and not installed.
        OutputError: the journal cannot be written.
        WorkerError: worker processes die again and again, or the executor loses its workers.

    Examples:
        >>> _ = jr_onnx.convert("models/digits.onnx", jump=0.5, output="hard.onnx")
        >>> report = jr_onnx.evaluate("models/digits.onnx", "hard.onnx", "few.npz", eps=[0.1], attacks=["square"])
        >>> sorted(report.models)
        ['hardened', 'original']
    """
    original, hardened = as_model("original", original), as_model("hardened", hardened)
    classifier = read_classifier(original)
    dataset = data if isinstance(data, Dataset) else load_data(data, classifier=classifier)
    doubts = tuple(_doubts(original, hardened))
    zeroed = zeroed_layers(hardened, dataset)  # minutes at most, so what is wrong shows before hours of attacks
    report = run_campaign(
        {REFERENCE: original, HARDENED: hardened},
        dataset,
        eps=[eps] if isinstance(eps, (int, float)) else eps,
        attacks=attacks,
        effort=effort,
        max_drop=max_drop,
        seed=seed,
        workers=workers,
        executor=executor,
        journal=journal,
        progress=progress,
    )
    about_data = tuple(_doubts_about_data(dataset, classifier.classes, report.models[REFERENCE].clean_accuracy))
    verdict = report.verdicts[HARDENED]
    verdict = replace(verdict, evidence=(*doubts, *about_data, *verdict.evidence))
    return replace(report, zeroed={HARDENED: zeroed}, verdicts={HARDENED: verdict})


def _doubts(original: str | Path | onnx.ModelProto, hardened: str | Path | onnx.ModelProto) -> Iterator[str]:
    """What says that the one was not made from the other.

    Raises:
        ModelError: one of them cannot be read, or was optimised for one machine.
    """
    with open_model(original) as ours, open_model(hardened) as theirs:
        recorded = hardened_metadata(theirs.skeleton)
        if MADE_FOR in recorded:
            raise ModelError("was optimised for one machine; evaluate the hardened model that it was made from")
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


# --- How much of each layer JumpReLU makes zero, in the model as it ships ---------------------------------------------

#: A share needs no more samples than this.
_SAMPLES = 256


def zeroed_layers(model: str | Path | onnx.ModelProto, dataset: Dataset) -> tuple[ZeroedLayer, ...]:
    """The JumpReLUs of a model with the share of their positive inputs that they make zero, in the order of the nodes.

    Sites in the body of an If, Loop or Scan are left out, and so are jumps that are no constant: their values cannot be
    seen from outside.

    Args:
        model: the hardened model.
        dataset: samples; the first 256 are used.

    Raises:
        ModelError: it cannot be read or run.
        RuntimeMissingError: there is no onnxruntime.
    """
    with open_model(model) as source:
        copy = runnable(source, find_sites(model))
        jumps = {path: (site, jump) for path, site in copy.in_place if (jump := jump_of(site)) is not None}
        if not jumps:
            return ()
        positive, zeroed = dict.fromkeys(jumps, 0), dict.fromkeys(jumps, 0)
        some = dataset.take(np.arange(min(len(dataset), _SAMPLES)))
        for inputs in site_inputs(copy, read_classifier(model), some):
            for path, (_, jump) in jumps.items():
                above = inputs[path] > 0
                positive[path] += int(above.sum())
                zeroed[path] += int((above & (inputs[path] <= _broadcast(jump, inputs[path]))).sum())
    return tuple(
        ZeroedLayer(path, text_of_jump(site) or "", zeroed[path] / max(positive[path], 1))
        for path, (site, _) in jumps.items()
    )


def _broadcast(jump: npt.NDArray[np.generic], given: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """A jump as it is applied to values [N, C, ...]: by ONNX's rules; where these do not allow it, one a channel."""
    try:
        return np.broadcast_to(jump, given.shape)
    except ValueError:
        return jump.reshape(-1, *(1,) * (given.ndim - 2))
