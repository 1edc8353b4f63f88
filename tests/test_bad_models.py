"""Models that make no sense, by way of the command line: exit code 2, one line that says what is wrong, no file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from outcome import Outcome
from support import make_model, node, relu_model, value


@pytest.fixture(params=["convert", "inspect"])
def command(request: pytest.FixtureRequest) -> list[str]:
    """What both commands must refuse."""
    return [request.param] + (["--jump", "0.5"] if request.param == "convert" else [])


# --- no graph that makes sense ----------------------------------------------------------------------------------------


def relus(*wires: str) -> ModelProto:
    """A model of Relus: each is its input and its output."""
    nodes = [node("Relu", *wire.split(), f"relu{index}") for index, wire in enumerate(wires)]
    return make_model(nodes, [value("x", shape=[3])], [value("y")])


def with_opsets(*opsets: tuple[str, int]) -> ModelProto:
    model = relu_model()
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*opset) for opset in opsets)
    return model


BAD_MODELS = {
    "a circle": (relus("b a", "a b", "x y"), "node 'relu0' (Relu): depends on its own output"),
    "a dangling input": (relus("nowhere y"), "node 'relu0' (Relu): input 'nowhere' is produced nowhere"),
    "a dangling output": (relus("x z"), "output 'y' is produced nowhere"),
    "a value produced twice": (relus("x y", "x y"), "node 'relu1' (Relu): value 'y' is produced twice"),
    "no opset": (with_opsets(), "imports no version of ONNX's operators"),
    "another opset only": (with_opsets(("ai.onnx.ml", 3)), "imports no version of ONNX's operators"),
    "opset 0": (with_opsets(("", 0)), "imports no version of ONNX's operators"),
    "opset 6": (with_opsets(("", 6)), "onnx.version_converter.convert_version"),
    "a negative opset": (with_opsets(("", -1)), "has opset -1"),
    "a future opset": (with_opsets(("", 99)), "has opset 99, which is unknown to onnx"),
    "no node": (make_model([], [value("x")], [value("x")]), "no Relu in this model; --allow-empty makes that no error"),
    "no relu": (make_model([node("Neg", "x", "y")], [value("x")], [value("y")]), "no Relu in this model"),
    "integer relus": (relu_model(TensorProto.INT32), "'relu' (Relu): int32 is not floating point"),
    "an unknown type": (
        make_model([node("Theirs", "x", "a", domain="t"), node("Relu", "a", "y", "r")], [value("x")], [value("y", 0)]),
        "node 'r' (Relu): the element type of 'a' cannot be inferred",
    ),
}


@pytest.mark.parametrize("target", ["custom-op", "subgraph", "standard"])
@pytest.mark.parametrize("what", BAD_MODELS)
def test_a_model_that_makes_no_sense_is_refused(
    what: str, target: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    model, complaint = BAD_MODELS[what]
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    said = refused("convert", path, "--jump", "1", "--target", target)
    assert said.startswith(f"{path}: ")
    assert complaint in said


@pytest.mark.parametrize("what", [what for what in BAD_MODELS if what.startswith("no ") and "opset" not in what])
def test_a_model_without_a_relu_is_no_error_if_that_is_allowed(what: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(BAD_MODELS[what][0].SerializeToString())
    outcome = Outcome(tmp_path, ("convert", path, "--jump", "1", "--allow-empty"))
    assert (outcome.code, outcome.err, outcome.new) == (0, "", ["model.jumprelu.onnx"])


def test_duplicate_node_names_are_told_apart(tmp_path: Path, refused: Callable[..., str]) -> None:
    path = tmp_path / "model.onnx"
    nodes = [node("Relu", "x", "a", "same"), node("Relu", "a", "b", "same"), node("Relu", "b", "y")]
    path.write_bytes(make_model(nodes, [value("x")], [value("y")]).SerializeToString())
    assert "'same#2' matches no node (did you mean 'same#" in refused(
        "convert", path, "--jump", "1", "--include", "same#2"
    )
    outcome = Outcome(tmp_path, ("convert", path, "--jump", "1", "--include", "same#1", "--json"))
    assert outcome.code == 0
    hardened = onnx.load(tmp_path / "model.jumprelu.onnx")
    assert [item.op_type for item in hardened.graph.node] == ["Relu", "JumpReLU", "Relu"]


STRANGE_NAMES = ["two\nlines", "a\rb", "bell\x07", "\x1b[31mred", "line\u2028separator", "nul\0"]


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_a_name_with_control_characters_does_not_break_the_line(
    name: str, command: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    path = tmp_path / "model.onnx"
    model = relus("x y")
    model.graph.node[0].input[0] = name
    model.graph.node[0].name = name
    path.write_bytes(model.SerializeToString())
    said = refused(*command, path)
    assert said.isprintable()
    assert name.encode("unicode_escape").decode() in said


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_a_name_with_control_characters_does_not_break_the_report(
    name: str, command: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    lines = []
    for label in ("plain", name):
        onnx.save(relu_model(name=label), path)
        outcome = Outcome(tmp_path, (*command, path, *(["--dry-run"] if command[0] == "convert" else [])))
        assert (outcome.code, outcome.err) == (0, "")
        lines.append(len(outcome.out.splitlines()))
        assert outcome.out.replace("\n", "").isprintable()
    assert lines[0] == lines[1]


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_a_name_that_the_terminal_cannot_show_does_no_harm(encoding: str, tmp_path: Path) -> None:
    name = b"model-\xff.onnx" if os.name == "posix" else "model-\u2603.onnx".encode()
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))  # noqa: PTH118 - Path takes no bytes
    onnx.save(relu_model(name="\u2603"), str(path))
    command = [sys.executable, "-m", "jr_onnx.cli.main", "convert", "--jump", "1", path]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for output, code in ((tmp_path / "hardened.onnx", 0), (tmp_path / "no\u2603" / "hardened.onnx", 2)):
        done = subprocess.run([*command, "-o", output], env=environment, capture_output=True, check=False)
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("where", ["node", "value", "operator"])
def test_a_name_that_is_not_text_is_refused(
    where: str, command: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    content = relu_model(name="node").SerializeToString()
    old, new = {"node": (b"node", b"n\xffde"), "value": (b"x", b"\xff"), "operator": (b"Relu", b"R\xfflu")}[where]
    path = tmp_path / "model.onnx"
    path.write_bytes(content.replace(old, new))
    assert "is not UTF-8 text" in refused(*command, path)


@pytest.mark.parametrize("op_type", ["Relu", "Clip", "Max", "RNN", "Constant", "QuantizeLinear", "If", "Loop", "Where"])
def test_operators_without_inputs_outputs_and_attributes_do_no_harm(op_type: str, tmp_path: Path) -> None:
    attributes = [
        onnx.AttributeProto(name=name) for name in ("min", "max", "value", "value_float", "activations", "alpha", "to")
    ]
    filled = [
        helper.make_attribute("min", 0.0),
        helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float32))),
        helper.make_attribute("activations", ["Relu", "ThresholdedRelu"]),
        helper.make_attribute("activation", "Relu"),
    ]
    nodes = []
    for index, carried in enumerate(([], attributes, filled)):
        for inputs, outputs in (
            ([], []),
            ([], ["a"]),
            (["x"], []),
            (["x"], ["b"]),
            ([""], [""]),
            (["", "x"], ["c", ""]),
        ):
            names = [f"{name}{index}" if name else "" for name in outputs]
            nodes.append(onnx.NodeProto(op_type=op_type, input=inputs, output=names, attribute=carried))
            nodes.append(onnx.NodeProto(op_type="FusedConv", domain="com.microsoft", input=inputs, attribute=carried))
            nodes[-1].output.extend(f"{name}_" if name else "" for name in names)
    model = make_model([*nodes, node("Relu", "x", "y")], [value("x")], [value("y")], domains=["com.microsoft"])
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    for command in ("inspect", "convert --jump 1 --dry-run", "convert --jump 1 --dry-run --clip"):
        outcome = Outcome(tmp_path, (*command.split(), path))
        assert outcome.code == 0 or outcome.is_refusal()


@pytest.mark.parametrize("element_type", [-1, 0, 8, 14, 17, 23, 999, 2**31 - 1])
@pytest.mark.parametrize("payload", [{}, {"raw_data": b"\0\0\0\0"}, {"float_data": [0.0]}, {"string_data": [b"0"]}])
def test_constants_of_any_type_do_no_harm(element_type: int, payload: dict[str, Any], tmp_path: Path) -> None:
    strange = TensorProto(name="low", data_type=element_type, dims=[2**40], **payload)
    nodes = [
        node("Constant", "", "constant", value=strange),
        *(node(op, f"x {low}", f"{op}_{low}") for op in ("Clip", "Max") for low in ("low", "constant")),
        node("QuantizeLinear", "x low low", "quantized"),
        node("Relu", "x", "y"),
    ]
    model = make_model(nodes, [value("x", shape=[3])], [value("y")])
    model.graph.initializer.append(strange)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert Outcome(tmp_path, ("inspect", path)).code == 0
    assert Outcome(tmp_path, ("convert", path, "--jump", "1", "--clip")).code == 0


@pytest.mark.parametrize(
    ("before", "what"),
    [
        ([node("Identity", "", "a"), node("Relu", "a", "r"), node("Min", "r six", "m")], "has 0 inputs and needs 1"),
        ([node("Relu", "x", "r"), node("Clip", "r", "")], "has 0 outputs and needs 1"),
        ([node("ConstantOfShape", "", "z"), node("Max", "x z", "m")], "has 0 inputs and needs 1"),
        ([node("DequantizeLinear", "", "d"), node("QuantizeLinear", "d six", "q")], "has 0 inputs and needs 2"),
    ],
)
def test_an_operator_that_lacks_inputs_or_outputs_is_refused_beside_whatever_reads_it(
    before: list[onnx.NodeProto], what: str, command: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    model = make_model([*before, node("Relu", "x", "y")], [value("x", shape=[3])], [value("y")])
    model.graph.initializer.append(numpy_helper.from_array(np.float32(6), "six"))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert what in refused(*command, path)


@pytest.mark.parametrize(
    "strange",
    [
        TensorProto(data_type=TensorProto.STRING, dims=[1], string_data=[b"u"]),
        TensorProto(data_type=TensorProto.COMPLEX64, dims=[1], float_data=[0, 1]),
        TensorProto(data_type=TensorProto.FLOAT, dims=[1], raw_data=b"abc"),
        TensorProto(data_type=TensorProto.FLOAT, dims=[2**40], raw_data=b""),
    ],
    ids=["text", "complex", "damaged", "huge"],
)
def test_constants_that_are_no_numbers_do_no_harm_wherever_a_number_is_expected(
    strange: TensorProto, tmp_path: Path
) -> None:
    nodes = [
        node("Constant", "", "k", value=strange),
        node("Shape", "x", "shape"),
        node("ConstantOfShape", "shape", "filled", value=strange),
        node("Cast", "k", "cast", to=TensorProto.FLOAT),
        *(node("Max", f"x {low}", f"max_{low}") for low in ("filled", "cast")),
        node("PRelu", "x k", "prelu"),
        node("Identity", "k", "same"),
        node("QuantizeLinear", "same k", "quantized"),
        node("Relu", "x", "y"),
        node("Min", "y k", "bounded"),
    ]
    path = tmp_path / "model.onnx"
    path.write_bytes(make_model(nodes, [value("x", shape=[3])], [value("y")]).SerializeToString())
    assert Outcome(tmp_path, ("inspect", path)).code == 0
    assert Outcome(tmp_path, ("convert", path, "--jump", "1", "--clip")).code == 0


def test_a_constant_in_another_file_is_not_looked_up_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    low = TensorProto(data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL, dims=[1])
    low.external_data.add(key="location", value="low.bin")
    nodes = [node("Constant", "", "low", value=low), node("Clip", "x low", "a"), node("Relu", "a", "y")]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "low.bin").write_bytes(bytes(4))
    path = tmp_path / "model" / "model.onnx"
    path.write_bytes(make_model(nodes, [value("x", shape=[3])], [value("y")]).SerializeToString())
    monkeypatch.chdir(tmp_path)
    outcome = Outcome(tmp_path, ("inspect", path))
    assert (outcome.code, outcome.err) == (0, "")
    assert "its minimum is in another file" in outcome.out
