"""A model as it can be differentiated: shapes fixed, one opset, every form of JumpReLU one node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
from google.protobuf.message import DecodeError

from jr_onnx.conversion.forms.quantized import QUANTIZED_EXPANDED
from jr_onnx.conversion.forms.recognise import Match, recognise, step_of
from jr_onnx.conversion.forms.table import ALL_FORMS, FUNCTIONS_IR_VERSION, HARD_SIGMOID, RELU_GREATER
from jr_onnx.conversion.forms.write import function_proto
from jr_onnx.conversion.graph.names import (
    DOMAIN,
    FORM,
    OP_TYPE,
    PREFIX,
    QUANTIZED_OP_TYPE,
    mark_of,
    set_marks,
)
from jr_onnx.conversion.graph.scopes import all_scopes, own_domain
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.conversion.graph.wiring import Wiring
from jr_onnx.conversion.sites.matchers import operator_name
from jr_onnx.errors import ModelError
from jr_onnx.files.source import open_file
from jr_onnx.robustness.gradients.errors import NoGradientError
from jr_onnx.robustness.gradients.fragments import drop_unneeded, set_nodes
from jr_onnx.robustness.gradients.head import without_softmax
from jr_onnx.robustness.gradients.indexing import write_gathers
from jr_onnx.robustness.gradients.on_integers import write_qdq
from jr_onnx.robustness.gradients.quantize import write_quantization
from jr_onnx.text import one_line

#: The opset to which older models are brought: from it on, reductions take their axes as an input.
OPSET = 18

#: The operators with windows that onnx-ad differentiates with explicit pads alone.
_WINDOWS = ("Conv", "MaxPool", "AveragePool", "LpPool")

#: The operators of which onnx does not infer that the output has the shape of the input (tried with onnx 1.23).
_KEEP_SHAPE = ("GroupNormalization", "MeanVarianceNormalization", QUANTIZED_OP_TYPE)

_FLOAT = onnx.TensorProto.FLOAT
_OTHER_FLOATS = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}


def read_model(model: onnx.ModelProto | str | Path) -> onnx.ModelProto:
    """A copy of the model with all its weights.

    Raises:
        ModelError: it cannot be read, or is not an ONNX model.
    """
    if isinstance(model, onnx.ModelProto):
        check_structure(model)
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    path = Path(model)
    with open_file(path) as source:  # says what is wrong with it
        check_structure(source.skeleton)
        try:
            return onnx.load(path)
        except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
            raise ModelError(one_line(error)) from error


def prepare(model: onnx.ModelProto, shape: Sequence[int]) -> onnx.ModelProto:
    """The model with one float32 input and one output, the class scores before any Softmax.

    Args:
        model: left alone.
        shape: of the model's input, the batch too.

    Returns:
        Opset 18 or newer, float32 (in place of quantized integers too), no functions but `jr_onnx::JumpReLU`, which
        every JumpReLU calls, and all shapes that onnx can infer.

    Raises:
        ModelError: it has several inputs or outputs, or is of an opset that cannot be brought to 18.
    """
    model = _copied_inline(model)
    _write_jump_relus(model)
    model = _upgraded(model)
    write_qdq(model.graph)
    _make_float(model)
    model.functions.append(function_proto(RELU_GREATER, opset_of(model), _FLOAT))
    model.ir_version = max(model.ir_version, FUNCTIONS_IR_VERSION)
    graph = model.graph
    defaults = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in defaults]
    for names, kind, what in ((inputs, "input", "the images"), (graph.output, "output", "the class scores")):
        if len(names) != 1:
            raise ModelError(f"the model has {len(names)} {kind}s; a classifier has one, {what}")
    logits = without_softmax(graph)
    graph.ClearField("input")
    graph.input.append(onnx.helper.make_tensor_value_info(inputs[0], _FLOAT, shape))
    graph.ClearField("output")
    graph.output.append(onnx.helper.make_tensor_value_info(logits, _FLOAT, None))
    _keep_needed(graph)
    model = _with_shapes(model)
    scores = [size.dim_value for size in model.graph.output[0].type.tensor_type.shape.dim]
    if len(scores) != 2 or scores[0] != shape[0] or not scores[1]:
        raise NoGradientError("onnx cannot infer that the scores are [N, classes]")
    shapes = _shapes(model.graph)
    _write_pads(model.graph, shapes)
    write_gathers(model.graph, Wiring(next(all_scopes(model)), None), shapes)
    write_quantization(model.graph)
    return _with_shapes(model)


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators."""
    return next(int(entry.version) for entry in model.opset_import if not own_domain(entry.domain))


