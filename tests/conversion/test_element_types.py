"""The jump is rounded once, to the nearest value of the element type, ties to even: against exact arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import BFLOAT16, DOUBLE, ELEMENT_TYPES, FLOAT, FLOAT16, type_id

from jr_onnx.conversion.element_types import NUMPY_TYPES, round_jump, type_name
from jr_onnx.conversion.policy import jump_text
from jr_onnx.errors import OptionError


@dataclass(frozen=True)
class Format:
    """A binary floating-point format of IEEE 754: its precision in bits, and its exponents."""

    precision: int
    smallest: int
    largest: int

    @property
    def maximum(self) -> Fraction:
        return (2 - Fraction(1, 2 ** (self.precision - 1))) * 2**self.largest

    def nearest(self, number: float) -> Fraction | None:
        """The nearest value, ties to even, by exact arithmetic; None where that is infinite."""
        exact = Fraction(number)
        exponent = max(math.frexp(number)[1] - 1, self.smallest) - (self.precision - 1)
        quantum = Fraction(2) ** exponent
        rounded = round(exact / quantum) * quantum  # Python rounds a Fraction's ties to even
        return rounded if rounded <= self.maximum else None


FORMATS = {
    FLOAT16: Format(11, -14, 15),
    BFLOAT16: Format(8, -126, 127),
    FLOAT: Format(24, -126, 127),
    DOUBLE: Format(53, -1022, 1023),
}

EACH_TYPE = pytest.mark.parametrize("element_type", ELEMENT_TYPES, ids=type_id)


def agrees(jump: float, element_type: int) -> None:
    want = FORMATS[element_type].nearest(jump)
    if want is None:
        with pytest.raises(OptionError, match="too large"):
            round_jump(jump, element_type)
        return
    got = round_jump(jump, element_type)
    assert Fraction(got) == want
    assert math.copysign(1, got) == 1
    # The value is one of the type: storing it changes nothing.
    assert float(NUMPY_TYPES[element_type].type(got)) == got


@EACH_TYPE
@given(jump=st.floats(min_value=0, allow_nan=False, allow_infinity=False))
@example(jump=0.0)
@example(jump=-0.0)
@example(jump=5e-324)
@example(jump=1e-45)
@example(jump=0.1)
@example(jump=65519.999)
@example(jump=65520.0)
def test_a_jump_is_rounded_to_the_nearest_value(element_type: int, jump: float) -> None:
    agrees(jump, element_type)


@EACH_TYPE
@given(data=st.data())
def test_a_jump_near_the_middle_of_two_values_is_rounded_once(element_type: int, data: st.DataObject) -> None:
    # By way of float, these would often be rounded to the middle first, and then to the wrong side.
    form = FORMATS[element_type]
    significand = data.draw(st.integers(2 ** (form.precision - 1), 2**form.precision - 1))
    exponent = data.draw(st.integers(max(form.smallest, -900), min(form.largest, 900)))
    middle = float(Fraction(2 * significand + 1, 2**form.precision) * Fraction(2) ** exponent)
    for jump in (math.nextafter(middle, 0), middle, math.nextafter(middle, math.inf)):
        agrees(jump, element_type)


@EACH_TYPE
@given(data=st.data())
def test_small_jumps_are_rounded_to_subnormal_numbers_correctly(element_type: int, data: st.DataObject) -> None:
    form = FORMATS[element_type]
    quantum = Fraction(2) ** (form.smallest - form.precision + 1)
    jump = float(quantum * Fraction(data.draw(st.integers(0, 4096)), 256))
    for near in (math.nextafter(jump, 0), jump, math.nextafter(jump, math.inf)):
        agrees(near, element_type)


@EACH_TYPE
def test_the_largest_value_is_reached_and_what_rounds_to_infinity_is_refused(element_type: int) -> None:
    form = FORMATS[element_type]
    assert Fraction(round_jump(float(form.maximum), element_type)) == form.maximum
    if element_type == DOUBLE:
        return  # nothing is larger but infinity
    middle = float(form.maximum + Fraction(2) ** (form.largest - form.precision))
    agrees(float(form.maximum) + (middle - float(form.maximum)) / 2, element_type)
    agrees(middle, element_type)
    agrees(math.nextafter(middle, math.inf), element_type)


@pytest.mark.parametrize(
    "element_type",
    [
        FLOAT16,
        FLOAT,
        BFLOAT16,
    ],
    ids=type_id,
)
def test_what_lies_just_below_the_middle_of_the_largest_value_and_infinity_is_the_largest(element_type: int) -> None:
    form = FORMATS[element_type]
    middle = float(form.maximum + Fraction(2) ** (form.largest - form.precision))
    agrees(math.nextafter(middle, 0), element_type)


@EACH_TYPE
@pytest.mark.parametrize("jump", [-1.0, -5e-324, math.nan, math.inf, -math.inf])
def test_what_is_not_a_finite_number_of_at_least_zero_is_refused(jump: float, element_type: int) -> None:
    with pytest.raises(OptionError, match="must be a finite number >= 0"):
        round_jump(jump, element_type)


@EACH_TYPE
def test_negative_zero_becomes_zero(element_type: int) -> None:
    assert math.copysign(1, round_jump(-0.0, element_type)) == 1


def test_element_types_have_the_names_that_onnx_gives_them() -> None:
    assert [type_name(t) for t in (FLOAT16, BFLOAT16, FLOAT, DOUBLE)] == ["float16", "bfloat16", "float", "double"]
    assert type_name(onnx.TensorProto.INT32) == "int32"
    assert type_name(12345) == "element type 12345"


def test_the_numpy_types_are_those_of_onnx() -> None:
    for element_type, dtype in NUMPY_TYPES.items():
        assert onnx.helper.tensor_dtype_to_np_dtype(element_type) == dtype
    assert NUMPY_TYPES[FLOAT] == np.float32


@given(st.floats(0, 60000), st.sampled_from(ELEMENT_TYPES))
def test_a_jump_is_shown_as_the_shortest_decimal_that_gives_it_back(jump: float, element_type: int) -> None:
    rounded = round_jump(jump, element_type)
    text = jump_text(rounded, type_name(element_type))
    assert round_jump(float(text), element_type) == rounded
    digits = len(text.partition("e")[0].replace(".", "").strip("0"))
    fewer = (float(f"{rounded:.{number}g}") for number in range(1, digits))
    assert all(round_jump(short, element_type) != rounded for short in fewer)


@pytest.mark.parametrize(
    ("jump", "element_type", "text"),
    [
        (float(np.float32(0.3)), "float", "0.3"),
        (float(np.float16(0.3)), "float16", "0.3"),
        (0.30078125, "bfloat16", "0.3"),
        (0.1 + 0.2, "double", "0.30000000000000004"),
        (65504.0, "float16", "65500"),
        (20.0, "float", "20"),
        (0.0, "float", "0"),
        (1 / 3, "", "0.3333333333333333"),
        (math.nan, "float", "nan"),
        (-0.5, "float", "-0.5"),
        ((float(np.float32(0.1)), 2.0), "float", "0.1 to 2 (2 channels)"),
    ],
)
def test_how_jumps_are_shown(jump: float, element_type: str, text: str) -> None:
    assert jump_text(jump, element_type) == text
