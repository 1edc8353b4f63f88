"""JumpReLU in NumPy: the definitions against which every lowering and every kernel is tested, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def jump_relu(x: npt.ArrayLike, jump: npt.ArrayLike) -> npt.NDArray[Any]:
    """0 where `x <= jump`, `x` elsewhere (Erichson, Yao, Mahoney, arXiv 1904.03750).

    NaN goes through, because a comparison with NaN is false. The zeros that are put in are +0.

    Args:
        x: any shape; float16, bfloat16, float32 or float64.
        jump: a scalar or a tensor that broadcasts to the shape of `x` (ONNX PRelu's convention for its slope; one
            jump a channel of an NCHW tensor has the shape [C, 1, 1]). It is converted to the dtype of `x` first; to
            round a Python float once, and to nearest, pass the result of `jr_onnx.conversion.element_types.round_jump`.

    Returns:
        An array with the shape and the dtype of `x`.

    Raises:
        ValueError: `jump` does not broadcast to the shape of `x`.
    """
    values = np.asarray(x)
    threshold = np.broadcast_to(np.asarray(jump).astype(values.dtype), values.shape)
    with np.errstate(invalid="ignore"):  # NumPy reports the comparison with a NaN of some types
        return np.where(values <= threshold, values.dtype.type(0), values)


def quantized_jump_relu(q: npt.ArrayLike, threshold: npt.ArrayLike, zero_point: npt.ArrayLike) -> npt.NDArray[Any]:
    """`zero_point` where `q <= threshold`, `q` elsewhere: JumpReLU of the values that `q` stands for.

    An integer q stands for float32((q - zero_point) * scale), which grows with q. With the largest integer whose value
    is at most the jump as `threshold`, the dequantized result is JumpReLU of the dequantized `q`, bit for bit.

    Args:
        q: any shape; uint8, int8, uint16 or int16.
        threshold: a scalar or a tensor that broadcasts to the shape of `q`, as the jump of `jump_relu`; in the dtype
            of `q`.
        zero_point: likewise.

    Returns:
        An array with the shape and the dtype of `q`.

    Raises:
        ValueError: `threshold` or `zero_point` does not broadcast to the shape of `q`.
    """
    values = np.asarray(q)
    limit = np.broadcast_to(np.asarray(threshold, values.dtype), values.shape)
    zero = np.broadcast_to(np.asarray(zero_point, values.dtype), values.shape)
    return np.where(values <= limit, zero, values)
