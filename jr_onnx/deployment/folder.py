"""A folder that appears whole or not at all, with the SHA-256 of each file in it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jr_onnx.errors import OutputError
from jr_onnx.modelfile.atomic import temporary_beside

#: What `sha256sum -c` reads; also the mark of a folder that this module wrote.
SUMS = "SHA256SUMS"

_BLOCK = 1 << 20


@contextmanager
def atomic_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """A new folder to write into that takes the name `path` when the context ends without an exception.

    The sums are written then, and everything is on the disk before the folder has its name.

    Args:
        path: does not exist, or is empty.
        force: it may also be a folder that was written here, and in which nothing else stands: it is replaced.

    Raises:
        OutputError: something stands there, or the folder cannot be written.
    """
    try:
        _check_place(path, force)
        temporary = temporary_beside(path)
        try:
            temporary.mkdir()
            yield temporary
            sums = "".join(f"{_digest(file)}  {_name(file, temporary)}\n" for file in _files(temporary))
            (temporary / SUMS).write_text(sums, encoding="utf-8")
            for file in (*_files(temporary), temporary):
                _sync(file)
            _move(temporary, path)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def recorded_sums(folder: Path) -> dict[str, str]:
    """SHA-256 in hexadecimal of every file that was written into a folder, by name relative to it; else nothing."""
    sums = folder / SUMS
    lines = sums.read_text("utf-8", "replace").splitlines() if sums.is_file() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if not file.is_dir())


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _check_place(path: Path, force: bool) -> None:
    if "\0" in str(path):
        raise OutputError(f"{str(path)!r}: is no name for a folder; choose another one with -o")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: no such folder; make it, or choose another one with -o")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise OutputError(f"{path}: is no folder; choose another one with -o")
    if not path.exists():
        return
    if path.samefile(Path.cwd()):
        raise OutputError(f"{path}: is the current folder; name a new one with -o")
    if not any(path.iterdir()):
        return
    if not force:
        raise OutputError(f"{path}: is not empty; choose another folder with -o, or add --force to replace it")
    foreign = _foreign(path)
    if foreign is not None:
        raise OutputError(f"{path}: holds {foreign}, which jr-onnx deploy did not write; choose another folder with -o")


def _foreign(path: Path) -> str | None:
    """A file or folder that was not written here."""
    ours = recorded_sums(path)
    if not ours:
        return next(path.iterdir()).name
    return next((name for file in _files(path) if (name := _name(file, path)) not in (*ours, SUMS)), None)


def _move(folder: Path, path: Path) -> None:
    """Give a folder its name; one that has it already is put aside for that moment, and then removed."""
    if not path.exists() or not any(path.iterdir()):
        folder.replace(path)
        return
    aside = temporary_beside(path)
    path.rename(aside)
    try:
        folder.rename(path)
    except BaseException:
        aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
