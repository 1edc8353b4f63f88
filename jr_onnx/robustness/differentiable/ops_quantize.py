"""Quantization in the QuantizeLinear/DequantizeLinear form. Rounding passes the gradient straight through."""

from __future__ import annotations

import torch
from torch import Tensor

from jr_onnx.robustness.differentiable.operators import Call, Operators


def _along(call: Call, x: Tensor, values: Tensor) -> Tensor:
    """A scale or zero point in a shape that broadcasts: one for all, one an index of an axis, or one a block."""
    if values.dim() == 0 or values.numel() == 1:
        return values.reshape(())
    axis = call.get("axis", 1)
    if call.get("block_size", 0):
        return values.repeat_interleave(call.get("block_size"), axis).narrow(axis, 0, x.shape[axis])
    shape = [1] * x.dim()
    shape[axis] = -1
    return values.reshape(shape)


def _quantize(call: Call, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """The integers, in floating point so that a gradient can pass; it does where x is in range (arXiv 1308.3432).

    Integers of less than 8 bits have become 8 bits wide here, so what should be clipped at theirs is not; comparing
    with onnxruntime (`check_parity`) finds that.
    """
    zero = torch.zeros((), dtype=torch.uint8, device=x.device) if zero is None else zero
    if zero.is_floating_point() or call.get("output_dtype", 0):
        raise call.unsupported("an output that is not of the zero point's type, or is no integer")
    limits = torch.iinfo(zero.dtype)
    exact = x / _along(call, x, scale)
    rounded = exact + (torch.round(exact) - exact).detach()
    return torch.clamp(rounded + _along(call, x, zero).to(x.dtype), limits.min, limits.max)


def _dequantize(call: Call, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    wide = x.to(call.dtype)
    if zero is not None:
        wide = wide - _along(call, x, zero).to(call.dtype)
    return wide * _along(call, x, scale)


QUANTIZATION: Operators = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
