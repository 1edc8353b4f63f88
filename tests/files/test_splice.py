"""Edits on a serialized message: whatever is not edited is the original, byte for byte."""

from __future__ import annotations

import random

import onnx
import pytest
import wire_format
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from wire_format import BYTES, WireField, field, joined, parse

from jr_onnx.files.splice import Message, Span, join, size_of
from jr_onnx.files.wire import WireError

#: A message as a tree: each field is (number, padding of its length, what is in it: bytes, a number, or a message).
Tree = list[tuple[int, int, "bytes | int | Tree"]]

scalars = st.integers(0, 2**63 - 1) | st.binary(max_size=40)
widths = st.sampled_from([0, 0, 4])


def _with_children(content: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    # Messages have numbers of their own, so that bytes are never taken for a message.
    leaf = st.tuples(st.integers(1, 3), widths, scalars)
    branch = st.tuples(st.integers(4, 6), widths, content)
    return st.lists(leaf | branch, max_size=6)


trees = st.recursive(st.lists(st.tuples(st.integers(1, 3), widths, scalars), max_size=4), _with_children, max_leaves=20)


def encode(tree: Tree) -> bytes:
    return joined(encode_field(*item) for item in tree)


def encode_field(number: int, width: int, content: bytes | int | Tree) -> WireField:
    if isinstance(content, int):
        return field(number, wire_format.VARINT, content, width=width)
    return field(number, BYTES, encode(content) if isinstance(content, list) else content, width=width)


def edit_both(tree: Tree, message: Message, chance: random.Random) -> tuple[bytes, bool]:
    """Edit `message` here and there; what must come out, made from the tree, and whether anything was edited."""
    edited = False
    written: list[bytes] = []
    numbers: dict[tuple[int, int], int] = {}
    position = message.start
    for item in tree:
        raw = encode_field(*item).raw
        number, _, content = item
        kind = (number, wire_format.VARINT if isinstance(content, int) else BYTES)
        index = numbers[kind] = numbers.get(kind, -1) + 1
        found = message.fields(*kind)[index]
        assert (found.start, found.end) == (position, position + len(raw))
        position += len(raw)
        choice = chance.choice(("keep", "keep", "keep", "replace", "remove", "insert", "inside", "inside"))
        if choice == "insert":
            new = field(7, BYTES, chance.randbytes(chance.randrange(200))).raw
            message.insert(found.start, new)
            written.append(new)
        if choice == "inside" and isinstance(content, list):
            inner, changed = edit_both(content, message.child(number, index), chance)
            # Only a message with an edit in it gets a new length; the others keep theirs, however it is written.
            written.append(field(number, BYTES, inner).raw if changed else raw)
            edited |= changed
        elif choice in ("replace", "remove"):
            new = field(8, BYTES, chance.randbytes(chance.randrange(200))).raw if choice == "replace" else b""
            message.replace(found, new)
            written.append(new)
        else:
            written.append(raw)
        edited |= choice in ("replace", "remove", "insert")
    if chance.random() < 0.3:
        message.append(9, b"appended")
        written.append(field(9, BYTES, b"appended").raw)
        edited = True
    return b"".join(written), edited


@given(trees)
def test_a_message_without_edits_is_one_span_of_the_original(tree: Tree) -> None:
    original = encode(tree)
    message = Message(original, 0, len(original))
    for number in (4, 5, 6):
        for index in range(len(message.fields(number))):
            message.child(number, index).fields(1)
    assert not message.edited
    assert message.pieces() == ([Span(0, len(original))] if original else [])


@given(trees, st.randoms(use_true_random=False))
def test_edits_at_any_depth_change_nothing_else(tree: Tree, chance: random.Random) -> None:
    original = encode(tree)
    message = Message(original, 0, len(original))
    expected, edited = edit_both(tree, message, chance)
    pieces = message.pieces()
    assert join(original, pieces) == expected
    assert size_of(pieces) == len(expected)
    assert message.edited == edited
    assert all(len(piece) for piece in pieces)


@given(trees, st.randoms(use_true_random=False), st.binary(max_size=20), st.binary(max_size=20))
def test_a_message_in_the_middle_of_a_buffer_is_edited_as_one_alone(
    tree: Tree, chance: random.Random, before: bytes, behind: bytes
) -> None:
    original = encode(tree)
    message = Message(before + original + behind, len(before), len(before) + len(original))
    expected, _ = edit_both(tree, message, chance)
    assert join(before + original + behind, message.pieces()) == expected


def nested(depth: int) -> onnx.GraphProto:
    """A graph with a node with a graph with a node ..., some of them beside plain nodes."""
    nodes = [helper.make_node("Relu", ["x"], [f"y{depth}"], name=f"relu{depth}")]
    if depth:
        nodes.append(helper.make_node("If", ["c"], [f"z{depth}"], then_branch=nested(depth - 1)))
    return helper.make_graph(nodes, f"graph{depth}", [], [])


@pytest.mark.parametrize("depth", range(5))
@pytest.mark.parametrize("padding", [0, 1, 127, 128, 16384, 3_000_000])
def test_protobuf_reads_the_edited_message_as_the_same_edits_on_its_own_objects_give_it(
    depth: int, padding: int
) -> None:
    graph = nested(4)
    original = graph.SerializeToString()
    message = Message(original, 0, len(original))
    inner, expected = message, graph
    for _ in range(depth):
        inner = inner.child(1, 1).child(5, 0).child(6)
        expected = expected.node[1].attribute[0].g
    # The padding makes the lengths around it grow by as many bytes as they can.
    new = helper.make_node("JumpReLU", ["x"], ["y"], doc_string="d" * padding)
    inner.replace(inner.fields(1)[0], field(1, BYTES, new.SerializeToString()).raw)
    inner.append(2, b"renamed")
    expected.node[0].CopyFrom(new)
    expected.name = "renamed"
    assert onnx.GraphProto.FromString(join(original, message.pieces())) == graph


def test_what_is_put_in_front_of_a_field_stands_before_what_takes_its_place() -> None:
    original = field(1, BYTES, b"first").raw + field(1, BYTES, b"second").raw
    message = Message(original, 0, len(original))
    message.replace(message.fields(1)[1], field(1, BYTES, b"new").raw)
    message.insert(message.fields(1)[1].start, field(1, BYTES, b"in front").raw)
    message.append(1, b"last")
    message.append(1, b"the very last")
    written = [item.value for item in parse(join(original, message.pieces()))]
    assert written == [b"first", b"in front", b"new", b"last", b"the very last"]


def test_a_field_is_appended_where_protobuf_would_put_it() -> None:
    numbers = (1, 2, 2, 5, 8)
    original = b"".join(field(number, BYTES, b"old").raw for number in numbers)
    message = Message(original, 0, len(original))
    for number in (2, 5, 7, 9):
        message.append(number, b"new")
    written = [(item.number, item.value) for item in parse(join(original, message.pieces()))]
    assert [number for number, _ in written] == [1, 2, 2, 2, 5, 5, 7, 8, 9]
    assert [index for index, (_, text) in enumerate(written) if text == b"new"] == [3, 5, 6, 8]


def test_an_empty_message_can_be_added_to() -> None:
    message = Message(b"", 0, 0)
    message.append(1, b"new")
    assert join(b"", message.pieces()) == field(1, BYTES, b"new").raw


def test_a_field_of_another_wire_type_is_not_among_those_of_its_number() -> None:
    wrong, right = field(1, wire_format.VARINT, 5).raw, field(1, BYTES, b"right").raw
    message = Message(wrong + right, 0, len(wrong + right))
    assert [item.start for item in message.fields(1)] == [len(wrong)]
    assert message.child(1).start == len(wrong) + 2


@pytest.mark.parametrize("times", [0, 2])
def test_a_singular_message_must_occur_just_once(times: int) -> None:
    original = field(7, BYTES, b"").raw * times
    with pytest.raises(WireError, match=f"field 7 of the message at byte 0 occurs {times} times instead of once"):
        Message(original, 0, len(original)).child(7)