def _copied_inline(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without functions but JumpReLU's."""
    if model.functions:
        kept = [(DOMAIN, OP_TYPE), (DOMAIN, QUANTIZED_OP_TYPE)]
        return onnx.inliner.inline_selected_functions(model, kept, exclude=True)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _upgraded(model: onnx.ModelProto) -> onnx.ModelProto:
    """At `OPSET` or newer."""
    model.functions.clear()
    opset = opset_of(model)
    if opset >= OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        raise ModelError(f"opset {opset} cannot be brought to {OPSET}: {one_line(error)}") from error


def _keep_needed(graph: onnx.GraphProto) -> None:
    """Leave out the nodes that the output does not need; number the others, for names need not be unique.

    Raises:
        NoGradientError: one that it needs is of a domain that is not ONNX's own.
    """
    drop_unneeded(graph)
    for number, node in enumerate(graph.node):
        if own_domain(node.domain) not in ("", DOMAIN):
            raise NoGradientError(f"nothing is known of {operator_name(node)}")
        node.name = f"{number}"


# --- JumpReLU -------------------------------------------------------------------------------------------------------


def _write_jump_relus(model: onnx.ModelProto) -> None:
    """One node in place of every form of JumpReLU in the main graph."""
    scope = next(all_scopes(model))
    matches = _matches(Wiring(scope, None))
    inside = {index for match in matches.values() for index in match.nodes}
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(scope.nodes):
        if index in matches:
            nodes.append(_jump_relu(model.graph, matches[index], node, scope.nodes))
        elif index not in inside:
            nodes.append(node)
    set_nodes(model.graph, nodes)
    if not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))


def _matches(wiring: Wiring) -> dict[int, Match]:
    """Every JumpReLU by the index of its last node; also one that another tool wrote, or took the mark from."""
    found: dict[int, Match] = {}
    for index, node in enumerate(wiring.scope.nodes):
        for form in (*ALL_FORMS, QUANTIZED_EXPANDED):
            if (node.op_type, own_domain(node.domain)) != (form.ops[-1].op_type, form.ops[-1].domain):
                continue
            if mark_of(node, FORM) is None:
                set_marks(node, {FORM: form.name})
                match = recognise(form, wiring, index)
                set_marks(node, {})
            else:
                match = recognise(form, wiring, index)
            if match is not None:
                found[index] = match
                break
    return found


def _jump_relu(
    graph: onnx.GraphProto, match: Match, last: onnx.NodeProto, nodes: Sequence[onnx.NodeProto]
) -> onnx.NodeProto:
    jump = match.values.get("jump")
    if match.form is QUANTIZED_EXPANDED:
        inputs = [match.x, match.values["jump"], match.values["zero_point"]]
        return onnx.helper.make_node(QUANTIZED_OP_TYPE, inputs, [match.y], domain=DOMAIN)
    if jump is None:
        if match.form is HARD_SIGMOID:
            number = step_of(nodes[match.nodes[-2]])
            if number is None:
                raise ModelError(f"node '{last.name}': is marked as a JumpReLU, but its HardSigmoid is no step")
        else:
            number = next((entry.f for entry in last.attribute if entry.name == "alpha"), 1.0)
        jump = f"{PREFIX}jump.{match.y}"
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(number, np.float32), jump))
    return onnx.helper.make_node(OP_TYPE, [match.x, jump], [match.y], domain=DOMAIN)


