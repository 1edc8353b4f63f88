"""Bytes from one file to another, at the speed of the disk and in little memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from io import FileIO
from typing import BinaryIO

from jr_onnx.errors import OutputError
from jr_onnx.modelfile.splice import Piece, Span

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
