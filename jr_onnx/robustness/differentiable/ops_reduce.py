"""Reductions over axes, and what else looks along an axis."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from jr_onnx.robustness.differentiable.operators import Call, Operator, Operators


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    """A reduction: its axes are an attribute or an input, and no axes are all of them, or none if it says so."""

    def reduce(call: Call, x: Tensor, given: Tensor | None = None) -> Tensor:
        axes = call.axes(given)
        if not axes and call.get("noop_with_empty_axes", 0):
            return function(x.unsqueeze(0), [0], False)
        return function(x, axes or list(range(x.dim())), bool(call.get("keepdims", 1)))

    return reduce


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep, dtype=x.dtype)
    return x


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sum(x, axes, keepdim=keep, dtype=x.dtype) if axes else x


def _arg(best: Callable[..., Tensor]) -> Operator:
    def find(call: Call, x: Tensor) -> Tensor:
        axis, keep = int(call.get("axis", 0)), bool(call.get("keepdims", 1))
        if call.get("select_last_index", 0):
            return x.shape[axis] - 1 - best(x.flip(axis), axis, keepdim=keep)
        return best(x, axis, keepdim=keep)

    return find


def _softmax(function: Callable[..., Tensor]) -> Operator:
    """Along one axis from opset 13 on; before, over all axes from that one on taken as one."""

    def apply(call: Call, x: Tensor) -> Tensor:
        if call.opset >= 13:
            return function(x, call.get("axis", -1))
        axis = call.get("axis", 1) % max(x.dim(), 1)
        return function(x.flatten(axis), axis).reshape(x.shape)

    return apply


def _cumsum(call: Call, x: Tensor, axis: Tensor) -> Tensor:
    along = int(axis)
    turned = x.flip(along) if call.get("reverse", 0) else x
    total = torch.cumsum(turned, along, dtype=x.dtype)
    if call.get("exclusive", 0):
        total = total - turned
    return total.flip(along) if call.get("reverse", 0) else total


def _top_k(call: Call, x: Tensor, k: Tensor | None = None) -> tuple[Tensor, ...]:
    number = call.get("k") if k is None else int(k)
    axis = call.get("axis", -1)
    values, indices = torch.sort(
        x, stable=True, dim=axis, descending=bool(call.get("largest", 1))
    )  # of equals the first one first
    return values.narrow(axis, 0, number), indices.narrow(axis, 0, number)


def _lp_normalization(call: Call, x: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(x, call.get("p", 2), dim=call.get("axis", -1), keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


REDUCTIONS: Operators = {
    "ReduceSum": _reduction(_sum),
    "ReduceMean": _reduction(lambda x, axes, keep: torch.mean(x, axes, keepdim=keep)),
    "ReduceMax": _reduction(lambda x, axes, keep: torch.amax(x, axes, keepdim=keep)),
    "ReduceMin": _reduction(lambda x, axes, keep: torch.amin(x, axes, keepdim=keep)),
    "ReduceProd": _reduction(_prod),
    "ReduceL1": _reduction(lambda x, axes, keep: _sum(x.abs(), axes, keep)),
    "ReduceL2": _reduction(lambda x, axes, keep: torch.linalg.vector_norm(x, dim=axes, keepdim=keep)),
    "ReduceLogSum": _reduction(lambda x, axes, keep: _sum(x, axes, keep).log()),
    "ReduceLogSumExp": _reduction(lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep)),
    "ReduceSumSquare": _reduction(lambda x, axes, keep: _sum(x * x, axes, keep)),
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "CumSum": _cumsum,
    "TopK": _top_k,
    "LpNormalization": _lp_normalization,
}
