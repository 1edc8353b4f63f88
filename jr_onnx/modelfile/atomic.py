"""Files that appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jr_onnx.errors import OutputError
from jr_onnx.modelfile.splice import Piece, Span
from jr_onnx.modelfile.wire import Buffer

#: Told the number of bytes that have been written since the last call.
Progress = Callable[[int], None]

#: Copied in one call: large enough to cost nothing, small enough for progress and Ctrl-C.
COPY_STEP = 16 << 20


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the name `path` when the context ends without an exception.

    The data is on the disk before the name is. Where the file system can (Linux's O_TMPFILE) the file has no name
    until then, so that not even `kill -9` leaves anything behind; elsewhere a hidden temporary file stands beside
    `path` while it is written.

    Raises:
        OutputError: the folder is missing or read-only, or the disk is full.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.tmp")
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            with _open(folder, temporary) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if not temporary.exists():
                    # With dst_dir_fd, Python calls linkat, which follows the link in /proc; link would not.
                    os.link(f"{_DESCRIPTORS}/{file.fileno()}", temporary.name, dst_dir_fd=folder)
            temporary.replace(path)
            os.fsync(folder)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(folder)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


_DESCRIPTORS = Path("/proc/self/fd")


def _open(folder: int, temporary: Path) -> BinaryIO:
    """A new file without a name where that is possible, else under the temporary name."""
    if hasattr(os, "O_TMPFILE") and _DESCRIPTORS.exists():
        with contextlib.suppress(OSError):
            return os.fdopen(os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o666, dir_fd=folder), "wb")
    return temporary.open("xb")


def write_pieces(target: BinaryIO, pieces: list[Piece], buffer: Buffer, source: BinaryIO, progress: Progress) -> None:
    """Write an edited message: new bytes from `pieces`, the spans of the original from the file `source`.

    Args:
        target: an open file, at the position to write to.
        pieces: what `Message.pieces` gave.
        buffer: the memory map of `source`; short spans are taken from it.
        source: the original file; long spans are copied from it inside the kernel, past this process's memory.
        progress: called as the bytes go.
    """
    for piece in pieces:
        if not isinstance(piece, Span):
            target.write(piece)
        elif len(piece) < COPY_STEP >> 8:
            target.write(buffer[piece.start : piece.end])
        else:
            target.flush()
            for start in range(piece.start, piece.end, COPY_STEP):
                step = min(COPY_STEP, piece.end - start)
                copy_range(source, target, start, step)
                progress(step)
            continue
        progress(len(piece))


def copy_range(source: BinaryIO, target: BinaryIO, start: int, length: int) -> None:
    """Copy bytes from one file to the end of another, inside the kernel where it can.

    Raises:
        OutputError: the source has become shorter in the meantime.
    """
    while length:
        copied = _kernel_copy(source, target, start, length)
        if not copied:
            source.seek(start)
            copied = target.write(source.read(min(length, 1 << 20)))
            target.flush()
        if not copied:
            raise OutputError(f"{source.name}: became shorter while it was copied; run the command again")
        start, length = start + copied, length - copied


def _kernel_copy(source: BinaryIO, target: BinaryIO, start: int, length: int) -> int:
    """The number of bytes that the kernel copied; 0 where it cannot copy between these two files."""
    try:
        return os.copy_file_range(source.fileno(), target.fileno(), length, start)
    except (AttributeError, OSError):
        # Across file systems, or not Linux: the ordinary copy does it, or meets the same error and reports it.
        return 0
