"""Files that appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jr_onnx.errors import OutputError


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the name `path` when the context ends without an exception.

    The data is on the disk before the name is. Where the file system can (Linux's O_TMPFILE) the file has no name
    until then, so that not even `kill -9` leaves anything behind; elsewhere a hidden temporary file stands beside
    `path` while it is written.

    Raises:
        OutputError: the folder is missing or read-only, or the disk is full.
    """
    temporary = temporary_beside(path)
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            with _open(folder, temporary) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if not temporary.exists():
                    try:
                        _name(file, path.name, folder)
                    except FileExistsError:
                        _name(file, temporary.name, folder)
            if temporary.exists():
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


def temporary_beside(path: Path) -> Path:
    """A hidden name in the folder of `path`. It does not contain that name, which may be as long as names can be."""
    return path.with_name(f".jr-onnx.{secrets.token_hex(6)}.tmp")


def _name(file: BinaryIO, name: str, folder: int) -> None:
    """Give a file without a name one that is not taken."""
    # With dst_dir_fd, Python calls linkat, which follows the link in /proc; link would not.
    os.link(f"{_DESCRIPTORS}/{file.fileno()}", name, dst_dir_fd=folder)
