"""A model without its large payloads: everything an analysis looks at, in the size of the graph alone."""

from __future__ import annotations

from collections.abc import Callable

from jr_onnx.modelfile.schema import CHILDREN, PAYLOADS
from jr_onnx.modelfile.wire import LENGTH_DELIMITED, Buffer, WireError, encode_field, encode_header, read_fields

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
