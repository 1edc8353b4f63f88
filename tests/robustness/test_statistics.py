"""Intervals hold what they promise, the paired test is exact, and quantiles of a stream are those of the whole."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support import Array

from jr_onnx.robustness.statistics import (
    Interval,
    PositiveHistogram,
    exact_mcnemar,
    paired_test,
    proportion_interval,
    within_drop,
)

COUNTS = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
CONFIDENCES = st.floats(0.5, 0.999)


def binomial(n: int, p: float) -> Array:
    """The probabilities of 0..n successes."""
    return np.array([math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])


# --- what may be lost -------------------------------------------------------------------------------------------------


@given(n=st.integers(1, 3000), budget=st.integers(0, 300), right=st.integers(0, 3000))
def test_what_may_be_lost_is_counted_in_samples_so_that_rounding_has_no_say(n: int, budget: int, right: int) -> None:
    """A budget of whole samples, in percentage points: that many may be lost, and not one more."""
    right, budget = min(right, n), min(budget, n)
    original = np.arange(n) < right
    for lost in (budget, budget + 1):
        other = np.arange(n) < right - lost
        assert within_drop(original, other, 100 * budget / n) is (min(lost, right) <= budget)


# --- one share --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I: method 3, score without continuity correction.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_limits_are_wilsons(successes: int, n: int, low: float, high: float) -> None:
    interval = proportion_interval(successes, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


@given(COUNTS, CONFIDENCES)
def test_an_interval_is_around_its_estimate_and_within_zero_and_one(counts: tuple[int, int], confidence: float) -> None:
    interval = proportion_interval(*counts, confidence)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.estimate == counts[0] / counts[1]
    assert interval.low < interval.high


@given(COUNTS, CONFIDENCES)
def test_failures_have_the_mirrored_interval(counts: tuple[int, int], confidence: float) -> None:
    one, other = (
        proportion_interval(*counts, confidence),
        proportion_interval(counts[1] - counts[0], counts[1], confidence),
    )
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-12)


@given(COUNTS, CONFIDENCES)
def test_more_samples_of_the_same_share_narrow_it(counts: tuple[int, int], confidence: float) -> None:
    one, more = (
        proportion_interval(*counts, confidence),
        proportion_interval(10 * counts[0], 10 * counts[1], confidence),
    )
    assert more.high - more.low < one.high - one.low


@pytest.mark.parametrize("n", [20, 50, 200])
def test_the_interval_covers_the_truth_as_often_as_it_says(n: int) -> None:
    """Exact, from the binomial distribution: on average over shares 95%, and nowhere far below."""
    intervals = [proportion_interval(k, n) for k in range(n + 1)]
    shares = np.linspace(0.05, 0.95, 91)
    coverage = [binomial(n, p) @ np.array([p in interval for interval in intervals]) for p in shares]
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.008)
    assert min(coverage) > 0.91


@pytest.mark.parametrize("arguments", [(1, 0), (-1, 10), (11, 10), (1, 10, 0.0), (1, 10, 1.0)])
def test_what_is_no_share_is_refused(arguments: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"successes|confidence"):
        proportion_interval(*arguments)  # type: ignore[arg-type]


# --- two shares of the same samples -----------------------------------------------------------------------------------


def paired(both: int, only_first: int, only_second: int, neither: int) -> tuple[Array, Array]:
    first = np.repeat([True, True, False, False], (both, only_first, only_second, neither))
    second = np.repeat([True, False, True, False], (both, only_first, only_second, neither))
    return first, second


@pytest.mark.parametrize(
    ("table", "low", "high"),
    # The examples of Newcombe, Statistics in Medicine 17 (1998) 2635-2650, for method 10.
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((18, 12, 2, 18), 0.0562, 0.3290),
        ((53, 0, 0, 1), -0.0729, 0.0729),
        ((0, 30, 0, 0), 0.8395, 1.0),
    ],
)
def test_the_limits_of_a_paired_difference_are_newcombes(
    table: tuple[int, int, int, int], low: float, high: float
) -> None:
    result = paired_test(*paired(*table))
    difference = result.difference
    assert (-difference.high, -difference.low) == pytest.approx((low, high), abs=6e-5)
    assert (result.only_first, result.only_second, result.samples) == (table[1], table[2], sum(table))


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_p_value_is_that_of_the_binomial_distribution(one: int, other: int) -> None:
    probabilities = binomial(one + other, 0.5)
    expected = min(1.0, 2 * probabilities[: min(one, other) + 1].sum())
    assert exact_mcnemar(one, other) == pytest.approx(expected, rel=1e-9)
    assert exact_mcnemar(one, other) == exact_mcnemar(other, one)


def test_the_p_value_of_many_samples_is_exact_too() -> None:
    # Three standard deviations of the binomial distribution from its middle.
    assert exact_mcnemar(4850, 5150) == pytest.approx(math.erfc(299 / math.sqrt(2 * 10000)), rel=0.01)


@given(arrays.arrays(np.bool_, st.tuples(st.just(2), st.integers(1, 200))))
def test_the_interval_is_around_the_difference_and_turns_with_it(pair: Array) -> None:
    first, second = pair
    one, other = paired_test(first, second).difference, paired_test(second, first).difference
    assert -1 <= one.low <= one.estimate <= one.high <= 1
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


@pytest.mark.parametrize(("flip_first", "flip_second"), [(0.05, 0.05), (0.15, 0.05), (0.3, 0.2)])
def test_the_paired_interval_covers_the_truth_and_the_test_errs_as_rarely_as_they_say(
    flip_first: float, flip_second: float
) -> None:
    draw = np.random.default_rng(7)
    covered, rejected, rounds = 0, 0, 2000
    for _ in range(rounds):
        easy = draw.random(150) < 0.8
        first, second = easy & (draw.random(150) >= flip_first), easy & (draw.random(150) >= flip_second)
        result = paired_test(first, second)
        covered += 0.8 * (flip_first - flip_second) in result.difference
        rejected += result.p_value < 0.05
    assert covered / rounds > 0.935  # two standard errors below 95%
    if flip_first == flip_second:
        assert rejected / rounds < 0.05
    else:
        assert rejected / rounds > 0.3


@pytest.mark.parametrize(
    ("first", "second"),
    [([True], [True, False]), ([1.0], [0.0]), ([], []), ([[True]], [[True]])],
)
def test_what_is_no_pair_of_boolean_vectors_is_refused(first: list[object], second: list[object]) -> None:
    with pytest.raises(ValueError, match="two boolean vectors"):
        paired_test(np.array(first), np.array(second))


def test_an_interval_knows_what_is_in_it() -> None:
    assert 0.2 in Interval(0.3, 0.2, 0.4)
    assert 0.41 not in Interval(0.3, 0.2, 0.4)


# --- quantiles of a stream --------------------------------------------------------------------------------------------

FLOATS = arrays.arrays(
    np.float32, st.integers(1, 300), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)
)


@given(st.lists(FLOATS, min_size=1, max_size=4), st.floats(0, 1))
def test_a_quantile_is_the_exact_rank_to_the_width_of_a_bin(blocks: list[Array], q: float) -> None:
    histogram = PositiveHistogram()
    for block in blocks:
        histogram.add(block)
    values = np.concatenate(blocks)
    positive = np.sort(values[(values > 0) & np.isfinite(values)].astype(np.float64))
    assert histogram.count == len(positive)
    if not len(positive) or positive[-1] > 3e38:
        return
    rank = math.ceil(Fraction(q) * len(positive))
    if not rank:
        assert histogram.quantile(q) == 0
        return
    exact, found = positive[rank - 1], histogram.quantile(q)
    assert exact < found <= exact * (1 + 2**-7) + 2.0**-133  # denormal numbers have bins of one width
    assert (positive <= found).mean() >= q


@given(FLOATS, FLOATS)
def test_histograms_add_up(one: Array, other: Array) -> None:
    together, merged, second = PositiveHistogram(), PositiveHistogram(), PositiveHistogram()
    together.add(np.concatenate([one, other]))
    merged.add(one)
    second.add(other)
    merged.merge(second)
    assert merged.count == together.count
    if merged.count:
        assert [merged.quantile(q) for q in (0.1, 0.5, 1)] == [together.quantile(q) for q in (0.1, 0.5, 1)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_shape_and_float_type_can_be_counted(dtype: type[np.floating[object]]) -> None:
    histogram = PositiveHistogram()
    histogram.add(np.array([[1, 2], [-3, 0]], dtype).T)
    assert histogram.count == 2
    assert histogram.quantile(0.5) == pytest.approx(1, rel=0.01)


def test_a_quantile_of_nothing_or_outside_of_zero_and_one_is_refused() -> None:
    histogram = PositiveHistogram()
    with pytest.raises(ValueError, match="no positive number"):
        histogram.quantile(0.5)
    histogram.add(np.ones(3))
    for q in (-0.1, 1.1):
        with pytest.raises(ValueError, match="not in"):
            histogram.quantile(q)
