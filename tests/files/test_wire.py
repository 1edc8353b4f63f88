"""The wire format as the package reads it, against the tests' own reading and against protobuf."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import wire_format
from hypothesis import given
from hypothesis import strategies as st
from support import SHIPPED

from jr_onnx.files import wire
from jr_onnx.files.wire import WireError

numbers = st.integers(1, 2**29 - 1) | st.integers(1, 40)
widths = st.integers(0, 9)
fields = st.one_of(
    st.builds(wire_format.field, numbers, st.just(wire_format.VARINT), st.integers(0, 2**63 - 1), width=widths),
    st.builds(wire_format.field, numbers, st.just(wire_format.BYTES), st.binary(max_size=300), width=widths),
    st.builds(wire_format.field, numbers, st.just(wire_format.FIXED32), st.binary(min_size=4, max_size=4)),
    st.builds(wire_format.field, numbers, st.just(wire_format.FIXED64), st.binary(min_size=8, max_size=8)),
)
messages = st.lists(fields, max_size=8).map(wire_format.joined)


def read(message: bytes) -> list[wire.Field]:
    return list(wire.read_fields(message, 0, len(message)))


def same_fields(message: bytes) -> bool:
    got = [(f.number, f.wire_type, message[f.value : f.end], message[f.start : f.end]) for f in read(message)]
    return got == [tuple(field) for field in wire_format.parse(message)]


@given(messages)
def test_fields_stand_where_the_tests_own_reading_finds_them(message: bytes) -> None:
    assert same_fields(message)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_fields_of_a_real_model_stand_where_the_tests_own_reading_finds_them(path: Path) -> None:
    content = path.read_bytes()
    assert same_fields(content)
    assert same_fields(wire_format.only(content, onnx.ModelProto.GRAPH_FIELD_NUMBER))


@given(messages, st.data())
def test_a_message_that_is_cut_off_is_an_error_or_ends_between_two_fields(message: bytes, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(message)))
    ends = {field.end for field in read(message)} | {0}
    if end in ends:
        assert [field.end for field in read(message[:end])] == [e for e in sorted(ends) if 0 < e <= end]
    else:
        with pytest.raises(WireError, match="truncated"):
            read(message[:end])


@given(messages, messages)
def test_nothing_behind_the_end_of_a_message_is_read(message: bytes, behind: bytes) -> None:
    assert list(wire.read_fields(message + behind, 0, len(message))) == read(message)


@given(st.integers(0, 2**64 - 1), widths)
def test_a_number_is_read_whether_or_not_it_is_longer_than_it_needs_to_be(number: int, width: int) -> None:
    encoded = wire_format.varint(number, width)
    assert wire.read_varint(b"\xff" + encoded + b"\x01", 1, len(encoded) + 2) == (number, len(encoded) + 1)


@given(st.integers(0, 2**64 - 1))
def test_a_number_is_written_as_protobuf_writes_it(number: int) -> None:
    assert wire.encode_varint(number) == wire_format.varint(number)
    model = onnx.ModelProto(ir_version=number & 2**63 - 1)
    assert wire.encode_integer(onnx.ModelProto.IR_VERSION_FIELD_NUMBER, number & 2**63 - 1) == model.SerializeToString()


@given(st.text())
def test_a_field_is_written_as_protobuf_writes_it(text: str) -> None:
    model = onnx.ModelProto(doc_string=text)
    assert wire.encode_field(onnx.ModelProto.DOC_STRING_FIELD_NUMBER, text.encode()) == model.SerializeToString()


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (b"\x00\x01", "damaged at byte 0: not a protobuf field"),
        (b"\x08\x01\x07", "damaged at byte 2: not a protobuf field"),
        (b"\x0b\x0c", "damaged at byte 0: wire type 3"),
        (b"\x0c", "damaged at byte 0: wire type 4"),
        (b"\x0e", "damaged at byte 0: wire type 6"),
        (b"\x0f", "damaged at byte 0: wire type 7"),
        (wire_format.varint(2**29 << 3) + b"\x01", "damaged at byte 0: not a protobuf field"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "a number does not end"),
        (b"\x08\x80", "a number does not end"),
        (b"\x0a\x05abcd", "truncated: the field at byte 0 ends 1 bytes behind its message"),
        (b"\x0a" + wire_format.varint(2**63), "truncated: the field at byte 0"),
        (b"\x0d\x00\x00\x00", "truncated: the field at byte 0 ends 1 bytes"),
        (b"\x09\x00\x00\x00\x00\x00\x00\x00", "truncated: the field at byte 0 ends 1 bytes"),
    ],
)
def test_what_is_no_message_is_an_error_that_names_the_byte(message: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        read(message)
