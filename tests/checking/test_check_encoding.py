"""What `check` makes of files that say something in more than one way: it means what protobuf makes of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from checking import rules, shown
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from support import make_model, node, value
from wire_format import BYTES, WireField, field, joined, numbered, parse

import jr_onnx

GRAPH, INITIALIZER, NAME, STRING_DATA = 7, 5, 8, 6

Fields = list[WireField]


def two_weights() -> onnx.ModelProto:
    """Two weights of one shape, each too large for the skeleton."""
    weights = {name: np.full((1100,), number, np.float32) for number, name in enumerate("ab")}
    nodes = [node("Add", "x a", "s"), node("Relu", "s", "r"), node("Mul", "r b", "y")]
    return make_model(nodes, [value("x", shape=[1100])], [value("y", shape=[1100])], initializers=weights)


def two_texts() -> onnx.ModelProto:
    """A long string and a short one in one tensor."""
    model = make_model([node("Relu", "x", "y")], [value("x", shape=[2])], [value("y", shape=[2])])
    model.graph.initializer.append(onnx.helper.make_tensor("t", onnx.TensorProto.STRING, [2], [b"a" * 5000, b"b"]))
    return model


def changed(content: bytes, change: Callable[[Fields], Fields]) -> bytes:
    """A serialized model with other fields in its graph."""
    fields = parse(content)
    return joined(field(GRAPH, BYTES, joined(change(parse(f.value)))) if f.number == GRAPH else f for f in fields)


def exchanged(fields: Fields) -> Fields:
    """The data of the first two tensors exchanged: each has its old name first, and the other's behind it."""
    first, second, *others = (one.value for one in fields if one.number == INITIALIZER)
    new = [second + numbered(first, NAME)[0].raw, first + numbered(second, NAME)[0].raw, *others]
    rest = [one for one in fields if one.number != INITIALIZER]
    return [*rest, *(field(INITIALIZER, BYTES, one) for one in new)]


def texts_in_another_order(fields: Fields) -> Fields:
    inside = parse(next(one.value for one in fields if one.number == INITIALIZER))
    texts = [one for one in inside if one.number == STRING_DATA]
    rest = [one for one in inside if one.number != STRING_DATA]
    fields[next(i for i, one in enumerate(fields) if one.number == INITIALIZER)] = field(
        INITIALIZER, BYTES, joined([*rest, *reversed(texts)])
    )
    return fields


@pytest.mark.parametrize(("made", "change"), [(two_weights, exchanged), (two_texts, texts_in_another_order)])
def test_tensors_are_compared_as_protobuf_reads_them(
    made: Callable[[], onnx.ModelProto], change: Callable[[Fields], Fields], tmp_path: Path
) -> None:
    hardened = jr_onnx.convert(made(), jump=0.5).model
    assert hardened is not None
    path = tmp_path / "hard.onnx"
    path.write_bytes(changed(hardened.SerializeToString(), change))
    assert onnx.load(path) != hardened
    report = jr_onnx.check(made(), path, run=False)
    assert rules(report) == {"JR109"}, shown(report)


def scrambled(fields: Fields, draw: random.Random) -> Fields:
    """A field of a message, or of one in it, doubled, moved or left out."""
    place = draw.randrange(len(fields))
    one = fields[place]
    try:
        inside = parse(one.value) if one.wire_type == BYTES else []
    except (ValueError, IndexError):
        inside = []
    if inside and draw.random() < 0.8:
        fields[place] = field(one.number, BYTES, joined(scrambled(inside, draw)))
        return fields
    if draw.random() < 0.7:
        fields.insert(draw.randrange(len(fields) + 1), draw.choice(fields))
    if draw.random() < 0.7:
        del fields[place]
    return fields


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scrambled") / "hard.onnx"


@settings(max_examples=500, derandomize=True, deadline=None)
@given(st.integers(0, 2**64 - 1), st.sampled_from([two_weights, two_texts]), st.integers(1, 3))
def test_a_file_is_clean_only_if_protobuf_reads_what_convert_wrote(
    scratch: Path, seed: int, made: Callable[[], onnx.ModelProto], times: int
) -> None:
    hardened = jr_onnx.convert(made(), jump=0.5).model
    assert hardened is not None
    draw, content = random.Random(seed), hardened.SerializeToString()
    for _ in range(times):
        content = changed(content, lambda fields: scrambled(fields, draw))
    scratch.write_bytes(content)
    try:
        read = onnx.load(scratch)
        report = jr_onnx.check(made(), scratch, run=False)
    except (DecodeError, jr_onnx.ModelError):
        return
    assert report.findings or read == hardened


def with_external_attribute(offset: int) -> onnx.ModelProto:
    tensor = onnx.TensorProto(name="t", data_type=onnx.TensorProto.FLOAT, dims=[4], data_location="EXTERNAL")
    for key, text in {"location": "w.bin", "offset": str(offset), "length": "16"}.items():
        tensor.external_data.add(key=key, value=text)
    nodes = [node("Constant", "", "c", value=tensor), node("Add", "x c", "a"), node("Relu", "a", "y")]
    return make_model(nodes, [value("x", shape=[4])], [value("y", shape=[4])])


@pytest.mark.parametrize("beside", [False, True])
def test_external_data_of_attributes_are_never_read_from_the_current_folder(
    beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    models.mkdir()
    elsewhere.mkdir()
    (models / "w.bin").write_bytes(bytes(64))
    if beside:
        (elsewhere / "w.bin").write_bytes(b"\x01" * 64)
    for name, offset in (("a", 0), ("b", 16)):
        onnx.save(with_external_attribute(offset), models / f"{name}.onnx")
    monkeypatch.chdir(elsewhere)
    jr_onnx.convert(models / "b.onnx", jump=0.5, output=models / "hard.onnx")
    assert not jr_onnx.check(models / "b.onnx", models / "hard.onnx", run=False).findings
    report = jr_onnx.check(models / "a.onnx", models / "hard.onnx", run=False)
    assert any("offset=16" in one.message and "offset=0" in one.message for one in report.findings), shown(report)
    others = jr_onnx.diff(models / "a.onnx", models / "b.onnx").others
    assert [(one.before, one.after) for one in others] == [
        ("location=w.bin, offset=0, length=16", "location=w.bin, offset=16, length=16")
    ]
