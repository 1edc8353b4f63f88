"""Edits on a serialized message, written as new bytes between spans of the original ones."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from jr_onnx.modelfile.wire import LENGTH_DELIMITED, Buffer, Field, WireError, encode_header, read_fields


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes [start, end) of the original buffer."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


#: What an edited message consists of: new bytes, and spans of the original.
Piece = bytes | Span


class Message:
    """The message in [start, end) of a buffer, and the edits made in it.

    Edits are recorded, not carried out; `pieces` gives the edited message, in which the length prefixes of all
    messages around an edit are right and everything else is the original's bytes.
    """

    def __init__(self, buffer: Buffer, start: int, end: int) -> None:
        self.buffer = buffer
        self.start = start
        self.end = end
        self._edits: list[tuple[int, int, bytes]] = []
        self._children: dict[Field, Message] = {}

    @cached_property
    def _fields(self) -> dict[tuple[int, int], list[Field]]:
        fields: dict[tuple[int, int], list[Field]] = defaultdict(list)
        for field in read_fields(self.buffer, self.start, self.end):
            fields[field.number, field.wire_type].append(field)
        return fields

    def fields(self, number: int, wire_type: int = LENGTH_DELIMITED) -> list[Field]:
        """The fields of that number, in order; the i-th is the i-th element of the parsed repeated field.

        As in protobuf, a field of another wire type is an unknown field and is not among them.
        """
        return self._fields.get((number, wire_type), [])

    def child(self, number: int, index: int | None = None) -> Message:
        """The message in the field `number`: the index-th of a repeated field, the only one of a singular field.

        Raises:
            WireError: a singular field does not occur just once (protobuf would merge two).
        """
        fields = self.fields(number)
        if index is None and len(fields) != 1:
            raise WireError(
                f"field {number} of the message at byte {self.start} occurs {len(fields)} times instead of once; "
                "export the model again"
            )
        field = fields[index or 0]
        if field not in self._children:
            self._children[field] = Message(self.buffer, field.value, field.end)
        return self._children[field]

    def replace(self, field: Field, data: bytes) -> None:
        """Put `data`, whole fields, in the place of `field`."""
        self._edits.append((field.start, field.end, data))

    def insert(self, position: int, data: bytes) -> None:
        """Put `data`, whole fields, in front of the field that starts at `position`."""
        self._edits.append((position, position, data))

    def append(self, data: bytes) -> None:
        """Put `data`, whole fields, behind the last field."""
        self.insert(self.end, data)

    @property
    def edited(self) -> bool:
        return bool(self._edits) or any(child.edited for child in self._children.values())

    def pieces(self) -> list[Piece]:
        """The edited message, in order, without empty pieces. What is replaced has no inner edits."""
        edits: list[tuple[int, int, list[Piece]]] = [(start, end, [data]) for start, end, data in self._edits]
        replaced = {(start, end) for start, end, _ in self._edits}
        for field, child in self._children.items():
            if child.edited and (field.start, field.end) not in replaced:
                inner = child.pieces()
                edits.append((field.start, field.end, [encode_header(field.number, size_of(inner)), *inner]))
        pieces: list[Piece] = []
        position = self.start
        for start, end, replacement in sorted(edits, key=lambda edit: edit[:2]):
            pieces += [Span(position, start), *replacement]
            position = end
        pieces.append(Span(position, self.end))
        return [piece for piece in pieces if len(piece)]


def size_of(pieces: list[Piece]) -> int:
    """The number of bytes in the pieces."""
    return sum(map(len, pieces))


def join(buffer: Buffer, pieces: list[Piece]) -> bytes:
    """The pieces as bytes, for models that live in memory."""
    return b"".join(buffer[p.start : p.end] if isinstance(p, Span) else p for p in pieces)
