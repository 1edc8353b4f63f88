"""JumpReLU for torch: the forward of the definition, and the backward that was asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from jr_onnx.robustness.gradients.backward import Backward


def jump_relu(x: torch.Tensor, jump: torch.Tensor, backward: Backward) -> torch.Tensor:
    """0 where `x <= jump`, `x` elsewhere, NaN included.

    Args:
        x: any shape.
        jump: of the dtype of `x`; broadcasts to its shape.
        backward: what the gradient with respect to `x` is taken to be; there is none with respect to the jump.
    """
    return _JumpRelu.apply(x, jump, backward)  # type: ignore[no-any-return, no-untyped-call]


class _JumpRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, jump: torch.Tensor, backward: Backward) -> torch.Tensor:
        ctx.save_for_backward(x, jump)
        ctx.kind = backward
        return torch.where(x <= jump, torch.zeros((), dtype=x.dtype, device=x.device), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        x, jump = ctx.saved_tensors
        return _through(gradient, x, jump, ctx.kind), None, None


def _through(gradient: torch.Tensor, x: torch.Tensor, jump: torch.Tensor, backward: Backward) -> torch.Tensor:
    """The gradient with respect to `x`; exactly 0 where the derivative is, whatever comes from behind."""
    none = torch.zeros((), dtype=x.dtype, device=x.device)
    if backward.kind == "relu":
        return torch.where(x > 0, gradient, none)
    exact = torch.where(x > jump, gradient, none)
    if backward.kind == "true":
        return exact
    width = jump * backward.temperature
    gate = torch.sigmoid((x - jump) / width)  # NaN only where the width is 0, which the last line leaves out
    return torch.where(width > 0, gradient * (gate + x * gate * (1 - gate) / width), exact)
