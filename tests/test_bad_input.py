"""Bad input, by way of the command line: exit code 2, one line that says what is wrong where, and no file."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import strange_models
import wire_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from planned_edits import planned_edits
from support import BACKEND_DATA, MODELS, make_model, node, relu_model, value

from jr_onnx.cli.main import main


class Outcome:
    """What a command did: its exit code, what it printed, and the files that were not there before."""

    def __init__(self, folder: Path, arguments: tuple[object, ...]) -> None:
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                self.code = main([str(argument) for argument in arguments])
            except SystemExit as exited:  # argparse's way out
                self.code = int(exited.code or 0)
        self.out, self.err = out.getvalue(), err.getvalue()
        after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert {path: after.get(path) for path in before} == before, "a file changed"
        self.new = sorted(path.name for path in after.keys() - before.keys())

    def is_refusal(self) -> bool:
        """One line on stderr, nothing on stdout, no file."""
        one_line = self.err.endswith("\n") and len(self.err.splitlines()) == 1
        return self.code == 2 and one_line and not self.out and not self.new


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Run a command that must refuse; what it says after its own name."""

    def run(*arguments: object) -> str:
        outcome = Outcome(tmp_path, arguments)
        assert outcome.is_refusal(), vars(outcome)
        return outcome.err.removeprefix(f"jr-onnx {arguments[0]}: ").rstrip("\n")

    return run


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.onnx"
    onnx.save(strange_models.weighted_relu(np.ones(3, np.float32)), path)
    return path


@pytest.fixture(params=["convert", "inspect"])
def command(request: pytest.FixtureRequest) -> list[str]:
    """What both commands must refuse."""
    return [request.param] + (["--jump", "0.5"] if request.param == "convert" else [])


# --- no model ---------------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_refused(command: list[str], tmp_path: Path, refused: Callable[..., str]) -> None:
    path = tmp_path / "missing.onnx"
    assert refused(*command, path) == f"{path}: no such file"


def test_a_folder_is_refused(command: list[str], tmp_path: Path, refused: Callable[..., str]) -> None:
    assert refused(*command, tmp_path) == f"{tmp_path}: not a file"


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="a device as POSIX has them")
def test_a_device_is_refused(command: list[str], refused: Callable[..., str]) -> None:
    assert refused(*command, "/dev/null") == "/dev/null: not a file"


def test_a_name_that_is_too_long_is_refused(command: list[str], refused: Callable[..., str]) -> None:
    assert refused(*command, "n" * 5000).startswith("nnnn")


NO_MODELS = {
    "an empty file": (b"", "is empty"),
    "a text": (b"This is no model.\n", "damaged at byte"),
    "a program": (b"\x7fELF\x02\x01\x01" + bytes(1000), "damaged at byte"),
    "zeros": (bytes(1000), "damaged at byte 0"),
    "an archive": (b"PK\x03\x04\x14\x00" + bytes(100), "damaged at byte"),
    "a tensor": (numpy_helper.from_array(np.ones((2, 3), np.float32), "t").SerializeToString(), "not an ONNX model"),
    "a graph": (relu_model().graph.SerializeToString(), ""),
    "no graph": (ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 18)]).SerializeToString(), "graph"),
    "no IR version": (ModelProto(graph=relu_model().graph).SerializeToString(), "it has no IR version"),
    "a negative IR version": (ModelProto(ir_version=-1, graph=relu_model().graph).SerializeToString(), "IR version"),
    "a future IR version": (relu_model(ir_version=99).SerializeToString(), "IR version 99 is unknown to onnx"),
    "two graphs": (
        relu_model().SerializeToString() + wire_format.field(7, wire_format.BYTES, b"").raw,
        "field 7 of the message at byte 0 occurs 2 times",
    ),
    "a group": (wire_format.varint(5 << 3 | 3) + wire_format.varint(5 << 3 | 4), "wire type 3 does not occur in ONNX"),
}


