"""Attack several models on the same samples at equal effort (being written; the interface stands)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from jr_onnx.evaluation.results import EvaluationReport


def run_campaign(
    models: Mapping[str, str | Path | onnx.ModelProto],
    dataset: Any,
    *,
    eps: Sequence[float],
    attacks: Sequence[str],
    effort: Any,
    seed: int = 0,
    workers: int = 1,
    dask: str | None = None,
    journal: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvaluationReport:
    """Any number of models; the first is the original, from which attacks transfer and with which others are compared.

    progress(done, total) counts parts (a model on a shard of samples).
    """
    raise NotImplementedError
