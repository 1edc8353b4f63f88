"""The class scores before the Softmax that a classifier ends in."""

from __future__ import annotations

import onnx

from jr_onnx.conversion.graph.names import PREFIX
from jr_onnx.conversion.graph.scopes import own_domain

#: What passes on the values that it is given, in another shape or type.
_PASSING = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"}

_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


def without_softmax(graph: onnx.GraphProto) -> str:
    """The value that the graph's output would be without the Softmax at its end, and without the Log behind that.

    Where there are other nodes behind the Softmax, copies of them that start from what goes into it are put into the
    graph; its output and what leads there are left as they are.

    Args:
        graph: without functions, with one output.
    """
    output = str(graph.output[0].name)
    by_output = {name: node for node in graph.node for name in node.output}
    behind: list[onnx.NodeProto] = []
    node = by_output.get(output)
    while node is not None and (_passes(node) or _is(node, "Log")):
        behind.append(node)
        node = by_output.get(node.input[0])
    if node is None or not _is(node, "Softmax"):
        return output
    value = str(node.input[0])
    # The logarithm of a softmax is the scores again, less one number for all classes.
    for passing in reversed([one for one in behind if not _is(one, "Log")]):
        copy = graph.node.add()
        copy.CopyFrom(passing)
        copy.input[0], value = value, f"{PREFIX}logits.{passing.output[0]}"
        copy.output[:] = [value]
    return value


def _passes(node: onnx.NodeProto) -> bool:
    if not any(_is(node, op_type) for op_type in _PASSING):
        return False
    return node.op_type != "Cast" or any(entry.name == "to" and entry.i in _FLOATS for entry in node.attribute)


def _is(node: onnx.NodeProto, op_type: str) -> bool:
    return node.op_type == op_type and not own_domain(node.domain)
