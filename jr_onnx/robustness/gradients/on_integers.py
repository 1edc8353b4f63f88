"""Operators on integers as DequantizeLinear, the same operator on numbers, and QuantizeLinear (QDQ)."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from jr_onnx.conversion.forms.quantized import MICROSOFT
from jr_onnx.conversion.graph.names import PREFIX
from jr_onnx.conversion.graph.scopes import own_domain
from jr_onnx.conversion.sites.quantized import QLINEAR, QLinear
from jr_onnx.robustness.gradients.errors import NoGradientError
from jr_onnx.robustness.gradients.fragments import set_nodes

#: Where the bias is, an int32 whose scale is the product of the others, and the axis of what has a scale a channel.
_BIAS = {"Conv": 8, "Gemm": 6}
_CHANNELS = {"Conv": 0, "Gemm": 1, "MatMul": 1}

#: What quantize_dynamic writes.
_DYNAMIC = {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}


def write_qdq(graph: onnx.GraphProto) -> None:
    """Write every operator on integers so, and com.microsoft's QuantizeLinear and DequantizeLinear as ONNX's own.

    Raises:
        NoGradientError: one has its channels last, or is a QLinearReduceMean.
    """
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        domain = own_domain(node.domain)
        kind = QLINEAR.get((domain, node.op_type))
        if kind is not None:
            nodes.extend(_qdq(node, kind))
            continue
        if not domain and node.op_type in _DYNAMIC:
            nodes.extend(_dynamic(graph, node))
            continue
        if domain == MICROSOFT and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = ""
        nodes.append(node)
    set_nodes(graph, nodes)


def _dynamic(graph: onnx.GraphProto, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """What is quantized when the model runs: with the scale of the moment, whole numbers less their zero points."""
    make, prefix, names = onnx.helper.make_node, f"{PREFIX}on_integers.{node.output[0]}/", [*node.input, "", ""]
    if node.op_type == "DynamicQuantizeLinear":
        yield make(node.op_type, node.input, [f"{prefix}q", *node.output[1:]])
        yield make("QuantizeLinear", [names[0], *node.output[1:]], node.output[:1])
        return
    graph.initializer.append(onnx.helper.make_tensor(f"{prefix}one", onnx.TensorProto.FLOAT, [], [1.0]))
    op_type = node.op_type.removesuffix("Integer")
    for place in (0, 1):
        given = [names[place], f"{prefix}one", names[place + 2]]
        yield make("DequantizeLinear", given, [f"{prefix}{place}"], axis=_CHANNELS[op_type] if place else 1)
    made = make(op_type, [f"{prefix}0", f"{prefix}1"], node.output)
    made.attribute.extend(node.attribute)
    yield made


def _qdq(node: onnx.NodeProto, kind: QLinear) -> Iterator[onnx.NodeProto]:
    op_type = node.op_type.removeprefix("Q").removeprefix("Linear")
    given = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    if given.pop("channels_last", 0) or op_type == "ReduceMean":
        raise NoGradientError(f"nothing is known of {node.op_type}, or not with channels last")
    make, prefix, names = onnx.helper.make_node, f"{PREFIX}on_integers.{node.output[0]}/", [*node.input]
    axis = 0 if op_type == "Gemm" and given.get("transB") else _CHANNELS.get(op_type, 1)
    numbers = []
    for place in kind.values(len(names)) or (0, 3):
        numbers.append(f"{prefix}{place}")
        yield make("DequantizeLinear", names[place : place + 3], numbers[-1:], axis=axis)
    bias = _BIAS.get(op_type, len(names))
    if bias < len(names) and names[bias]:
        numbers.append(f"{prefix}bias")
        yield make("Mul", [names[1], names[4]], [f"{prefix}scale"])
        yield make("DequantizeLinear", [names[bias], f"{prefix}scale"], numbers[-1:], axis=-1)
    if op_type == "Gemm":
        given["beta"] = given.get("alpha", 1.0)  # it is added before the product is scaled
    scale, zero = ((*names, "", "", "")[place] for place in (kind.zero_point - 1, kind.zero_point))
    yield make(op_type, numbers, [f"{prefix}y" if scale else node.output[0]], **given)
    if scale:
        yield make("QuantizeLinear", [f"{prefix}y", scale, zero], [node.output[0]])
