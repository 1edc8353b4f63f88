"""Nothing else changes: the wire format of a file and of its conversion, field by field."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import strange_models
import wire_format
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import FunctionProto, GraphProto, ModelProto, helper
from planned_edits import FREE_INITIALIZERS, planned_edits
from support import BACKEND_DATA, SHIPPED, TARGETS, make_model, node, value
from wire_format import parse

from jr_onnx import convert
from jr_onnx.cli.main import main

#: The real models with a ReLU; older versions of onnx bring more, most of them with one node each.
REAL = [
    *SHIPPED,
    *sorted((BACKEND_DATA / "light").glob("*.onnx")),
    BACKEND_DATA / "simple" / "test_single_relu_model" / "model.onnx",
]
UNKNOWN = {field.number for field in wire_format.unknown_fields("")}


def convert_bytes(content: bytes, folder: Path, **options: Any) -> tuple[bytes, int]:
    """The conversion of a model by way of files, and the number of its sites."""
    source, output = folder / "source.onnx", folder / "hardened.onnx"
    source.write_bytes(content)
    report = convert(source, output=output, **{"jump": 0.5, **options})
    assert source.read_bytes() == content
    return output.read_bytes(), len(report.sites)


def assert_nothing_else_changes(content: bytes, folder: Path, **options: Any) -> bytes:
    hardened, sites = convert_bytes(content, folder, **options)
    assert planned_edits(content, hardened) == sites > 0
    return hardened


def disguised(content: bytes, seed: int) -> bytes:
    """The same model in an odd order, with long numbers and unknown fields everywhere."""
    return wire_format.disguised(content, ModelProto.DESCRIPTOR, random.Random(seed))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_nothing_else_changes_in_a_real_model(path: Path, target: str, tmp_path: Path) -> None:
    assert_nothing_else_changes(path.read_bytes(), tmp_path, **TARGETS[target], clip=True)


@pytest.mark.parametrize("path", [path for path in REAL if "Clip" in path.read_text("latin-1")], ids=lambda p: p.name)
def test_nothing_else_changes_where_clips_are_left_alone(path: Path, tmp_path: Path) -> None:
    hardened, sites = convert_bytes(path.read_bytes(), tmp_path, allow_empty=True)
    assert planned_edits(path.read_bytes(), hardened) == sites


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_nothing_else_changes_in_a_real_model_written_as_no_exporter_does_it(path: Path, tmp_path: Path) -> None:
    content = disguised(path.read_bytes(), len(path.name))
    assert_nothing_else_changes(content, tmp_path, clip=True)


def test_every_other_real_model_is_refused_with_the_reason_unless_it_has_a_relu_after_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = sorted(set(BACKEND_DATA.rglob("*.onnx")) - set(REAL))
    assert len(others) > 100
    reasons = ("no Relu in this model", "no Relu that can be converted", "convert_version", "imports no version")
    output = tmp_path / "hardened.onnx"
    for path in others:
        code = main(["convert", str(path), "--jump", "1", "--clip", "-o", str(output)])
        complaint = capsys.readouterr().err
        if code == 0:
            assert planned_edits(path.read_bytes(), output.read_bytes())
            output.unlink()
        else:
            assert code == 2
            assert complaint.startswith(f"jr-onnx convert: {path}: ")
            assert any(reason in complaint for reason in reasons), complaint
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("jump_input", [None, "jump"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", [None, *range(3)])
def test_nothing_else_changes_in_a_model_with_everything(
    target: str, seed: int | None, jump_input: str | None, tmp_path: Path
) -> None:
    model = strange_models.everything()
    if jump_input is not None:
        del model.functions[:]  # a function sees no graph input
    content = model.SerializeToString()
    if seed is not None:
        content = disguised(content, seed)
    hardened = assert_nothing_else_changes(content, tmp_path, **TARGETS[target], jump_input=jump_input)
    assert {field.number for field in parse(hardened)} >= UNKNOWN or seed is None


@settings(max_examples=25)
@given(st.randoms(use_true_random=False), st.booleans(), st.booleans(), st.sampled_from(sorted(TARGETS)))
def test_nothing_else_changes_however_the_same_model_is_written(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, shuffle: bool, unknown: bool, target: str
) -> None:
    content = strange_models.everything().SerializeToString()
    content = wire_format.disguised(content, ModelProto.DESCRIPTOR, chance, shuffle=shuffle, unknown=unknown)
    assert_nothing_else_changes(content, tmp_path_factory.mktemp("model"), **TARGETS[target])


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11])
@pytest.mark.parametrize("ir_version", [3, 4, 7])
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_else_changes_in_an_old_model(opset: int, ir_version: int, target: str, tmp_path: Path) -> None:
    x, y = value("x", shape=[3]), value("y", shape=[3])
    nodes = [node("Add", "x w", "sum"), node("Relu", "sum", "a"), node("Add", "a w2", "b"), node("Relu", "b", "y")]
    weights = {"w": np.ones(3, np.float32), "w2": np.ones(3, np.float32)}
    model = make_model(nodes, [x], [y], opset=opset, ir_version=ir_version, initializers=weights)
    content = disguised(model.SerializeToString(), opset)
    hardened = ModelProto.FromString(assert_nothing_else_changes(content, tmp_path, **TARGETS[target]))
    raised = hardened.ir_version > ir_version
    assert raised == (target == "custom-op")
    # From IR version 4 on an initializer that is an input too can be overridden: what was constant stays so.
    named = {item.name for item in hardened.graph.input}
    assert named == ({"x", "w", "w2"} if ir_version < FREE_INITIALIZERS and not raised else {"x"})
    listed = {tensor.name for tensor in hardened.graph.initializer}
    assert listed <= named or hardened.ir_version >= FREE_INITIALIZERS


@pytest.mark.parametrize("target", TARGETS)
def test_a_model_that_is_left_as_it_is_gets_nothing_but_its_metadata(target: str, tmp_path: Path) -> None:
    content = disguised(strange_models.everything().SerializeToString(), 1)
    hardened, sites = convert_bytes(content, tmp_path, **TARGETS[target], exclude=["*"], allow_empty=True)
    assert sites == 0
    assert hardened[: len(content)] == content
    added = parse(hardened[len(content) :])
    assert {field.number for field in added} == {ModelProto.METADATA_PROPS_FIELD_NUMBER}


@pytest.mark.parametrize("target", TARGETS)
def test_a_relu_hands_on_its_name_doc_string_metadata_and_unknown_fields(target: str, tmp_path: Path) -> None:
    model = strange_models.weighted_relu(np.ones(3, np.float32))
    relu = model.graph.node[1]
    relu.doc_string = "their doc string"
    relu.metadata_props.append(strange_models.entry("their", "metadata"))
    unknown = wire_format.unknown_fields("relu")
    relu.MergeFromString(wire_format.joined(unknown))
    hardened, _ = convert_bytes(model.SerializeToString(), tmp_path, **TARGETS[target])
    [heir] = [item for item in ModelProto.FromString(hardened).graph.node if item.name == "relu"]
    assert heir.doc_string == relu.doc_string
    assert heir.metadata_props[0] == relu.metadata_props[0]
    assert all(entry.key.startswith("jr_onnx.") for entry in heir.metadata_props[1:])
    assert wire_format.joined(unknown) in heir.SerializeToString()


def test_metadata_that_are_not_ours_stay_where_they_are(tmp_path: Path) -> None:
    model = strange_models.weighted_relu(np.ones(3, np.float32))
    model.metadata_props.extend([strange_models.entry("jr_onn", "theirs"), strange_models.entry("", "")])
    hardened, _ = convert_bytes(model.SerializeToString(), tmp_path)
    kept = ModelProto.FromString(hardened).metadata_props
    assert list(kept[:2]) == list(model.metadata_props)
    assert all(entry.key.startswith("jr_onnx.") for entry in kept[2:])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_converting_again_gives_what_converting_once_gives(path: Path, target: str, tmp_path: Path) -> None:
    once, _ = convert_bytes(path.read_bytes(), tmp_path, **TARGETS[target], jump=0.25, clip=True)
    twice, _ = convert_bytes(once, tmp_path, **TARGETS[target], jump=0.25, clip=True)
    assert without_digest(twice) == without_digest(once)


def without_digest(content: bytes) -> list[bytes]:
    """The fields of a model but for the digest of its source, in any order."""
    return sorted(field.raw for field in parse(content) if b"jr_onnx.source_sha256" not in field.raw[:40])


#: What must not happen to a model, by what it is called.
FORBIDDEN: Mapping[str, Callable[[ModelProto], object]] = {
    "a doc string changes": lambda m: setattr(m, "doc_string", "other"),
    "the producer is gone": lambda m: m.ClearField("producer_name"),
    "a weight changes": lambda m: setattr(m.graph.initializer[0], "raw_data", b"\0" * 12000),
    "an initializer is gone": lambda m: m.graph.initializer.pop(1),
    "initializers change places": lambda m: m.graph.initializer.insert(0, m.graph.initializer.pop(1)),
    "an initializer is new": lambda m: m.graph.initializer.append(onnx.TensorProto(name="new")),
    "a node is gone": lambda m: m.graph.node.pop(2),  # a constant that nothing takes
    "a node is new": lambda m: m.graph.node.append(helper.make_node("Neg", ["x"], ["new"])),
    "a node loses its metadata": lambda m: m.graph.node[2].ClearField("metadata_props"),
    "nodes change places": lambda m: m.graph.node.insert(2, m.graph.node.pop(3)),
    "a relu is gone": lambda m: m.graph.node[0].CopyFrom(helper.make_node("Neg", ["sum"], ["out"])),
    "a hardened node loses its doc string": lambda m: m.graph.node[0].ClearField("doc_string"),
    "a hardened node reads another value": lambda m: m.graph.node[0].input.__setitem__(0, "x"),
    "a node in a body changes": lambda m: setattr(_loop(m).node[1], "op_type", "Neg"),
    "a body loses its doc string": lambda m: _loop(m).ClearField("doc_string"),
    "a function changes": lambda m: setattr(m.functions[0], "doc_string", "other"),
    "a function is new": lambda m: m.functions.append(FunctionProto(domain="other")),
    "an annotation is gone": lambda m: m.graph.ClearField("quantization_annotation"),
    "a sparse initializer changes": lambda m: m.graph.sparse_initializer[0].dims.append(1),
    "the training is gone": lambda m: m.ClearField("training_info"),
    "a value's type is gone": lambda m: m.graph.value_info.pop(),
    "an input changes": lambda m: setattr(m.graph.input[0], "doc_string", "other"),
    "an output is gone": lambda m: m.graph.output.pop(),
    "metadata are gone": lambda m: m.metadata_props.pop(0),
    "metadata are new": lambda m: m.metadata_props.append(strange_models.entry("new", "")),
    "an import changes": lambda m: setattr(m.opset_import[0], "version", 19),
    "the IR version falls": lambda m: setattr(m, "ir_version", 9),
}


def _loop(model: ModelProto) -> GraphProto:
    [loop] = [item for item in model.graph.node if item.op_type == "Loop"]
    return next(attribute.g for attribute in loop.attribute if attribute.name == "body")


@pytest.mark.parametrize("name", FORBIDDEN)
def test_the_comparison_notices_when(name: str, tmp_path: Path) -> None:
    model = strange_models.everything()
    content = model.SerializeToString()
    hardened, sites = convert_bytes(content, tmp_path)
    assert planned_edits(content, hardened) == sites
    # What the conversion of another model comes to is not what the conversion of this one may come to.
    FORBIDDEN[name](model)
    other, _ = convert_bytes(model.SerializeToString(), tmp_path)
    with pytest.raises(AssertionError):
        planned_edits(content, other)
