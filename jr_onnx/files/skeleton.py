"""A model without its large payloads: what an analysis looks at, in the size of the graph alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import onnx

from jr_onnx.files.wire import (
    CHILDREN,
    LENGTH_DELIMITED,
    PAYLOADS,
    Buffer,
    WireError,
    encode_field,
    encode_header,
    read_fields,
)

#: Payloads up to this many bytes stay in: shapes, axes, the bounds of a Clip.
PAYLOAD_LIMIT = 4096

#: protobuf's own limit: what is nested deeper is not parsed by any ONNX tool.
NESTING_LIMIT = 100


#: What stands in a field in place of the payload that starts at this byte.
StandIn = Callable[[int], bytes]


def skeleton_of(buffer: Buffer, stand_in: StandIn | None = None) -> bytes:
    """The serialized ModelProto in `buffer` without the payloads larger than `PAYLOAD_LIMIT` bytes.

    Args:
        stand_in: makes what stands in place of a payload; without it the field is left out.

    Raises:
        WireError: the bytes are not protobuf's wire format.
    """
    return b"".join(_strip(buffer, 0, len(buffer), "Model", NESTING_LIMIT, stand_in))


def _strip(buffer: Buffer, start: int, end: int, message: str, depth: int, stand_in: StandIn | None) -> list[bytes]:
    """The message in [start, end) as chunks; runs of fields that stay as they are become one chunk."""
    if not depth:
        raise WireError(f"nested deeper than {NESTING_LIMIT} messages at byte {start}")
    children, payloads = CHILDREN[message], PAYLOADS.get(message, frozenset())
    chunks: list[bytes] = []
    kept = start
    for field in read_fields(buffer, start, end):
        if field.wire_type != LENGTH_DELIMITED or field.end - field.value <= PAYLOAD_LIMIT:
            continue
        child = children.get(field.number)
        if child is None and field.number not in payloads:
            continue
        chunks.append(bytes(buffer[kept : field.start]))
        kept = field.end
        if child is not None:
            inner = _strip(buffer, field.value, field.end, child, depth - 1, stand_in)
            chunks += [encode_header(field.number, sum(map(len, inner))), *inner]
        elif stand_in is not None:
            chunks.append(encode_field(field.number, stand_in(field.value)))
    chunks.append(bytes(buffer[kept:end]))
    return chunks


# --- Where the payloads of a serialized model stand: the tensors that are too large for the skeleton ------------------

#: Message -> the field that tells it from its neighbours: the name, or of a node the first output.
_NAMES = {"Tensor": 8, "Node": 2, "Attribute": 1, "Function": 1}


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
    for label, payload in _walk(buffer, 0, len(buffer), "Model", ""):
        repeated[label] += 1
        found[label if repeated[label] == 1 else f"{label} ({repeated[label]})"] = payload
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


def _walk(buffer: Buffer, start: int, end: int, message: str, label: str) -> Iterator[tuple[str, Payload]]:
    fields = list(read_fields(buffer, start, end))
    named = [f for f in fields if f.number == _NAMES.get(message) and f.wire_type == LENGTH_DELIMITED]
    if named:
        naming = named[0] if message == "Node" else named[-1]  # a node has several outputs, the others one name
        name = bytes(buffer[naming.value : naming.end]).decode(errors="replace")
        label = f"{label}/{name}" if label else name
    for field in fields:
        if field.wire_type != LENGTH_DELIMITED or field.end - field.value <= PAYLOAD_LIMIT:
            continue
        child = CHILDREN[message].get(field.number)
        if child is not None:
            yield from _walk(buffer, field.value, field.end, child, label)
        elif field.number in PAYLOADS.get(message, frozenset()):
            yield label, Payload(field.number, field.value, field.end)
