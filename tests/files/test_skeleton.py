"""The skeleton of a model: all of it but the payloads."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
import strange_models
import wire_format
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from support import BACKEND_DATA, SHIPPED

from jr_onnx.files.skeleton import NESTING_LIMIT, PAYLOAD_LIMIT, skeleton_of
from jr_onnx.files.source import open_file, open_proto
from jr_onnx.files.wire import WireError

REAL = [*SHIPPED, *sorted((BACKEND_DATA / "light").glob("*.onnx"))]

#: Message -> the fields that are payload: packed arrays of a tensor, and texts and packed arrays of an attribute.
PAYLOADS = {
    "TensorProto": ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"),
    "AttributeProto": ("s",),
}
TEXTS = {"TensorProto": "string_data", "AttributeProto": "strings"}


def without_payloads(message: Message) -> Message:
    """The same by way of protobuf's objects; changes the message."""
    kind = message.DESCRIPTOR.name
    for name in PAYLOADS.get(kind, ()):
        alone = type(message)()
        alone.CopyFrom(message)
        for other, _ in message.ListFields():
            if other.name != name:
                alone.ClearField(other.name)
        if any(len(item.value) > PAYLOAD_LIMIT for item in wire_format.parse(alone.SerializeToString())):
            message.ClearField(name)
    if kind in TEXTS:
        kept = [text for text in getattr(message, TEXTS[kind]) if len(text) <= PAYLOAD_LIMIT]
        del getattr(message, TEXTS[kind])[:]
        getattr(message, TEXTS[kind]).extend(kept)
    for descriptor, content in message.ListFields():
        if descriptor.message_type is not None:
            for child in [content] if isinstance(content, Message) else content:
                without_payloads(child)
    return message


def assert_skeleton(content: bytes) -> bytes:
    skeleton = skeleton_of(content)
    assert onnx.ModelProto.FromString(skeleton) == without_payloads(onnx.ModelProto.FromString(content))
    return skeleton


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_the_skeleton_of_a_real_model_is_the_model_without_its_payloads(path: Path) -> None:
    assert_skeleton(path.read_bytes())


@pytest.mark.parametrize("seed", range(5))
def test_the_skeleton_of_a_strange_model_is_the_model_without_its_payloads(seed: int) -> None:
    content = strange_models.everything().SerializeToString()
    shuffled = wire_format.disguised(content, onnx.ModelProto.DESCRIPTOR, random.Random(seed))
    assert len(assert_skeleton(content)) < len(content) / 4
    assert len(assert_skeleton(shuffled)) < len(content) / 4


@given(st.lists(st.integers(PAYLOAD_LIMIT - 9, PAYLOAD_LIMIT + 9) | st.integers(0, 3 * PAYLOAD_LIMIT), max_size=4))
def test_payloads_of_any_length_are_kept_or_left_out_whole(lengths: list[int]) -> None:
    tensors = [onnx.TensorProto(name=f"t{i}", raw_data=b"\xff" * n) for i, n in enumerate(lengths)]
    nodes = [
        helper.make_node("Constant", [], ["c"], value_string="s" * n, value_strings=["t" * n, "short"]) for n in lengths
    ]
    graph = onnx.GraphProto(initializer=tensors, node=nodes)
    body = onnx.NodeProto(op_type="If", attribute=[onnx.AttributeProto(name="then_branch", g=graph)])
    assert_skeleton(onnx.ModelProto(ir_version=8, graph=onnx.GraphProto(node=[body])).SerializeToString())


@pytest.mark.parametrize("path", [path for path in REAL if path.stat().st_size < PAYLOAD_LIMIT], ids=lambda p: p.name)
def test_a_model_without_large_payloads_is_its_own_skeleton(path: Path) -> None:
    assert skeleton_of(path.read_bytes()) == path.read_bytes()


def test_what_is_nested_too_deeply_is_an_error() -> None:
    content = b"\0" * (PAYLOAD_LIMIT + 1)
    for _ in range(NESTING_LIMIT):
        content = wire_format.field(6, wire_format.BYTES, content).raw  # AttributeProto.g
        content = wire_format.field(5, wire_format.BYTES, content).raw  # NodeProto.attribute
        content = wire_format.field(1, wire_format.BYTES, content).raw  # GraphProto.node
    with pytest.raises(WireError, match="nested deeper than 100 messages"):
        skeleton_of(wire_format.field(7, wire_format.BYTES, content).raw)


def test_the_digest_tells_structures_apart_and_does_not_depend_on_weights() -> None:
    def digest(model: onnx.ModelProto) -> str:
        return open_proto(model).digest

    rng = np.random.default_rng(0)
    one, other = (strange_models.weighted_relu(rng.standard_normal(5000).astype(np.float32)) for _ in range(2))
    assert digest(one) == digest(other)
    other.graph.node[1].name = "renamed"
    assert digest(one) != digest(other)
    small, changed = (strange_models.weighted_relu(np.full(3, value, np.float32)) for value in (1, 2))
    assert digest(small) != digest(changed)


def test_a_file_and_a_model_in_memory_have_the_same_skeleton_and_digest(tmp_path: Path) -> None:
    model = strange_models.everything()
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    memory = open_proto(model)
    with open_file(tmp_path / "model.onnx") as file:
        assert (file.skeleton, file.digest) == (memory.skeleton, memory.digest)
        assert file.buffer[:] == memory.buffer


def test_a_skeleton_keeps_the_shape_and_the_name_of_a_tensor_without_its_payload() -> None:
    model = strange_models.weighted_relu(np.zeros((30, 100), np.float32))
    [tensor] = onnx.ModelProto.FromString(skeleton_of(model.SerializeToString())).graph.initializer
    assert tensor == onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[30, 100])
    assert numpy_helper.to_array(model.graph.initializer[0]).shape == (30, 100)
