"""A model without its large payloads: what an analysis looks at, in the size of the graph alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import onnx

from jr_onnx.files.splice import Message, join
from jr_onnx.files.wire import CHILDREN, PAYLOADS, Buffer, Field, WireError, encode_field

#: Payloads up to this many bytes stay in: shapes, axes, the bounds of a Clip.
PAYLOAD_LIMIT = 4096

#: protobuf's own limit: what is nested deeper is not parsed by any ONNX tool.
NESTING_LIMIT = 100


#: Message -> the field that tells it from its neighbours: the name, or of a node the first output.
_NAMES = {"Tensor": 8, "Node": 2, "Attribute": 1, "Function": 1}

#: What stands in a field in place of the payload that starts at this byte.
StandIn = Callable[[int], bytes]


def skeleton_of(buffer: Buffer, stand_in: StandIn | None = None) -> bytes:
    """The serialized ModelProto in `buffer` without the payloads larger than `PAYLOAD_LIMIT` bytes.

    Args:
        stand_in: makes what stands in place of a payload; without it the field is left out.

    Raises:
        WireError: the bytes are not protobuf's wire format.
    """
    root, payloads = _large_payloads(buffer)
    for part, field in payloads:
        part.message.replace(field, b"" if stand_in is None else encode_field(field.number, stand_in(field.value)))
    return join(buffer, root.pieces())


class Part(NamedTuple):
    """A message in a model: its kind in `CHILDREN`, and a label that says where it stands."""

    kind: str
    message: Message
    label: str


def parts_of(part: Part, least: int = -1, depth: int = NESTING_LIMIT) -> Iterator[Part]:
    """A message, and those in it at any depth that may hold a tensor.

    Args:
        least: of those in it, only the ones with more bytes than this.

    Raises:
        WireError: the bytes are not protobuf's wire format, or are nested too deeply.
    """
    kind, message, label = part
    if not depth:
        raise WireError(f"nested deeper than {NESTING_LIMIT} messages at byte {message.start}")
    named = message.fields(_NAMES[kind]) if kind in _NAMES else ()
    if named:
        naming = named[0] if kind == "Node" else named[-1]  # a node has several outputs, the others one name
        name = bytes(message.buffer[naming.value : naming.end]).decode(errors="replace")
        label = f"{label}/{name}" if label else name
    yield Part(kind, message, label)
    for number, child in CHILDREN[kind].items():
        for index, field in enumerate(message.fields(number)):
            if field.end - field.value > least:
                yield from parts_of(Part(child, message.child(number, index), label), least, depth - 1)


def _large_payloads(buffer: Buffer) -> tuple[Message, list[tuple[Part, Field]]]:
    """A model, and its payloads that are not in the skeleton."""
    root = Message(buffer, 0, len(buffer))
    found = [
        (part, field)
        for part in parts_of(Part("Model", root, ""), PAYLOAD_LIMIT)
        for number in PAYLOADS.get(part.kind, ())
        for field in part.message.fields(number)
        if field.end - field.value > PAYLOAD_LIMIT
    ]
    return root, found


# --- Where the payloads of a serialized model stand: the tensors that are too large for the skeleton ------------------


@dataclass(frozen=True)
class Payload:
    """The bytes [start, end) of a tensor in a serialized model, and the field that they are in."""

    number: int
    start: int
    end: int


def payloads_of(buffer: Buffer) -> dict[str, Payload]:
    """Every payload that is not in the skeleton, by a label that says where it stands."""
    found: dict[str, Payload] = {}
    repeated: Counter[str] = Counter()
    for part, field in _large_payloads(buffer)[1]:
        repeated[part.label] += 1
        number = repeated[part.label]
        label = part.label if number == 1 else f"{part.label} ({number})"
        found[label] = Payload(field.number, field.value, field.end)
    return found


def with_labels(buffer: Buffer, payloads: Mapping[str, Payload]) -> onnx.ModelProto:
    """The skeleton with a digest of its label in place of each payload.

    So protobuf itself says which tensor a payload belongs to. A label cannot: of a field that is there twice protobuf
    takes the last, or both, and a long string may stand anywhere among short ones.
    """
    # Hexadecimal digits are small varints too, and 64 of them are floats and doubles: any field can hold them.
    digests = {one.start: hashlib.sha256(label.encode()).hexdigest().encode() for label, one in payloads.items()}
    model = onnx.ModelProto()
    model.ParseFromString(skeleton_of(buffer, digests.__getitem__))
    return model