# --- types ----------------------------------------------------------------------------------------------------------


def _make_float(model: onnx.ModelProto) -> None:
    """float32 in place of every other floating type."""
    for scope in all_scopes(model):
        for node in scope.nodes:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    _to_float(attribute.t)
                elif attribute.name in ("to", "dtype", "output_dtype") and attribute.i in _OTHER_FLOATS:
                    attribute.i = _FLOAT
                elif attribute.type == onnx.AttributeProto.GRAPH:
                    _make_values_float(attribute.g)
    _make_values_float(model.graph)


def _make_values_float(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _to_float(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in _OTHER_FLOATS:
            value.type.tensor_type.elem_type = _FLOAT


def _to_float(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _OTHER_FLOATS:
        try:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        except (TypeError, ValueError, OSError, onnx.checker.ValidationError) as error:
            raise ModelError(f"initializer '{tensor.name}' cannot be read: {error}") from error
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


# --- shapes ---------------------------------------------------------------------------------------------------------


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The types and shapes of all values that onnx can infer, behind JumpReLU too."""
    model.graph.ClearField("value_info")
    nodes = {index: node for index, node in enumerate(model.graph.node) if node.op_type in _KEEP_SHAPE}
    copies = {index: node.SerializeToString() for index, node in nodes.items()}
    for node in nodes.values():
        node.CopyFrom(onnx.helper.make_node("Identity", node.input[:1], node.output[:1]))
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for index, copy in copies.items():
        model.graph.node[index].ParseFromString(copy)
    return model


def _shapes(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Value -> its shape, with 0 for what onnx cannot infer."""
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    return shapes | {tensor.name: list(tensor.dims) for tensor in graph.initializer}


def _write_pads(graph: onnx.GraphProto, shapes: dict[str, list[int]]) -> None:
    """`pads` in place of `auto_pad`, and of `ceil_mode` where a window that hangs over is summed.

    Raises:
        NoGradientError: they depend on a shape that onnx cannot infer, or padding counts where windows hang over.
    """
    for node in graph.node:
        given = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        mode = given.pop("auto_pad", b"NOTSET").decode()
        ceil = node.op_type in ("AveragePool", "LpPool") and given.pop("ceil_mode", 0)
        if (mode == "NOTSET" and not ceil) or node.op_type not in _WINDOWS:
            continue
        sizes, outputs = (shapes.get(name, [])[2:] for name in (node.input[0], node.output[0]))
        if not (sizes and outputs and all((*sizes, *outputs))):
            raise NoGradientError(f"onnx cannot infer the shapes around {operator_name(node)} '{node.output[0]}'")
        kernel = given.get("kernel_shape") or shapes[node.input[1]][2:]
        rank = len(kernel)
        strides, dilations = given.get("strides", [1] * rank), given.get("dilations", [1] * rank)
        total = [  # what the windows reach beyond the input
            max((output - 1) * stride + (k - 1) * dilation + 1 - size, 0)
            for size, output, k, stride, dilation in zip(sizes, outputs, kernel, strides, dilations, strict=True)
        ]
        pads = given.get("pads", [0] * 2 * rank)
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            less, more = [one // 2 for one in total], [one - one // 2 for one in total]
            pads = less + more if mode == "SAME_UPPER" else more + less
        elif ceil:
            if any(pads) and given.get("count_include_pad"):
                raise NoGradientError("AveragePool with ceil_mode that counts its padding")
            given["count_include_pad"] = 0
            pads = [*pads[:rank], *(max(one - pad, 0) for one, pad in zip(total, pads[:rank], strict=True))]
        given["pads"] = pads
        if node.op_type == "LpPool":
            given.pop("count_include_pad", None)
        node.ClearField("attribute")
        node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in given.items())
