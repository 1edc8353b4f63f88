"""Values that are stored as integers: what an integer stands for, and the threshold that a jump is among them.

As DequantizeLinear computes it, an integer q stands for float32((q - zero point) * scale), which grows with q where the
scale is above 0. So JumpReLU of what it stands for is a comparison of integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

#: ONNX `TensorProto.DataType` -> NumPy dtype, for every T of QuantizedJumpReLU.
INTEGER_TYPES: dict[int, np.dtype[Any]] = {
    int(onnx.TensorProto.UINT8): np.dtype(np.uint8),
    int(onnx.TensorProto.INT8): np.dtype(np.int8),
    int(onnx.TensorProto.UINT16): np.dtype(np.uint16),
    int(onnx.TensorProto.INT16): np.dtype(np.int16),
}


@dataclass(frozen=True)
class Quantization:
    """How one value is quantized.

    Attributes:
        element_type: `TensorProto.DataType` of the integers.
        scale: a float32.
        zero_point: the integer that stands for 0.
        scale_name: the value that holds the scale.
        zero_point_name: the value that holds the zero point; empty where there is none.
        domain: of a QuantizeLinear that can quantize so.
        by_quantizer: whether QuantizeLinear gives the value, and not an operator on integers.
        convolved: whether it comes from a convolution, so that onnxruntime computes it with channels last.
    """

    element_type: int
    scale: float
    zero_point: int
    scale_name: str
    zero_point_name: str
    domain: str
    by_quantizer: bool = False
    convolved: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        return INTEGER_TYPES[self.element_type]

    @property
    def starts_at_zero(self) -> bool:
        """Whether no integer stands for a negative number."""
        return self.zero_point == int(np.iinfo(self.dtype).min)

    def threshold(self, jump: float) -> int:
        """The largest integer that stands for a number up to the jump, which is rounded to float32 already."""
        levels = _levels(self.dtype, self.scale, self.zero_point)
        return int(np.iinfo(self.dtype).min) + int(np.searchsorted(levels, np.float32(jump), side="right")) - 1

    def dequantized(self, integers: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """What integers stand for."""
        return _dequantized(integers, self.scale, self.zero_point)

    def problem(self) -> str:
        """Why integers are not compared in place of what they stand for; empty if they can be."""
        if not np.finfo(np.float32).tiny <= self.scale < np.inf:
            return f"its scale is {self.scale:g}, and must be a normal float32 above 0"
        if not np.isfinite(self.dequantized(np.iinfo(self.dtype).max)):
            return f"with its scale, {self.scale:g}, some integers stand for infinity"
        return ""


def _dequantized(integers: npt.ArrayLike, scale: float, zero_point: int) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        steps = (np.asarray(integers).astype(np.int64) - zero_point).astype(np.float32)
        return np.asarray(steps * np.float32(scale), np.float32)


@lru_cache(maxsize=256)
def _levels(dtype: np.dtype[Any], scale: float, zero_point: int) -> npt.NDArray[np.float32]:
    """What each integer of a type stands for, in order."""
    limits = np.iinfo(dtype)
    return _dequantized(np.arange(limits.min, int(limits.max) + 1), scale, zero_point)
