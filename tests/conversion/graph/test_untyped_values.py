"""Values of unknown type: ONNX's shape inference dies by a segmentation fault on a few operators that read one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import defs, helper
from outcome import Outcome
from support import FLOAT, function, make_model, node, value

from jr_onnx import find_sites
from jr_onnx.conversion.graph.value_types import infer_shapes

LABELS = {"keys_strings": ["a"], "values_floats": [1.0]}


def readers(inputs: str, output: str = "m") -> list[onnx.NodeProto]:
    return [
        node("RegexFullMatch", inputs, output, pattern="a"),
        node("LabelEncoder", inputs, f"{output}_l", domain="ai.onnx.ml", **LABELS),
        node("DictVectorizer", inputs, f"{output}_d", domain="ai.onnx.ml", string_vocabulary=["a"]),
    ]


def untyped(kind: str) -> onnx.ModelProto:
    """A model in which these operators read a value without a type, and a Relu."""
    inputs, functions, inner = [value("x", FLOAT, ["N"])], [], readers("s")
    if kind == "graph input":
        inputs.append(onnx.ValueInfoProto(name="s"))
    elif kind == "unknown operator":
        inner = [node("Unknown", "x", "s", domain="f"), *inner]
    elif kind == "function":
        body = function("Read", "s", "m", readers("s"), opset=20)
        body.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
        functions, inner = [body], [node("Unknown", "x", "s", domain="g"), node("Read", "s", "m", domain="f")]
    else:
        branch = helper.make_graph(readers("s", "b"), "branch", [], [onnx.ValueInfoProto(name="b")])
        inner = [node("Unknown", "x", "s", domain="f"), node("If", "s", "m", then_branch=branch, else_branch=branch)]
    nodes = [*inner, node("Relu", "x", "y")]
    model = make_model(nodes, inputs, [value("y", FLOAT, ["N"])], opset=20, functions=functions, domains=["f", "g"])
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    return model


@pytest.mark.parametrize("kind", ["graph input", "unknown operator", "function", "body"])
def test_no_command_dies_of_a_value_without_a_type(kind: str, tmp_path: Path) -> None:
    path, hardened = tmp_path / "model.onnx", tmp_path / "hard.onnx"
    model = untyped(kind)
    model.graph.output[0].type.Clear()  # so that types are inferred
    onnx.save(model, path)
    for arguments in (
        ("inspect", path),
        ("diff", path, path),
        ("convert", path, "--jump", "0.5", "--target", "subgraph", "-o", hardened),
        ("check", path, hardened),
        ("check", hardened),
        ("optimize", hardened),
        ("deploy", hardened, "--server", "triton", "-o", tmp_path / "folder"),
    ):
        outcome = Outcome(tmp_path, arguments)
        assert outcome.code in (0, 1, 2), arguments
        assert "Traceback" not in outcome.err


def test_they_are_inferred_as_soon_as_their_inputs_have_types() -> None:
    """The float of a LabelEncoder, whose input a node gives, is what a Relu needs."""
    nodes = [
        node("Identity", "s", "t"),
        node("LabelEncoder", "t", "l", domain="ai.onnx.ml", **LABELS),
        node("Cast", "l", "u", to=onnx.TensorProto.STRING),
        node("LabelEncoder", "u", "v", domain="ai.onnx.ml", **LABELS),
        node("Relu", "v", "r"),
        node("Neg", "r", "y"),
    ]
    model = make_model(nodes, [value("s", onnx.TensorProto.STRING, ["N"])], [value("y")])
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    (site,) = find_sites(model)
    assert site.element_type == FLOAT
    assert not site.problem
    assert [one.op_type for one in infer_shapes(model).graph.node] == [one.op_type for one in nodes]


_EVERY_OPERATOR = """
import os, sys, onnx
from onnx import defs, helper
from jr_onnx.conversion.graph.value_types import infer_shapes
VALUES = {1: 1.0, 2: 1, 3: "a", 5: helper.make_graph([], "b", [], []), 6: [1.0], 7: [1], 8: ["a"]}
for schema in defs.get_all_schemas_with_history():
    if schema.deprecated or not schema.inputs:
        continue
    outputs = [f"o{i}" for i in range(max(schema.min_output, min(schema.max_output, len(schema.outputs))))]
    imports = [helper.make_opsetid(schema.domain, schema.since_version)]
    for number in {max(schema.min_input, 1), min(schema.max_input, len(schema.inputs))}:
        inputs = [f"i{i}" for i in range(number)]
        node = helper.make_node(schema.name, inputs, outputs, domain=schema.domain)
        for name, attribute in schema.attributes.items():
            kind = int(getattr(attribute.type, "value", attribute.type))
            if attribute.required and kind in VALUES:
                node.attribute.append(helper.make_attribute(name, VALUES[kind]))
        given = [onnx.ValueInfoProto(name=name) for name in inputs]
        model = helper.make_model(helper.make_graph([node], "g", given, []), opset_imports=imports, ir_version=10)
        print(schema.domain, schema.name, schema.since_version, flush=True)
        for strict in (False, True):
            try:
                infer_shapes(model, strict=strict)
            except Exception:
                pass
print("done")
"""


def test_no_operator_of_this_onnx_crashes_its_inference() -> None:
    """Whoever is missing in the table is the last one that is printed."""
    done = subprocess.run([sys.executable, "-c", _EVERY_OPERATOR], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "done", done.stdout.splitlines()[-1]
    assert len(done.stdout.splitlines()) > len(defs.get_all_schemas())
