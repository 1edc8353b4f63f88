"""Edits on a serialized message: new bytes between spans of the original ones, and how they are written out."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from jr_onnx.errors import OutputError
from jr_onnx.files.wire import LENGTH_DELIMITED, Buffer, Field, WireError, encode_field, encode_header, read_fields


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

    def append(self, number: int, value: bytes) -> None:
        """Put in a length-delimited field where protobuf would: behind those of its number, or of lower ones.

        So a tool that reads and writes the model leaves the order as it is.
        """
        ends = (fields[-1].end for (other, _), fields in self._fields.items() if other <= number)
        self.insert(max(ends, default=self.start), encode_field(number, value))

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


# --- Bytes from one file to another, at the speed of the disk and in little memory ------------------------------------

#: Told the number of bytes that have been written since the last call.
Progress = Callable[[int], None]

#: Read and put together at once: stays in the processor's cache on its way.
_BLOCK = 1 << 20

#: Written at once, a part of a block. Measured: for so little the page cache has memory at hand; writing a megabyte at
#: once took twice as long in a virtual machine.
_STEP = 64 << 10

#: Each time that so much has been written, progress is told and the disk is set to work, which otherwise would not
#: begin before the final fsync. A multiple of the block.
_WRITEBACK = 4 << 20

#: Copied by the kernel in one call: large enough to cost nothing, small enough for progress and Ctrl-C.
_KERNEL_STEP = 16 << 20


def write_pieces(target: BinaryIO, pieces: list[Piece], source: FileIO, progress: Progress) -> None:
    """Write an edited message: new bytes, and spans of the original from the file `source`.

    Splicing moves most bytes by an odd number, which makes the kernel's own copy (copy_file_range) half as fast as a
    plain one. So the output is put together in blocks that are aligned in the output.

    Args:
        target: an open file, at its start.
        pieces: what `Message.pieces` gave.
        source: the original file, unbuffered.
        progress: called as the bytes go.

    Raises:
        OutputError: the source has become shorter in the meantime.
    """
    block = memoryview(bytearray(_BLOCK))
    filled = written = 0
    for piece in pieces:
        position = 0
        while position < len(piece):
            taken = min(_BLOCK - filled, len(piece) - position)
            room = block[filled : filled + taken]
            if isinstance(piece, Span):
                _read_into(room, source, piece.start + position)
            else:
                room[:] = piece[position : position + taken]
            position, filled = position + taken, filled + taken
            if filled == _BLOCK:
                for start in range(0, _BLOCK, _STEP):
                    target.write(block[start : start + _STEP])
                filled, written = 0, written + _BLOCK
                if not written % _WRITEBACK:
                    progress(_WRITEBACK)
                    _start_writeback(target, written - _WRITEBACK)
    target.write(block[:filled])
    progress(written % _WRITEBACK + filled)


def copy_file(source: FileIO, target: BinaryIO, size: int, progress: Progress) -> None:
    """Copy the first `size` bytes of a file, by the kernel where it can: it shares the blocks on some file systems.

    Raises:
        OutputError: the source has become shorter in the meantime.
    """
    position = 0
    while position < size:
        step = min(_KERNEL_STEP, size - position)
        try:
            copied = os.copy_file_range(source.fileno(), target.fileno(), step, position)
        except (AttributeError, OSError):
            # Across file systems, or not Linux: an ordinary copy does it, or meets the same error and reports it.
            break
        if not copied:
            break
        position += copied
        progress(copied)
    target.seek(position)
    write_pieces(target, [Span(position, size)], source, progress)


def sha256_of(*paths: Path) -> str:
    """SHA-256 of the bytes of files one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _read_into(room: memoryview, source: FileIO, position: int) -> None:
    source.seek(position)
    while room:
        count = source.readinto(room)
        if not count:
            raise OutputError(f"{source.name}: became shorter while it was copied; run the command again")
        room = room[count:]


def _start_writeback(target: BinaryIO, start: int) -> None:
    """Have the kernel write what lies behind `start` to the disk, without waiting for it (Linux)."""
    target.flush()
    with contextlib.suppress(AttributeError, OSError):
        os.posix_fadvise(target.fileno(), start, _WRITEBACK, os.POSIX_FADV_DONTNEED)
