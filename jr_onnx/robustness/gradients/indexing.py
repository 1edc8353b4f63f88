"""Slice with a step, and Pad that copies or crops, as Gather: onnx-ad has no gradients of these."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.conversion.graph.names import PREFIX
from jr_onnx.conversion.graph.wiring import Wiring, constant_value
from jr_onnx.robustness.gradients.fragments import set_nodes

Indices = npt.NDArray[np.int64]


def write_gathers(graph: onnx.GraphProto, wiring: Wiring, shapes: dict[str, list[int]]) -> None:
    """Put a Gather for each axis in place of such nodes, where their numbers and the sizes of the axes are known.

    Args:
        wiring: of the graph as it is before.
        shapes: value -> its shape, with 0 for what is not known.
    """
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        shape = shapes.get(node.input[0], []) if node.op_type in ("Slice", "Pad") else []
        if shape and all(shape):
            numbers = [constant_value(wiring, name) if name else None for name in node.input[1:]]
            write: Callable[..., list[onnx.NodeProto]] = _write_slice if node.op_type == "Slice" else _write_pad
            nodes.extend(write(graph, node, shape, *numbers))
        else:
            nodes.append(node)
    set_nodes(graph, nodes)


def _write_slice(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    shape: list[int],
    starts: Indices | None,
    ends: Indices | None,
    axes: Indices | None = None,
    steps: Indices | None = None,
) -> list[onnx.NodeProto]:
    if starts is None or ends is None or steps is None or (steps == 1).all():
        return [node]
    along = np.arange(len(starts)) if axes is None else axes % len(shape)
    left = {
        int(axis): _span(int(start), int(end), int(step), shape[axis])
        for start, end, axis, step in zip(starts, ends, along, steps, strict=True)
    }
    return _gathers(graph, node.input[0], node.output[0], left)


def _span(start: int, end: int, step: int, length: int) -> Indices:
    """The indices that a slice leaves; ONNX cuts its ends to the axis otherwise than Python does."""
    start, end = (place + length if place < 0 else place for place in (start, end))
    if step > 0:
        return np.arange(min(max(start, 0), length), min(max(end, 0), length), step, dtype=np.int64)
    return np.arange(min(max(start, 0), length - 1), min(max(end, -1), length - 1), step, dtype=np.int64)


def _write_pad(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    shape: list[int],
    pads: Indices | None,
    _: object = None,
    axes: Indices | None = None,
) -> list[onnx.NodeProto]:
    mode = next((entry.s.decode() for entry in node.attribute if entry.name == "mode"), "constant")
    if pads is None or (mode == "constant" and (pads >= 0).all()):
        return [node]
    gathered = np.minimum(pads, 0) if mode == "constant" else pads
    along = np.arange(len(shape)) if axes is None else axes % len(shape)
    places = {
        int(axis): _border(mode, shape[axis], int(before), int(after))
        for axis, before, after in zip(along, gathered[: len(along)], gathered[len(along) :], strict=True)
    }
    if mode != "constant":
        return _gathers(graph, node.input[0], node.output[0], places)
    cropped = f"{PREFIX}indexed.{node.output[0]}"
    gathers = _gathers(graph, node.input[0], cropped, places)
    graph.initializer.append(onnx.numpy_helper.from_array(np.maximum(pads, 0), f"{cropped}/pads"))
    node.input[:] = [cropped, f"{cropped}/pads", *node.input[2:]]
    return [*gathers, node]


def _border(mode: str, length: int, before: int, after: int) -> Indices:
    """The indices of the elements that stand at each place of an axis with copies of its own elements around it."""
    places = np.arange(-before, length + after, dtype=np.int64)
    if mode == "edge":
        return np.clip(places, 0, length - 1)
    if mode == "reflect":
        return (length - 1) - np.abs(places % max(2 * (length - 1), 1) - (length - 1))
    return places % length


def _gathers(graph: onnx.GraphProto, value: str, output: str, axes: dict[int, Indices]) -> list[onnx.NodeProto]:
    gathers: list[onnx.NodeProto] = []
    for number, (axis, indices) in enumerate(axes.items(), 1):
        name = f"{PREFIX}indexed.{output}/{axis}"
        graph.initializer.append(onnx.numpy_helper.from_array(indices, name))
        after = output if number == len(axes) else f"{name}/values"
        gathers.append(onnx.helper.make_node("Gather", [value, name], [after], axis=axis))
        value = after
    return gathers