@pytest.mark.parametrize("what", NO_MODELS)
def test_what_is_no_model_is_refused(what: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    content, complaint = NO_MODELS[what]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    said = refused("convert", path, "--jump", "1")
    assert said.startswith(f"{path}: ")
    assert complaint in said


@pytest.mark.parametrize("seed", range(50))
def test_random_bytes_are_refused(seed: int, command: list[str], tmp_path: Path, refused: Callable[..., str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(np.random.default_rng(seed).bytes(1 << seed % 15))
    assert refused(*command, path).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "content",
    [
        (BACKEND_DATA / "simple" / "test_single_relu_model" / "model.onnx").read_bytes(),
        strange_models.weighted_relu(np.ones(3, np.float32)).SerializeToString(),
    ],
    ids=["single relu", "weighted relu"],
)
def test_a_model_that_is_cut_off_at_any_byte_is_refused_unless_that_leaves_a_model(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    boundaries = {0}
    for field in wire_format.parse(content):
        boundaries.add(max(boundaries) + len(field.raw))
    for end in range(len(content)):
        path.write_bytes(content[:end])
        outcome = Outcome(tmp_path, ("convert", path, "--jump", "1"))
        if outcome.code == 0 and end in boundaries:
            hardened = path.with_name("model.jumprelu.onnx")
            onnx.checker.check_model(onnx.load(hardened))
            hardened.unlink()
        else:
            assert outcome.is_refusal(), (end, vars(outcome))
            assert outcome.err.startswith(f"jr-onnx convert: {path}: ")


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
    assert "its minimum is not a constant" in outcome.out


# --- options and policies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "jump",
    [
        "-1",
        "-0.5",
        "-1e-300",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "1e400",
        "",
        " ",
        "half",
        "0x10",
        "0,5",
        "[1]",
        "1 2",
        "None",
    ],
)
def test_a_jump_that_is_no_number_from_0_up_is_refused(jump: str, good: Path, refused: Callable[..., str]) -> None:
    assert "jump" in refused("convert", good, f"--jump={jump}")


@pytest.mark.parametrize("element_type", [TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.BFLOAT16])
def test_a_jump_that_is_too_large_for_its_type_is_refused(
    element_type: int, tmp_path: Path, refused: Callable[..., str]
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(relu_model(element_type), path)
    assert refused("convert", path, "--jump", "1e39").startswith("node 'relu': jump 1e+39 is too large for ")


POLICIES = {
    "nothing": ("", "must be a mapping"),
    "a number": ("0.5", "must be a mapping"),
    "a list": ("[1, 2]", "must be a mapping"),
    "no YAML": ("default: [1", "not YAML"),
    "no text": (b"\xff\xfe\x00\xd8", "not YAML"),
    "a tab": ("default:\n\t- 1", "not YAML"),
    "two documents": ("default: 1\n---\ndefault: 2", "not YAML"),
    "a python object": ("default: !!python/object:os.system {}", "not YAML"),
    "an unknown key": ("defualt: 1", "unknown key 'defualt' (did you mean 'default'?)"),
    "an unknown key in a rule": ("rules:\n- {match: a, jmp: 1}", "unknown key 'jmp' (did you mean 'jump'?)"),
    "a key that is no text": ("1: 2", "unknown key 1"),
    "a key that is a list": ("? [1, 2]\n: 3", "not YAML"),
    "an unknown alias": ("default: *nothing", "not YAML"),
    "neither default nor rules": ("rules: []", "neither a default nor a rule"),
    "rules that are no list": ("rules: {match: a}", "must be a list"),
    "a rule that is no mapping": ("rules: [a]", "rule 1: must be a mapping"),
    "a rule without match": ("rules: [{jump: 1}]", "rule 1: needs 'match:'"),
    "a match that is no text": ("rules: [{match: 1, jump: 1}]", "rule 1: needs 'match:'"),
    "an empty match": ("rules: [{match: '', jump: 1}]", "rule 1: needs 'match:'"),
    "a rule without jump": ("rules: [{match: a}]", "rule 1: give either 'jump:' or 'skip: true'"),
    "a rule with both": ("rules: [{match: a, jump: 1, skip: true}]", "give either 'jump:' or 'skip: true'"),
    "a skip that is no boolean": ("rules: [{match: a, skip: 1}]", "skip: must be true or false"),
    "a jump that is none": ("rules: [{match: a, jump: }]", "is not a number"),
    "a jump that is text": ("default: '0.5'", "is not a number"),
    "a jump that is a date": ("default: 2024-01-01", "is not a number"),
    "a jump that is a boolean": ("default: true", "is not a number"),
    "a jump that is a mapping": ("default: {a: 1}", "is not a number"),
    "no jumps": ("default: []", "an empty list"),
    "a negative jump": ("default: -1", "must be a finite number >= 0"),
    "an infinite jump": ("default: .inf", "must be a finite number >= 0"),
    "a jump that is NaN": ("default: .nan", "must be a finite number >= 0"),
    "a huge jump": (f"default: 1{'0' * 400}", "must be a finite number >= 0"),
    "a jump with too many digits": (f"default: 1{'0' * 5000}", ""),
    "a bad jump among good ones": ("default: [1, -1]", "must be a finite number >= 0"),
    "jumps in jumps": ("default: [[1]]", "is not a number"),
    "a list that holds itself": ("default: &a [*a]", "is not a number"),
    "a mapping that holds itself": ("&a {default: *a}", "is not a number"),
    "a mapping that is its own key": ("&a {? *a : 1}", ""),
    "too deep a list": ("[" * 2000, "not YAML"),
    "a rule that matches nothing": ("rules: [{match: rleu, jump: 1}]", "policy rule 'rleu' matches no node"),
    "a jump a channel without channels": ("default: [1, 2]", "node 'relu': one jump a channel needs a value of shape"),
}


@pytest.mark.parametrize("what", POLICIES)
def test_a_policy_that_makes_no_sense_is_refused(
    what: str, good: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    content, complaint = POLICIES[what]
    path = tmp_path / "policy.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert complaint in refused("convert", good, "--policy", path)


def test_a_policy_that_is_not_there_is_refused(good: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    assert f"{tmp_path / 'missing'}: cannot be read" in refused("convert", good, "--policy", tmp_path / "missing")
    assert f"{tmp_path}: cannot be read" in refused("convert", good, "--policy", tmp_path)
    assert "cannot be read" in refused("convert", good, "--policy", "n" * 5000)


@pytest.mark.parametrize("option", ["--include", "--exclude"])
@pytest.mark.parametrize(("pattern", "near"), [("rleu", "(did you mean 'relu'?)"), ("", ""), ("*/*", ""), ("[", "")])
def test_a_pattern_that_matches_nothing_is_refused_with_near_names(
    option: str, pattern: str, near: str, good: Path, refused: Callable[..., str]
) -> None:
    said = refused("convert", good, "--jump", "1", option, pattern)
    assert said.startswith(f"{option} '{pattern}' matches no node")
    assert near in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--jump", "1", "--policy", "policy.yaml"],
        ["--jump"],
        ["--jump", "1", "--target", "none"],
        ["--jump", "1", "--external", "none"],
        ["--jump", "1", "--unknown"],
        ["--jump", "1", "another.onnx"],
        ["--jump", "1", "--target", "subgraph", "--inline"],
        ["--jump", "1", "--jump-input", ""],
        ["--jump", "1", "--jump-input", "x"],
        ["--jump", "1", "--exclude", "*"],
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: list[str], good: Path, refused: Callable[..., str]) -> None:
    assert refused("convert", good, *arguments)


# --- by the thousand --------------------------------------------------------------------------------------------------

#: Seconds for one example; nothing that it does is slow.
LIMIT = 20


def seeds() -> list[bytes]:
    """Small real models, and such with something in them that real ones seldom have."""
    real = [path for path in MODELS.glob("*.onnx") if path.stat().st_size < 12_000]
    real += [BACKEND_DATA / "simple" / "test_single_relu_model" / "model.onnx"]
    real += [path for path in (BACKEND_DATA / "light").glob("*.onnx") if path.stat().st_size < 10_000]
    x, zero = [value("x", shape=[2, 3])], np.zeros((), np.float32)
    clips = [
        node("Constant", "", "k", value_float=0.0),
        node("Clip", "x low", "a"),
        node("Max", "a k", "b"),
        node("ThresholdedRelu", "b", "c", alpha=0.5),
        node("QuantizeLinear", "c low zero", "q"),
        node("DequantizeLinear", "q low zero", "d"),
        node("Clip", "d k", "y"),
    ]
    fused = [node("FusedGemm", "x w", "y", domain="com.microsoft", activation="Relu")]
    made = [
        make_model(clips, x, [value("y")], initializers={"low": zero, "zero": np.uint8(0)}),
        make_model(fused, x, [value("y")], initializers={"w": np.eye(3, dtype=np.float32)}, domains=["com.microsoft"]),
        make_model(strange_models.nested_relu(""), [value("x")], [value("y")]),
        make_model(
            [node("Nested", "x", "y", domain="d")],
            x,
            [value("y")],
            functions=[strange_models.nested_function("d")],
            domains=["d"],
        ),
    ]
    external = strange_models.weighted_relu(np.ones(3, np.float32))
    external.graph.initializer[0].data_location = TensorProto.EXTERNAL
    external.graph.initializer[0].external_data.add(key="location", value="model.onnx")
    return [path.read_bytes() for path in sorted(real)] + [m.SerializeToString() for m in (*made, external)]


SEEDS = seeds()

#: What a text, or a message, becomes.
TEXTS = (b"", b"\xff", b"a\nb", b"x", b"y", b"Relu", b"Clip", b"Constant", b"Loop", b"LSTM", b"..", b"jr_onnx.version")
#: What a number becomes.
NUMBERS = (0, 1, 2, 3, 7, 11, 16, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    """Bytes changed, removed, doubled, cut off, put in, or followed by those of another model."""
    place = chance.randrange(len(content) + 1)
    rest = place + chance.choice((1, 2, 8, 64))
    other = chance.choice(SEEDS)
    return chance.choice(
        (
            content[:place],
            content[:place] + content[rest:],
            content[:rest] + content[place:],
            content[:place] + other[chance.randrange(len(other)) :],
            content[:place] + chance.randbytes(3) + content[place:],
            content[:place] + chance.randbytes(1) + content[place + 1 :],
            content[:place] + bytes(byte ^ 1 << chance.randrange(8) for byte in content[place:rest]) + content[rest:],
        )
    )


def damaged_fields(content: bytes, chance: random.Random, depth: int = 0) -> bytes:
    """A message with a field removed, doubled, moved or changed, at any depth; the lengths around it stay right."""
    try:
        fields = wire_format.parse(content)
    except ValueError:
        fields = []
    if not fields:
        return damaged_bytes(content, chance)
    index, other = chance.randrange(len(fields)), chance.randrange(len(fields))
    number, wire_type, inside, raw = fields[index]
    if wire_type == wire_format.BYTES and depth < 12 and chance.random() < 0.75:
        fields[index] = wire_format.field(number, wire_type, damaged_fields(inside, chance, depth + 1))
        return wire_format.joined(fields)
    how = chance.randrange(6)
    if how == 0:
        del fields[index]
    elif how == 1:
        fields.insert(other, fields[index])
    elif how == 2:
        fields[index], fields[other] = fields[other], fields[index]
    elif how == 3:
        raw = wire_format.varint(chance.randrange(1, 27) << 3 | wire_type) + raw[1 + (number > 15) :]
        fields[index] = fields[index]._replace(raw=raw)
    elif wire_type == wire_format.BYTES:
        fields[index] = wire_format.field(number, wire_type, chance.choice((*TEXTS, fields[other].value)))
    elif wire_type == wire_format.VARINT:
        fields[index] = wire_format.field(number, wire_type, chance.choice(NUMBERS))
    return wire_format.joined(fields)


def damaged(seed: int) -> bytes:
    """One of the models, damaged in one place or in a few."""
    chance = random.Random(seed)
    content = chance.choice(SEEDS)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        content = chance.choice((damaged_bytes, damaged_fields, damaged_fields, damaged_fields))(content, chance)
    return content


COMMANDS = [
    ("inspect", []),
    ("inspect", ["--json"]),
    ("convert", ["--jump", "0.5", "--clip", "--json"]),
    ("convert", ["--jump", "0.5", "--clip", "--inline", "--allow-empty"]),
    ("convert", ["--jump", "0.5", "--clip", "--target", "subgraph", "--jump-input"]),
    ("convert", ["--jump", "0.5", "--clip", "--target", "standard"]),
    ("convert", ["--jump", "0.5"]),
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for all examples. Whatever hangs in it, in code that Python cannot interrupt, ends the tests."""
    faulthandler.dump_traceback_later(600, exit=True)
    yield tmp_path_factory.mktemp("damaged")
    faulthandler.cancel_dump_traceback_later()


@settings(max_examples=4000, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**64 - 1), st.sampled_from(COMMANDS))
def test_a_damaged_model_is_refused_in_one_line_or_converted_whole(
    workplace: Path, seed: int, command: tuple[str, list[str]]
) -> None:
    path, output = workplace / "model.onnx", workplace / "model.jumprelu.onnx"
    path.write_bytes(damaged(seed))
    output.unlink(missing_ok=True)
    started = time.perf_counter()
    outcome = Outcome(workplace, (command[0], path, *command[1]))
    assert time.perf_counter() - started < LIMIT
    if outcome.code == 2:
        assert outcome.is_refusal(), vars(outcome)
    else:
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out
        assert outcome.new == ([output.name] if command[0] == "convert" else [])
        if outcome.new:
            planned_edits(path.read_bytes(), output.read_bytes())
