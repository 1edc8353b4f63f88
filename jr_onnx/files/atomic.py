"""The one way to write a file: whole or not at all, whatever happens meanwhile, and never in the place of a device.

A name that is a symbolic link is followed: the file that it leads to is replaced, and the link stays. A pipe, a
terminal, or an open file such as /dev/stdout cannot be replaced without breaking it, so it is written to as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import secrets
import shutil
import stat
import sys
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
    `path` while it is written, and the next file that is written into that folder removes what was left behind.

    Raises:
        OutputError: the folder is missing or read-only, the disk is full, or `path` is a block device.
    """
    try:
        place = place_of(path)
        with _open_stream(path) if place is None else _replacing(place) as file:
            yield file
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def place_of(path: Path) -> Path | None:
    """Where a file of that name is put: links are followed. None where it is a device, a pipe, or an open file.

    Raises:
        OSError: the links lead nowhere.
    """
    if _descriptor(path) is not None:
        return None
    if path.exists() and not path.is_file() and not path.is_dir():
        return None
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def temporary_beside(path: Path) -> Path:
    """A hidden name in the folder of `path`. It does not contain that name, which may be as long as names can be."""
    return path.with_name(f".jr-onnx.{secrets.token_hex(6)}.tmp")


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, which is removed at the end if it still has its name."""
    remove_stale(path.parent)
    while True:
        temporary = temporary_beside(path)
        temporary.mkdir()
        descriptor = os.open(temporary, os.O_RDONLY)
        if _locked(descriptor, temporary):
            break
        os.close(descriptor)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


def exchange(one: Path, other: Path) -> None:
    """Let two folders exchange their names; at once where the system can (Linux), so that neither is ever missing."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 and not renameat2(_CURRENT, os.fsencode(one), _CURRENT, os.fsencode(other), _EXCHANGE):
        return
    aside = one.with_name(f"{one.name}.old")  # not a temporary name, which would be removed as stale
    other.rename(aside)
    try:
        one.rename(other)
    except BaseException:
        aside.rename(other)
        raise
    aside.rename(one)


#: From <fcntl.h> and <linux/fs.h>: AT_FDCWD, RENAME_EXCHANGE.
_CURRENT, _EXCHANGE = -100, 2


def remove_stale(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes left in a folder.

    Who writes one holds a lock on it, which goes with the process, however that ends.
    """
    for entry in list(folder.iterdir()):
        if not _TEMPORARY.fullmatch(entry.name):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            finally:
                os.close(descriptor)


_TEMPORARY = re.compile(r"\.jr-onnx\.[0-9a-f]{12}\.tmp")

_DESCRIPTORS = Path("/proc/self/fd")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    temporary = temporary_beside(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        remove_stale(path.parent)
        with _open(folder, temporary) as file:
            if path.exists():  # with the same permissions as the old file
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
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


def _open(folder: int, temporary: Path) -> BinaryIO:
    """A new file without a name where that is possible, else under the temporary name; locked."""
    if hasattr(os, "O_TMPFILE") and _DESCRIPTORS.exists():
        with contextlib.suppress(OSError):
            file = os.fdopen(os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o666, dir_fd=folder), "wb")
            _lock(file.fileno())
            return file
    while True:
        file = temporary.open("xb")
        if _locked(file.fileno(), temporary):
            return file
        file.close()


def _locked(descriptor: int, temporary: Path) -> bool:
    """Lock what was made just now; False where another process took it for stale and removed it before."""
    _lock(descriptor)
    return temporary.exists()


def _lock(descriptor: int) -> None:
    # Where a file system has no locks, nothing there can be locked to be removed either.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _name(file: BinaryIO, name: str, folder: int) -> None:
    """Give a file without a name one that is not taken."""
    # With dst_dir_fd, Python calls linkat, which follows the link in /proc; link would not.
    os.link(f"{_DESCRIPTORS}/{file.fileno()}", name, dst_dir_fd=folder)


def _open_stream(path: Path) -> BinaryIO:
    """A pipe, a device or an open file, to be written to as it is."""
    descriptor = _descriptor(path)
    if descriptor is not None:
        if sys.stdout is not None:
            sys.stdout.flush()  # what was printed before comes first
        return os.fdopen(os.dup(descriptor), "wb")
    if path.is_block_device():
        raise OutputError(f"{path}: is a disk; name a file")
    return path.open("wb")


def _descriptor(path: Path) -> int | None:
    """The open file of this process that a name such as /dev/stdout or /dev/fd/3 stands for, by its number."""
    open_files = os.path.realpath("/dev/fd")
    with contextlib.suppress(FileNotFoundError):
        path.stat()  # raises where links go round in a circle
    while True:
        if path.name.isdecimal() and os.path.realpath(path.parent) == open_files:
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()


# --- Where jr-onnx keeps what can be made again: optimised models, and the finished parts of long work ----------------


def cache_folder() -> Path:
    """`jr-onnx` in the user's cache folder; safe to delete. A relative XDG_CACHE_HOME does not count.

    Source: XDG Base Directory Specification.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "jr-onnx"
