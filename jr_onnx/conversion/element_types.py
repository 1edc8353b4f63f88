"""The four element types of JumpReLU, and the one place where a jump is rounded to one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.errors import OptionError

FLOAT, FLOAT16, DOUBLE, BFLOAT16 = (
    int(onnx.TensorProto.FLOAT),
    int(onnx.TensorProto.FLOAT16),
    int(onnx.TensorProto.DOUBLE),
    int(onnx.TensorProto.BFLOAT16),
)

#: ONNX `TensorProto.DataType` -> NumPy dtype, for every T of JumpReLU.
NUMPY_TYPES: Mapping[int, np.dtype[Any]] = {
    FLOAT: np.dtype(np.float32),
    FLOAT16: np.dtype(np.float16),
    DOUBLE: np.dtype(np.float64),
    BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}


def type_name(element_type: int) -> str:
    """The ONNX name of an element type in lower case ("float16"), or its number where ONNX has no name for it."""
    try:
        return str(onnx.TensorProto.DataType.Name(element_type)).lower()
    except ValueError:
        return f"element type {element_type}"


@cache
def round_jump(jump: float, element_type: int) -> float:
    """`jump` rounded once, to nearest even, to an element type, and given back as a Python float.

    A conversion by way of another type would round twice (float64 -> float32 -> bfloat16), so the nearest of the
    neighbouring values is chosen by exact arithmetic.

    Raises:
        OptionError: the jump is negative, NaN or infinite, or is not finite in the element type.
    """
    if not math.isfinite(jump) or jump < 0:
        raise OptionError(f"jump {jump!r} must be a finite number >= 0")
    dtype = NUMPY_TYPES[element_type]
    exact = Fraction(jump)
    largest = ml_dtypes.finfo(dtype).max  # type: ignore[no-untyped-call]
    with np.errstate(over="ignore"):
        guess = np.minimum(np.asarray(jump, np.float64).astype(dtype), largest)
        around = [np.nextafter(guess, dtype.type(0)), guess, np.nextafter(guess, dtype.type(np.inf))]
    # From half a step above the largest value on, rounding to nearest gives infinity.
    step = Fraction(float(largest)) - Fraction(float(np.nextafter(largest, dtype.type(0))))
    if exact >= Fraction(float(largest)) + step / 2:
        raise OptionError(f"jump {jump!r} is too large for {type_name(element_type)}; choose a smaller jump")
    finite = [value for value in around if np.isfinite(value)]
    best = min(finite, key=lambda value: (abs(Fraction(float(value)) - exact), _is_odd(value)))
    return abs(float(best))


def _is_odd(value: npt.NDArray[Any]) -> bool:
    return bool(np.asarray(value).tobytes()[0] & 1)
