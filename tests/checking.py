"""What the tests of `check` share: small models that have what a rule can break, and broken copies of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
from support import SHIPPED

import jr_onnx

DIGITS = next(path for path in SHIPPED if path.stem == "digits")

#: Two sites in the main graph, one in a branch, one in a function that is called; a Sub whose inputs can be swapped.
_TEXT = """
    <ir_version: 8, opset_import: ["": 17, "local": 1]>
    g (float[2, 3] x, bool c) => (float[2, 3] y)
    <float[3, 3] w = {1, -1, 0.5, 2, 1, 1, -0.5, 0, 1}, float[3] b = {0.1, 0.2, 0.3}, float[2, 3] h>
    {
        [first] h = MatMul(x, w)
        [second] i = Add(h, b)
        [one] j = Relu(i)
        [swap] k = Sub(j, x)
        [two] l = Relu(k)
        [branch] m = If(c) <
            then_branch = t () => (float[2, 3] p) { [three] p = Relu(l) },
            else_branch = e () => (float[2, 3] q) { [minus] q = Neg(l) }
        >
        [call] y = local.F(m)
    }
    <domain: "local", opset_import: ["": 17]>
    F (a) => (z) { [half] s = Abs(a) [four] z = Relu(s) }
"""


def graph(text: str, opset: int = 17) -> onnx.ModelProto:
    """A model from ONNX's textual format, without its header."""
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')


def small() -> onnx.ModelProto:
    """The small model, with doc strings and metadata of its own, and a weight too large for the skeleton."""
    model = onnx.parser.parse_model(_TEXT)
    model.producer_name = "a test"
    model.metadata_props.add(key="author", value="somebody")
    model.graph.doc_string = "a graph"
    model.graph.initializer.append(large(np.arange(4000, dtype=np.float32)))
    model.graph.node.append(onnx.helper.make_node("ReduceSum", ["large"], ["sum"], name="last", keepdims=0))
    model.graph.output.append(onnx.helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, []))
    return model


def large(values: np.ndarray) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(values, "large")


def hardened(model: onnx.ModelProto | None = None, **options: object) -> onnx.ModelProto:
    """The model converted at jump 0.5."""
    converted = jr_onnx.convert(model or small(), **{"jump": 0.5, **options}).model
    assert converted is not None
    return converted


def broken(change: Callable[[onnx.ModelProto], object], **options: object) -> onnx.ModelProto:
    """The hardened small model, changed."""
    model = hardened(**options)
    change(model)
    return model


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def rules(report: jr_onnx.CheckReport) -> set[str]:
    return {finding.rule for finding in report.findings}


def shown(report: jr_onnx.CheckReport) -> str:
    return "\n".join(f"{f.rule} {f.node}: {f.message}" for f in report.findings)
