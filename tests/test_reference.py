"""The definition itself: its values, and the properties that everything else relies on."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import (
    ELEMENT_TYPES,
    Array,
    assert_same_bits,
    assert_same_but_for_the_sign_of_zero,
    reference_vector,
    type_id,
)

from jr_onnx.conversion.element_types import NUMPY_TYPES
from jr_onnx.reference import jump_relu, quantized_jump_relu

DTYPES = (np.float16, np.float32, np.float64)


@st.composite
def values_and_jump(draw: st.DrawFn) -> tuple[Array, Any]:
    """Floats of any kind, NaN and infinities among them, and a jump that is often one of them."""
    dtype = draw(st.sampled_from(DTYPES))
    x = draw(hnp.arrays(dtype, hnp.array_shapes(max_side=6)))
    jumps = st.floats(min_value=0, allow_nan=False, allow_infinity=False, width=x.dtype.itemsize * 8)
    hits = [abs(v) for v in x.ravel() if np.isfinite(v)]
    jump = draw(st.one_of(jumps, st.sampled_from(hits)) if hits else jumps)
    return x, dtype(jump)


def test_values_up_to_the_jump_become_zero_and_all_others_stay() -> None:
    above = np.nextafter(np.float32(0.5), np.float32(1))
    x = np.array([-np.inf, -1, -0.0, 0, 0.25, 0.5, above, 1, np.inf, np.nan], np.float32)
    want = np.array([0, 0, 0, 0, 0, 0, above, 1, np.inf, np.nan], np.float32)
    assert_same_bits(jump_relu(x, 0.5), want)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("element_type", ELEMENT_TYPES, ids=type_id)
def test_the_reference_vector_has_the_same_answer_in_every_element_type(element_type: int) -> None:
    x = reference_vector(element_type)
    want = x.copy()
    want[:6] = 0
    got = jump_relu(x, 0.5)
    assert got.dtype == NUMPY_TYPES[element_type]
    assert_same_bits(got, want)


def test_the_zeros_that_are_put_in_are_positive() -> None:
    assert not np.signbit(jump_relu(np.array([-0.0, -1.0, -np.inf]), 0.0)).any()


def test_a_nan_goes_through() -> None:
    assert np.isnan(jump_relu(np.array([np.nan, -np.nan]), 0.5)).all()


def test_a_scalar_gives_an_array_without_dimensions() -> None:
    got = jump_relu(np.float32(0.75), 0.5)
    assert isinstance(got, np.ndarray)
    assert (got.shape, got.dtype) == ((), np.float32)


def test_an_empty_array_stays_empty() -> None:
    assert jump_relu(np.empty((0, 3), np.float16), 0.5).shape == (0, 3)


def test_the_input_is_not_changed() -> None:
    x = np.array([0.25, 0.75])
    jump_relu(x, 0.5)
    assert x.tolist() == [0.25, 0.75]


def test_the_jump_is_converted_to_the_type_of_the_values_before_the_comparison() -> None:
    # As a double, 0.1 is less than the float 0.1; rounded to float it is not.
    x = np.array([0.1], np.float32)
    assert float(x[0]) > 0.1
    assert jump_relu(x, 0.1)[0] == 0


def test_one_jump_a_channel_broadcasts_from_the_left() -> None:
    x = np.full((2, 3, 2, 2), 0.5, np.float32)
    got = jump_relu(x, np.array([0.1, 0.5, 0.9], np.float32).reshape(3, 1, 1))
    assert got[:, 0].tolist() == x[:, 0].tolist()
    assert not got[:, 1:].any()


def test_a_jump_that_would_enlarge_the_output_is_refused() -> None:
    with pytest.raises(ValueError):
        jump_relu(np.zeros(3), np.zeros((2, 3)))


@given(values_and_jump())
def test_it_keeps_type_and_shape_and_every_value_is_kept_or_zero(case: tuple[Array, Any]) -> None:
    x, jump = case
    y = jump_relu(x, jump)
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    kept = ~(x <= jump)
    assert_same_bits(y[kept], x[kept])
    assert_same_bits(y[~kept], np.zeros_like(x[~kept]))


@given(values_and_jump())
def test_it_is_monotone(case: tuple[Array, Any]) -> None:
    x, jump = case
    y = jump_relu(np.sort(x[~np.isnan(x)]), jump)
    # No difference of neighbours: inf - inf is NaN.
    assert (y[1:] >= y[:-1]).all()


@given(values_and_jump())
def test_after_a_relu_it_gives_the_same(case: tuple[Array, Any]) -> None:
    x, jump = case
    assert_same_bits(jump_relu(np.maximum(x, x.dtype.type(0)), jump), jump_relu(x, jump))


@given(values_and_jump())
def test_it_commutes_with_the_maximum(case: tuple[Array, Any]) -> None:
    x, jump = case
    assert_same_bits(np.max(jump_relu(x, jump)), jump_relu(np.max(x), jump)[()])
    assert_same_bits(np.max(jump_relu(x, jump), axis=0), jump_relu(np.max(x, axis=0), jump))


@given(values_and_jump())
def test_twice_is_once(case: tuple[Array, Any]) -> None:
    x, jump = case
    once = jump_relu(x, jump)
    assert_same_bits(jump_relu(once, jump), once)


@given(values_and_jump())
def test_jump_zero_is_relu_but_for_the_sign_of_zero(case: tuple[Array, Any]) -> None:
    x, _ = case
    assert_same_but_for_the_sign_of_zero(jump_relu(x, 0), np.maximum(x, x.dtype.type(0)))


@given(values_and_jump(), st.floats(min_value=0, allow_nan=False, allow_infinity=False, width=16))
def test_of_two_jumps_one_after_the_other_the_larger_counts(case: tuple[Array, Any], other: float) -> None:
    x, jump = case
    both = jump_relu(jump_relu(x, jump), x.dtype.type(other))
    assert_same_bits(both, jump_relu(x, max(jump, x.dtype.type(other))))


def test_bfloat16_is_compared_in_bfloat16() -> None:
    # 1 + 2**-8 lies between 1 and the next bfloat16; it is rounded to 1 before it is compared.
    x = np.array([1.0], ml_dtypes.bfloat16)
    assert jump_relu(x, 1 + 2**-9)[0] == 0
    assert jump_relu(x, 1 - 2**-7)[0] == 1


QUANTIZED = (np.uint8, np.int8, np.uint16, np.int16)


@pytest.mark.parametrize("dtype", QUANTIZED)
def test_integers_up_to_the_threshold_become_the_zero_point_and_all_others_stay(dtype: Any) -> None:
    lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
    q = np.array([lowest, 99, 100, 101, highest], dtype)
    got = quantized_jump_relu(q, 100, 7)
    assert got.dtype == dtype
    assert got.tolist() == [7, 7, 7, 101, highest]


def test_one_threshold_and_zero_point_a_channel_broadcast_from_the_left() -> None:
    q = np.full((2, 3, 2, 2), 5, np.uint8)
    threshold = np.array([4, 5, 6], np.uint8).reshape(3, 1, 1)
    assert quantized_jump_relu(q, threshold, 1)[:, :, 0, 0].tolist() == [[5, 1, 1]] * 2
    zero_point = np.array([1, 2, 3], np.uint8).reshape(3, 1, 1)
    assert quantized_jump_relu(q, threshold, zero_point)[:, :, 0, 0].tolist() == [[5, 2, 3]] * 2


@pytest.mark.parametrize("which", ["threshold", "zero_point"])
def test_a_threshold_or_zero_point_that_would_enlarge_the_output_is_refused(which: str) -> None:
    scalars: dict[str, Any] = {"threshold": 1, "zero_point": 0}
    with pytest.raises(ValueError):
        quantized_jump_relu(np.zeros(3, np.uint8), **{**scalars, which: np.zeros((2, 3), np.uint8)})


def _largest_at_most(jump: np.float32, scale: np.float32, zero_point: int, dtype: Any) -> int:
    """The threshold by its definition: DequantizeLinear of every integer, compared with the jump."""
    q = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1)
    return int(q[(q - zero_point).astype(np.float32) * scale <= jump].max())


@given(
    st.sampled_from(QUANTIZED),
    st.data(),
    st.floats(2**-30, 2**10, width=32),
    st.floats(0, 2**20, width=32),
)
def test_dequantized_it_is_jump_relu_of_what_the_integers_stand_for(
    dtype: Any, data: st.DataObject, scale: float, jump: float
) -> None:
    info = np.iinfo(dtype)
    zero_point = data.draw(st.integers(info.min, info.max))
    threshold = _largest_at_most(np.float32(jump), np.float32(scale), zero_point, dtype)
    q = np.arange(info.min, info.max + 1).astype(dtype)

    def dequantized(integers: Array) -> Array:
        return (integers.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)

    got = dequantized(quantized_jump_relu(q, threshold, zero_point))
    assert_same_bits(got, jump_relu(dequantized(q), np.float32(jump)))
