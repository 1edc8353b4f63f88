"""Resize and Upsample: along each axis, a matrix that says what every output element takes from the inputs.

Source: ONNX operator Resize, with its reference implementation's treatment of edges.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jr_onnx.robustness.differentiable.operators import Call, Operators, ints


def _resize(
    call: Call,
    x: Tensor,
    roi_or_scales: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    if call.opset < 11:
        scales = roi_or_scales
    if call.get("antialias", 0) or call.get("exclude_outside", 0):
        raise call.unsupported("antialias or exclude_outside")
    axes = [axis % x.dim() for axis in call.get("axes") or range(x.dim())]
    coordinates = "half_pixel" if call.opset >= 11 else "asymmetric"
    return _resample(call, x, axes, *_sizes(call, x, axes, scales, sizes), coordinates)


def _upsample(call: Call, x: Tensor, scales: Tensor | None = None) -> Tensor:
    factors = call.get("scales") if scales is None else scales.tolist()
    lengths = [math.floor(length * factor) for length, factor in zip(x.shape, factors, strict=True)]
    return _resample(call, x, list(range(x.dim())), lengths, factors, "asymmetric")


def _sizes(
    call: Call, x: Tensor, axes: list[int], scales: Tensor | None, sizes: Tensor | None
) -> tuple[list[int], list[float]]:
    """The new length and the factor of each axis."""
    old = [x.shape[axis] for axis in axes]
    if sizes is None or not sizes.numel():
        if scales is None:
            raise call.unsupported("neither scales nor sizes")
        factors = [float(factor) for factor in scales.tolist()]
        return [math.floor(length * factor) for length, factor in zip(old, factors, strict=True)], factors
    goal = ints(sizes)
    policy = call.get("keep_aspect_ratio_policy", "stretch")
    ratios = [new / length for new, length in zip(goal, old, strict=True)]
    if policy == "stretch":
        return goal, ratios
    factor = min(ratios) if policy == "not_larger" else max(ratios)
    return [math.floor(length * factor + 0.5) for length in old], [factor] * len(old)


def _resample(
    call: Call, x: Tensor, axes: list[int], lengths: list[int], factors: list[float], coordinates: str
) -> Tensor:
    mode = call.get("mode", "nearest")
    for axis, length, factor in zip(axes, lengths, factors, strict=True):
        if length == x.shape[axis] and factor == 1:
            continue
        places = _places(call, call.get("coordinate_transformation_mode", coordinates), x.shape[axis], length, factor)
        if mode == "nearest":
            x = x.index_select(axis, _nearest(call, places, x.shape[axis]).to(x.device))
        else:
            weights = _weights(call, mode, places, x.shape[axis]).to(x)
            x = torch.movedim(torch.movedim(x, axis, -1) @ weights.t(), -1, axis)
    return x


def _places(call: Call, mode: str, old: int, new: int, factor: float) -> Tensor:
    """Where each output element lies among the inputs, float64."""
    index = torch.arange(new, dtype=torch.float64)
    if mode == "asymmetric":
        return index / factor
    if mode == "align_corners":
        return index * (old - 1) / (new - 1) if new > 1 else index * 0
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return (index + 0.5) / factor - 0.5 if new > 1 or mode == "half_pixel" else index * 0
    if mode == "half_pixel_symmetric":
        whole = factor * old
        return old / 2 * (1 - new / whole) + (index + 0.5) / factor - 0.5
    raise call.unsupported(f"coordinate_transformation_mode '{mode}'")


def _nearest(call: Call, places: Tensor, old: int) -> Tensor:
    mode = call.get("nearest_mode", "round_prefer_floor" if call.opset >= 11 else "floor")
    rounded = {
        "round_prefer_floor": torch.ceil(places - 0.5),
        "round_prefer_ceil": torch.floor(places + 0.5),
        "floor": torch.floor(places),
        "ceil": torch.ceil(places),
    }[mode]
    return rounded.clamp(0, old - 1).to(torch.int64)


def _weights(call: Call, mode: str, places: Tensor, old: int) -> Tensor:
    """[new, old] float64; elements beyond an edge are that of the edge."""
    if mode == "linear":
        taps = [0, 1]
    elif mode == "cubic":
        taps = [-1, 0, 1, 2]
    else:
        raise call.unsupported(f"mode '{mode}'")
    floor = torch.floor(places)
    weights = torch.zeros(len(places), old, dtype=torch.float64)
    for tap in taps:
        distance = (places - floor - tap).abs()
        share = 1 - distance if mode == "linear" else _cubic(distance, call.get("cubic_coeff_a", -0.75))
        column = (floor + tap).clamp(0, old - 1).to(torch.int64)
        weights.scatter_add_(1, column[:, None], share[:, None])
    return weights


def _cubic(distance: Tensor, a: float) -> Tensor:
    """The kernel of cubic convolution (Keys, 1981)."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, far)


RESIZING: Operators = {"Resize": _resize, "Upsample": _upsample}
