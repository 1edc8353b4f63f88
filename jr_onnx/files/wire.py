"""The protobuf wire format, read in place, and the fields of onnx.proto that splicing needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol, overload

from jr_onnx.errors import ModelError

VARINT, FIXED64, LENGTH_DELIMITED, START_GROUP, END_GROUP, FIXED32 = range(6)


class Buffer(Protocol):
    """A serialized message: bytes in memory, a file's memory map, or whatever else is read like these."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, item: int, /) -> int: ...
    @overload
    def __getitem__(self, item: slice, /) -> bytes: ...


class WireError(ModelError):
    """The bytes are not protobuf's wire format; the message says at which byte."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; export or copy the model again")


class Field(NamedTuple):
    """One field as it stands in the buffer: the tag at `start`, the value in [`value`, `end`)."""

    number: int
    wire_type: int
    start: int
    value: int
    end: int


def read_fields(buffer: Buffer, start: int, end: int) -> Iterator[Field]:
    """The fields of the message in [start, end), in order.

    Raises:
        WireError: a field does not end inside the message, or its tag is not one.
    """
    position = start
    while position < end:
        field = _read_field(buffer, position, end)
        yield field
        position = field.end


def _read_field(buffer: Buffer, start: int, end: int) -> Field:
    tag, value = read_varint(buffer, start, end)
    number, wire_type = tag >> 3, tag & 7
    if not 0 < number < 1 << 29:
        raise WireError(f"damaged at byte {start}: not a protobuf field")
    if wire_type == LENGTH_DELIMITED:
        length, value = read_varint(buffer, value, end)
        last = value + length
    elif wire_type == VARINT:
        last = read_varint(buffer, value, end)[1]
    elif wire_type == FIXED32:
        last = value + 4
    elif wire_type == FIXED64:
        last = value + 8
    else:
        # ONNX has never had a group; protobuf itself has deprecated them.
        raise WireError(f"damaged at byte {start}: wire type {wire_type} does not occur in ONNX")
    if last > end:
        raise WireError(f"truncated: the field at byte {start} ends {last - end} bytes behind its message")
    return Field(number, wire_type, start, value, last)


def read_varint(buffer: Buffer, position: int, end: int) -> tuple[int, int]:
    """The varint at `position` and the position behind it."""
    result = shift = 0
    while position < end and shift < 64:
        byte = buffer[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
    raise WireError(f"truncated or damaged at byte {position}: a number does not end")


def encode_varint(value: int) -> bytes:
    """A non-negative number as a varint."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_header(number: int, length: int) -> bytes:
    """The tag and the length in front of a length-delimited value."""
    return encode_varint(number << 3 | LENGTH_DELIMITED) + encode_varint(length)


def encode_field(number: int, value: bytes) -> bytes:
    """A length-delimited field."""
    return encode_header(number, len(value)) + value


def encode_integer(number: int, value: int) -> bytes:
    """A varint field with a non-negative value."""
    return encode_varint(number << 3 | VARINT) + encode_varint(value)


# --- The field numbers of onnx.proto that splicing needs, and which fields carry a tensor's payload -------------------

MODEL_IR_VERSION, MODEL_GRAPH, MODEL_OPSET_IMPORT, MODEL_METADATA, MODEL_FUNCTIONS = 1, 7, 8, 14, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 5, 11, 12
NODE_ATTRIBUTE = 5
ATTRIBUTE_G, ATTRIBUTE_GRAPHS = 6, 11
FUNCTION_NODE, FUNCTION_OPSET_IMPORT = 7, 9
TENSOR_EXTERNAL_DATA = 13

#: Message -> field number -> the message in that field, as far as a payload can lie below it.
CHILDREN: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}

#: Message -> the fields that carry a payload: TensorProto's *_data, and the s, floats, ints and strings of attributes.
PAYLOADS: Mapping[str, frozenset[int]] = {
    "Tensor": frozenset({4, 5, 6, 7, 9, 10, 11}),
    "Attribute": frozenset({4, 7, 8, 9}),
}
