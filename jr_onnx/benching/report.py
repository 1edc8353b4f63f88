"""The answer of `jr-onnx bench`, for a program (`to_dict`) as for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True)
class Ratio:
    """The ratios of a file to the first one, each within one round: their median, and the middle half of them."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Timing:
    """One file at one batch size and number of threads; `seconds` is the median of a run."""

    file: str
    batch: int
    threads: int
    seconds: float
    ratio: Ratio


@dataclass(frozen=True)
class OpTypeTime:
    """Seconds a run that a session spends in the nodes of one op_type, from onnxruntime's profile."""

    op_type: str
    nodes: int
    seconds: float


@dataclass(frozen=True)
class FileCost:
    """What one file costs besides its runs, at the first batch size and number of threads.

    Attributes:
        creation: seconds to make a session, median.
        creation_ratio: the same to the first file's, round by round.
        peak_bytes: what a process of its own grows by from the import of onnxruntime to the end of a run.
        op_types: where the time of a run goes, the longest first.
    """

    file: str
    creation: float
    creation_ratio: Ratio
    peak_bytes: int
    op_types: tuple[OpTypeTime, ...]


@dataclass(frozen=True)
class BenchReport:
    """The result of `jr_onnx.bench`; ratios are to the first file."""

    provider: str
    onnxruntime: str
    rounds: int
    timings: tuple[Timing, ...]
    files: tuple[FileCost, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return asdict(self)


def ratio(own: Sequence[float], first: Sequence[float]) -> Ratio:
    """The rounds of one file to those of the first; there are at least two."""
    each = [a / b for a, b in zip(own, first, strict=True)]
    low, _, high = quantiles(each, n=4, method="inclusive")
    return Ratio(median(each), low, high)
