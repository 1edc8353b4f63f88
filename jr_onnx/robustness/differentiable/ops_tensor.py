"""Shapes, indexing and padding: operators that move values and change none."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from jr_onnx.robustness.differentiable.operators import Call, Operators, ints


def _reshape(call: Call, x: Tensor, shape: Tensor) -> Tensor:
    """0 copies the dimension of the input, unless allowzero says that it is a dimension of no length."""
    wanted = ints(shape)
    if not call.get("allowzero", 0):
        wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return torch.reshape(x, tuple(wanted))


def _flatten(call: Call, x: Tensor) -> Tensor:
    axis = call.get("axis", 1)
    axis += x.dim() if axis < 0 else 0
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _transpose(call: Call, x: Tensor) -> Tensor:
    return x.permute(call.get("perm") or list(reversed(range(x.dim()))))


def _squeeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = call.axes(axes)
    return x.squeeze() if chosen is None else x.squeeze([axis % x.dim() for axis in chosen])


def _unsqueeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = call.axes(axes) or []
    rank = x.dim() + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def _concat(call: Call, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, call.get("axis", 1))


def _split(call: Call, x: Tensor, split: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = call.get("axis", 0)
    sizes = call.get("split") if split is None else ints(split)
    if sizes is None:
        number = call.get("num_outputs", call.outputs)
        length = math.ceil(x.shape[axis] / number)
        sizes = [length] * (number - 1) + [x.shape[axis] - length * (number - 1)]
    return torch.split(x, sizes, axis)


def _slice(
    call: Call,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first = call.get("starts") if starts is None else ints(starts)
    last = call.get("ends") if ends is None else ints(ends)
    along = call.axes(axes) or list(range(len(first)))
    by = [1] * len(first) if steps is None else ints(steps)
    for start, end, axis, step in zip(first, last, along, by, strict=True):
        chosen = _span(start, end, step, x.shape[axis])
        if step == 1:
            x = x.narrow(axis, chosen.start, len(chosen))
        else:
            x = x.index_select(axis, torch.tensor(chosen, dtype=torch.int64, device=x.device))
    return x


def _span(start: int, end: int, step: int, length: int) -> range:
    """The elements of a slice; its ends are cut to the axis in ONNX's way, not in Python's."""
    start, end = (place + length if place < 0 else place for place in (start, end))
    if step > 0:
        return range(min(max(start, 0), length), min(max(end, 0), length), step)
    return range(min(max(start, 0), length - 1), min(max(end, -1), length - 1), step)


def _wrapped(indices: Tensor, length: int) -> Tensor:
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + length, indices)


def _gather(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis = call.get("axis", 0) % x.dim()
    chosen = x.index_select(axis, _wrapped(indices, x.shape[axis]).reshape(-1))
    return chosen.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _gather_elements(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis = call.get("axis", 0)
    return torch.gather(x, axis, _wrapped(indices, x.shape[axis]))


def _gather_nd(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    batch = call.get("batch_dims", 0)
    outer = torch.meshgrid(*(torch.arange(n, device=x.device) for n in x.shape[:batch]), indexing="ij") if batch else ()
    inner = indices.dim() - 1 - batch
    before = tuple(index.reshape((*index.shape, *[1] * inner)) for index in outer)
    return x[(*before, *indices.to(torch.int64).unbind(-1))]


def _scatter_elements(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis, reduction = call.get("axis", 0), call.get("reduction", "none")
    where = _wrapped(indices, x.shape[axis])
    if reduction == "none":
        return torch.scatter(x, axis, where, updates)
    names = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    return torch.scatter_reduce(x, axis, where, updates, names[reduction])


def _scatter_nd(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    reduction = call.get("reduction", "none")
    if reduction not in ("none", "add"):
        raise call.unsupported(f"reduction '{reduction}'")
    return x.index_put(indices.to(torch.int64).unbind(-1), updates, accumulate=reduction == "add")


def _expand(_call: Call, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(ints(shape))))  # type: ignore[no-untyped-call]


def _tile(_call: Call, x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(ints(repeats))


def _pad(
    call: Call, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    widths = call.get("pads") if pads is None else ints(pads)
    fill = call.get("value", 0.0) if value is None else value.item()
    along = [axis % x.dim() for axis in call.axes(axes) or range(x.dim())]
    before, after = widths[: len(along)], widths[len(along) :]
    mode = call.get("mode", "constant")
    if mode == "constant":
        sides = [(0, 0)] * x.dim()
        for axis, low, high in zip(along, before, after, strict=True):
            sides[axis] = (low, high)
        # torch wants the last axis first
        return functional.pad(x, [width for side in reversed(sides) for width in side], value=fill)
    for axis, low, high in zip(along, before, after, strict=True):
        x = x.index_select(axis, _border(call, mode, x.shape[axis], low, high, x.device))
    return x


def _border(call: Call, mode: str, length: int, low: int, high: int, device: torch.device) -> Tensor:
    """Which element stands at each place of an axis that is padded with copies of its own elements."""
    places = torch.arange(-low, length + high, device=device)
    if mode == "edge":
        return places.clamp(0, length - 1)
    if mode == "wrap":
        return places % length
    if mode == "reflect":
        period = max(2 * (length - 1), 1)
        return (length - 1) - ((places % period) - (length - 1)).abs()
    raise call.unsupported(f"mode '{mode}'")


def _shape(call: Call, x: Tensor) -> Tensor:
    shape = list(x.shape)[slice(call.get("start", 0), call.get("end"))]
    return torch.tensor(shape, dtype=torch.int64, device=x.device)


def _size(_call: Call, x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64, device=x.device)


def _constant(call: Call) -> Tensor:
    for name, dtype in (("value_float", call.dtype), ("value_floats", call.dtype), ("value_int", torch.int64)):
        if name in call.attributes:
            return torch.tensor(call.get(name), dtype=dtype)
    if "value_ints" in call.attributes:
        return torch.tensor(call.get("value_ints"), dtype=torch.int64)
    if "value" not in call.attributes:
        raise call.unsupported("a value that is no dense tensor of numbers")
    value: Tensor = call.get("value")
    return value


def _constant_of_shape(call: Call, shape: Tensor) -> Tensor:
    value = call.get("value")
    fill = torch.zeros(1, dtype=call.dtype) if value is None else value
    return torch.full(ints(shape), fill.item(), dtype=fill.dtype, device=shape.device)


def _range(_call: Call, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    count = max(math.ceil((limit.item() - start.item()) / delta.item()), 0)
    return start + torch.arange(count, device=start.device).to(start.dtype) * delta


def _one_hot(call: Call, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    number = int(depth)
    axis = call.get("axis", -1)
    wanted = _wrapped(indices, number).unsqueeze(axis)
    shape = [1] * wanted.dim()
    shape[axis] = number
    hot = wanted == torch.arange(number, device=indices.device).reshape(shape)
    return torch.where(hot, values[1], values[0])


def _trilu(call: Call, x: Tensor, k: Tensor | None = None) -> Tensor:
    function = torch.triu if call.get("upper", 1) else torch.tril
    return function(x, 0 if k is None else int(k))


def _depth_to_space(call: Call, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = call.get("blocksize")
    if call.get("mode", "DCR") == "DCR":
        parts = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(call: Call, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = call.get("blocksize")
    order = (0, 3, 5, 1, 2, 4) if call.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return x.reshape(n, c, h // b, b, w // b, b).permute(order).reshape(n, c * b * b, h // b, w // b)


def _dropout(
    call: Call, x: Tensor, _ratio: Tensor | None = None, training: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    if training is not None and bool(training):
        raise call.unsupported("training mode")
    return x, torch.ones_like(x, dtype=torch.bool)


TENSORS: Operators = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "Shape": _shape,
    "Size": _size,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "NonZero": lambda _call, x: torch.nonzero(x).t(),
    "OneHot": _one_hot,
    "Trilu": _trilu,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Identity": lambda _call, x: x,
    "Dropout": _dropout,
}
