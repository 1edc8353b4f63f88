"""A hardened model against its original: the campaign, and what JumpReLU does to each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from jr_onnx.attacks.attack import Effort
from jr_onnx.dataset import Dataset
from jr_onnx.evaluation.campaign import DEFAULT_ATTACKS, run_campaign
from jr_onnx.evaluation.results import EvaluationReport
from jr_onnx.evaluation.zeroed import zeroed_layers

#: How the two models are called in the report.
REFERENCE, HARDENED = "original", "hardened"


def evaluate(
    hardened: str | Path | onnx.ModelProto,
    reference: str | Path | onnx.ModelProto,
    dataset: Dataset,
    *,
    eps: Sequence[float],
    attacks: Sequence[str] = DEFAULT_ATTACKS,
    effort: Effort | None = None,
    seed: int = 0,
    workers: int = 1,
    dask: str | None = None,
    journal: Path | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> EvaluationReport:
    """Attack a hardened model and its original at equal effort, and say what the jump bought.

    The arguments and errors are those of `jr_onnx.evaluation.campaign.run_campaign`. In the report, the models are
    called "original" and "hardened".
    """
    zeroed = zeroed_layers(hardened, dataset)  # minutes at most, so what is wrong shows before hours of attacks
    report = run_campaign(
        {REFERENCE: reference, HARDENED: hardened},
        dataset,
        eps=eps,
        attacks=attacks,
        effort=effort,
        seed=seed,
        workers=workers,
        dask=dask,
        journal=journal,
        progress=progress,
    )
    return replace(report, zeroed={HARDENED: zeroed})
