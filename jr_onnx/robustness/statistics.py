"""How sure a measured share is: intervals, a paired test, and quantiles of numbers too many to keep."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Booleans = npt.NDArray[np.bool_]

#: The percentage points of clean accuracy that JumpReLU may cost, unless told otherwise.
MAX_DROP = 1.0


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval; `low <= estimate <= high`.

    Attributes:
        estimate: the measured share, or difference of shares.
        low, high: the limits, at the confidence that was asked for.
    """

    estimate: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def in_percent(self) -> str:
        """A share: "97.8% (94.4 to 99.1)"."""
        return f"{self.estimate:.1%} ({100 * self.low:.1f} to {100 * self.high:.1f})"

    @property
    def in_points(self) -> str:
        """A difference of shares in percentage points: "+1.5 points, -0.3 to +3.2"."""
        return f"{100 * self.estimate:+.1f} points, {100 * self.low:+.1f} to {100 * self.high:+.1f}"


@dataclass(frozen=True)
class PairedResult:
    """Two classifiers on the same samples: by how much the second is right more often.

    Attributes:
        difference: share of the second minus share of the first, with its interval.
        p_value: of the exact McNemar test: how likely so unequal a split is where neither is better. Two-sided.
        only_first, only_second: samples on which just one of the two is right; the rest says nothing.
        samples: all of them.
    """

    difference: Interval
    p_value: float
    only_first: int
    only_second: int
    samples: int


def proportion_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share: holds its confidence at small n and near 0 and 1, and stays within them.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).

    Raises:
        ValueError: n is not positive, the successes are not in 0..n, or the confidence is not between 0 and 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: needs n >= 1 and 0 <= successes <= n")
    z = _z(confidence)
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    # At the ends the limit is the share itself, which rounding must not pass.
    return Interval(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


def share_of(right: Booleans) -> Interval:
    """The share that is True of a vector, with its 95% interval."""
    return proportion_interval(int(right.sum()), len(right))


def paired_test(first: Booleans, second: Booleans, confidence: float = 0.95) -> PairedResult:
    """Whether the second of two classifiers is right more often than the first, on the same samples.

    The p-value is that of McNemar's test, exact: of the samples on which just one is right, each is the one's or the
    other's with probability 1/2. The interval is Newcombe's (method 10), from Wilson's limits of the two shares and
    their correlation.

    Sources: Q. McNemar, Psychometrika 12 (1947); R. G. Newcombe, Improved confidence intervals for the difference
    between binomial proportions based on paired data, Statistics in Medicine 17 (1998).

    Args:
        first, second: whether each is right on each sample; boolean, shape [n], n >= 1.

    Raises:
        ValueError: they are not two boolean vectors of one length.
    """
    one, two = np.asarray(first), np.asarray(second)
    if one.dtype != np.bool_ or two.dtype != np.bool_ or one.ndim != 1 or one.shape != two.shape or not one.size:
        raise ValueError(f"needs two boolean vectors of one length, not {_described(one)} and {_described(two)}")
    n = one.size
    both, neither = int((one & two).sum()), int((~one & ~two).sum())
    only_first, only_second = int((one & ~two).sum()), int((~one & two).sum())
    interval = _newcombe(both, only_first, only_second, neither, confidence)
    return PairedResult(interval, exact_mcnemar(only_first, only_second), only_first, only_second, n)


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """Twice the smaller tail of the binomial distribution with probability 1/2, in exact integers."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    term = tail = 1
    for k in range(fewer):
        term = term * (n - k) // (k + 1)
        tail += term
    return float(min(Fraction(1), Fraction(2 * tail, 2**n)))


def within_drop(original: Booleans, other: Booleans, max_drop: float) -> bool:
    """Whether the other classifier loses no more than `max_drop` percentage points of its accuracy; both [n]."""
    lost = int(original.sum()) - int(other.sum())
    return lost <= max_drop / 100 * len(original) * (1 + 1e-9)  # counted, for what is lost may be just the budget


def _newcombe(both: int, only_first: int, only_second: int, neither: int, confidence: float) -> Interval:
    n = both + only_first + only_second + neither
    one = proportion_interval(both + only_first, n, confidence)
    two = proportion_interval(both + only_second, n, confidence)
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    excess = float(both * neither - only_first * only_second)
    if excess > 0:
        excess = max(excess - n / 2, 0)
    phi = excess / math.sqrt(margins) if margins else 0.0
    difference = (only_second - only_first) / n
    down = _combined(two.estimate - two.low, one.high - one.estimate, phi)
    up = _combined(two.high - two.estimate, one.estimate - one.low, phi)
    return Interval(difference, max(-1.0, difference - down), min(1.0, difference + up))


def _combined(one: float, two: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * two + two * two))


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence!r} is not between 0 and 1")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _described(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype}{list(array.shape)}"


#: Of a float's 32 bits, the first 16 tell the bin: sign, exponent, and 7 bits of the fraction, as in a bfloat16.
_SHIFT = 16
_BINS = 0x7F80  # up to infinity


class PositiveHistogram:
    """Quantiles of the positive numbers in a stream, in 255 KB whatever its length.

    The bit patterns of positive floats are in the order of their values, so the leading 16 bits are a histogram whose
    bins have a relative width of 2^-7 over the whole range. Ranks are exact; a quantile is the upper edge of the bin in
    which the rank lies: too large by no more than that width, and a number that a bfloat16 holds.
    """

    def __init__(self) -> None:
        self._counts: npt.NDArray[np.int64] = np.zeros(_BINS, np.int64)

    @property
    def count(self) -> int:
        """How many positive finite numbers there were."""
        return int(self._counts.sum())

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count the positive finite numbers of an array of any shape; others are passed over. Rounded to float32."""
        with np.errstate(over="ignore"):
            bits = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32)
        bins = (bits >> _SHIFT)[(bits > 0) & (bits < _BINS << _SHIFT)]
        self._counts += np.bincount(bins, minlength=_BINS)

    def merge(self, other: PositiveHistogram) -> None:
        """Take in what another has counted."""
        self._counts += other._counts

    def quantile(self, q: float) -> float:
        """The smallest bin edge with at least a share of `q` of the numbers at or below it; 0 for q = 0.

        Raises:
            ValueError: q is not in 0..1, or nothing was counted.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile of {q!r} is not in 0..1")
        total = self.count
        if not total:
            raise ValueError("no positive number was counted")
        rank = math.ceil(Fraction(q) * total)
        if not rank:
            return 0.0
        index = int(np.searchsorted(np.cumsum(self._counts), rank))
        edge = np.array([min(index + 1, _BINS - 1) << _SHIFT], np.uint32).view(np.float32)
        return float(edge[0])
