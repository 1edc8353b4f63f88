"""A second reading of protobuf's wire format, to judge the package's own: plain, slow, and sharing no code with it.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

#: A field number that no message of onnx.proto has.
UNKNOWN = 9999


class WireField(NamedTuple):
    """One field: `raw` is all of it, tag and length included; `value` is what is in it."""

    number: int
    wire_type: int
    value: bytes
    raw: bytes


def parse(message: bytes) -> list[WireField]:
    """The fields of a message, in order; ValueError where it is not one."""
    fields, position = [], 0
    while position < len(message):
        start = position
        tag, position = _varint(message, position)
        wire_type, inside = tag & 7, position
        if wire_type == VARINT:
            _, position = _varint(message, position)
        elif wire_type == BYTES:
            length, inside = _varint(message, position)
            position = inside + length
        elif wire_type in (FIXED32, FIXED64):
            position += 4 if wire_type == FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire_type}")
        if position > len(message) or not tag >> 3:
            raise ValueError(f"no field at {start}")
        fields.append(WireField(tag >> 3, wire_type, message[inside:position], message[start:position]))
    return fields


def only(message: bytes, number: int) -> bytes:
    """The value of the one field of that number."""
    [field] = numbered(message, number)
    return field.value


def numbered(message: bytes, number: int) -> list[WireField]:
    """The fields of that number."""
    return [field for field in parse(message) if field.number == number]


def joined(fields: Iterable[WireField]) -> bytes:
    """A message of whole fields."""
    return b"".join(field.raw for field in fields)


def varint(value: int, width: int = 0) -> bytes:
    """A number as a varint, padded to so many bytes, which protobuf reads all the same."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    groups += [0] * (width - len(groups))
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def field(number: int, wire_type: int, value: bytes | int, *, width: int = 0) -> WireField:
    """A field from its value (of a varint field, the number); `width` pads its tag or its length."""
    tag = varint(number << 3 | wire_type)
    if isinstance(value, int):
        value = varint(value, width)
        return WireField(number, wire_type, value, tag + value)
    return WireField(number, wire_type, value, tag + (varint(len(value), width) if wire_type == BYTES else b"") + value)


def unknown_fields(where: str) -> list[WireField]:
    """One field of every wire type with a number that ONNX does not know, and with something to recognise it by."""
    text = where.encode()
    return [
        field(UNKNOWN, BYTES, b"unknown in " + text),
        field(UNKNOWN + 1, VARINT, 2**64 - len(text)),
        field(UNKNOWN + 2, FIXED32, (text + b"    ")[:4]),
        field(UNKNOWN + 3, FIXED64, (text + b"        ")[:8]),
    ]


def disguised(
    message: bytes, descriptor: Any, chance: random.Random, *, shuffle: bool = True, unknown: bool = True
) -> bytes:
    """The same message to protobuf, written as no exporter does it.

    Fields of different numbers change places and interleave (those of one number keep their order, which has a
    meaning), lengths and numbers have more bytes than they need, and there are unknown fields, at every level.

    Args:
        descriptor: of the message type: `onnx.ModelProto.DESCRIPTOR`.
        chance: decides about the order and the padding.
        shuffle: whether the order changes.
        unknown: whether unknown fields are added.
    """
    written = []
    for item in parse(message):
        known = descriptor.fields_by_number.get(item.number)
        value: bytes | int = item.value
        if item.wire_type == VARINT:
            value = _varint(item.value, 0)[0]
        elif known is not None and known.message_type is not None and item.wire_type == BYTES:
            value = disguised(item.value, known.message_type, chance, shuffle=shuffle, unknown=unknown)
        width = chance.choice((0, 3, 5)) if item.wire_type in (VARINT, BYTES) else 0
        written.append(field(item.number, item.wire_type, value, width=width))
    if shuffle:
        written = _interleaved(written, chance)
    if unknown:
        for extra in unknown_fields(descriptor.name):
            written.insert(chance.randrange(len(written) + 1), extra)
    return joined(written)


def _interleaved(fields: list[WireField], chance: random.Random) -> list[WireField]:
    queues: dict[int, list[WireField]] = defaultdict(list)
    for item in reversed(fields):
        queues[item.number].append(item)
    order = [item.number for item in fields]
    chance.shuffle(order)
    return [queues[number].pop() for number in order]


def _varint(message: bytes, position: int) -> tuple[int, int]:
    result = 0
    for index, byte in enumerate(message[position : position + 10]):
        result |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return result, position + index + 1
    raise ValueError(f"no number at {position}")
