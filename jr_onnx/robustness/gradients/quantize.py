"""QuantizeLinear, DequantizeLinear and JumpReLU of integers in floating point, so that a gradient can pass."""

from __future__ import annotations

import numpy as np
import onnx

from jr_onnx.conversion.graph.names import PREFIX, QUANTIZED_OP_TYPE
from jr_onnx.conversion.quantization import INTEGER_TYPES
from jr_onnx.robustness.gradients.errors import NoGradientError
from jr_onnx.robustness.gradients.fragments import fragment, set_nodes

#: Added and taken away again, it leaves the nearest integer of a float32 below 2^22, the even one of two (what is
#: larger is cut off afterwards). To onnx-ad that is a sum, whose gradient goes straight through (Bengio et al., arXiv
#: 1308.3432). Round would have none.
_LIFT = 1.5 * 2**23

_TEXTS = {
    "QuantizeLinear": """
        exact = Div (X, SCALE)
        lifted = Add (exact, LIFT)
        rounded = Sub (lifted, LIFT)
        shifted = Add (rounded, ZERO)
        Y = Clip (shifted, LOW, HIGH)
    """,
    "DequantizeLinear": """
        wide = Cast <to = 1> (X)
        centred = Sub (wide, ZERO)
        Y = Mul (centred, SCALE)
    """,
    # An integer above the threshold comes from a number that is half a step above it: there is the jump, if not at 0.
    QUANTIZED_OP_TYPE: """
        centred = Sub (X, ZERO)
        bar = Cast <to = 1> (THRESHOLD)
        steps = Sub (bar, ZERO)
        none = Constant <value_float = 0.0> ()
        half = Constant <value_float = 0.5> ()
        more = Clip (steps, none, half)
        jump = Add (steps, more)
        kept = jr_onnx.JumpReLU (centred, jump)
        Y = Add (kept, ZERO)
    """,
}


def write_quantization(graph: onnx.GraphProto) -> None:
    """Put arithmetic in place of these operators.

    Args:
        graph: with the types and shapes of its values; those of what is quantized are wrong afterwards.

    Raises:
        NoGradientError: a node is quantized in blocks, or not to integers of 8 or 16 bits, or onnx cannot infer what
            goes into it.
    """
    types = {
        value.name: (value.type.tensor_type.elem_type, len(value.type.tensor_type.shape.dim))
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    types.update({tensor.name: (tensor.data_type, len(tensor.dims)) for tensor in graph.initializer})
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.extend(_arithmetic(graph, node, types) if node.op_type in _TEXTS else [node])
    set_nodes(graph, nodes)


def _arithmetic(
    graph: onnx.GraphProto, node: onnx.NodeProto, types: dict[str, tuple[int, int]]
) -> list[onnx.NodeProto]:
    given = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    x, second, zero = (*node.input, "")[:3]
    for name in filter(None, (x, second, zero)):
        if name not in types:
            raise NoGradientError(f"onnx cannot infer the type of '{name}', which goes into {node.op_type}")
    quantizes = node.op_type == "QuantizeLinear"
    element_type = types[zero][0] if zero else given.get("output_dtype", 0) or onnx.TensorProto.UINT8
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element_type))
    if given.get("block_size") or (quantizes and element_type not in INTEGER_TYPES):
        raise NoGradientError(f"{node.op_type} in blocks, or of {dtype}")
    prefix = f"{PREFIX}quantized.{node.output[0]}/"

    def constant(name: str, values: object, element_type: type) -> str:
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values, element_type), prefix + name))
        return prefix + name

    outside = {"X": x, "Y": node.output[0], "SCALE": second, "THRESHOLD": second}
    before: list[onnx.NodeProto] = []
    if zero:
        outside["ZERO"] = f"{prefix}zero"
        before.append(onnx.helper.make_node("Cast", [zero], [outside["ZERO"]], to=onnx.TensorProto.FLOAT))
    else:
        outside["ZERO"] = constant("zero", 0, np.float32)
    rank = types[x][1]
    if "SCALE" in _TEXTS[node.op_type] and rank:
        # One for each index of an axis, or one for all; of the rank of x, for onnxruntime takes ten times as long for a
        # product of [N, C, H, W, 1], as gradients are, with [1] as with [1, 1, 1, 1, 1].
        shape = [1] * rank
        shape[given.get("axis", 1) % rank] = -1
        shaped = constant("shape", shape, np.int64)
        for name in ("SCALE", "ZERO"):
            before.append(onnx.helper.make_node("Reshape", [outside[name], shaped], [f"{prefix}{name}"]))
            outside[name] = f"{prefix}{name}"
    if quantizes:
        limits = np.iinfo(dtype)
        numbers = {"LOW": limits.min, "HIGH": limits.max, "LIFT": _LIFT}
        outside |= {name: constant(name, number, np.float32) for name, number in numbers.items()}
    return [*before, *fragment(_TEXTS[node.op_type], outside, prefix)]
