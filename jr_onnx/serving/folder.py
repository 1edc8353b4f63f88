"""A folder that appears whole or not at all, with the SHA-256 of each file in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from jr_onnx.errors import OutputError
from jr_onnx.files.atomic import exchange, temporary_folder
from jr_onnx.files.splice import sha256_of

#: What `sha256sum -c` reads.
SUMS = "SHA256SUMS"

#: Stands in each folder that this module wrote.
MARK = ".jr-onnx-deploy.json"
_MARK_TEXT = '{"written by": "jr-onnx deploy"}\n'


@contextmanager
def atomic_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """A new folder to write into that takes the name `path` when the context ends without an exception.

    The sums are written then, and everything is on the disk before the folder has its name.

    Args:
        path: does not exist, or is empty.
        force: it may also be a folder that was written here, and in which all is as it was: it is replaced.

    Raises:
        OutputError: something stands there, or the folder cannot be written.
    """
    try:
        _check_place(path, force)
        with temporary_folder(path) as temporary:
            yield temporary
            write_new(temporary / MARK, _MARK_TEXT)
            files = sorted(file for file in temporary.rglob("*") if not file.is_dir())
            write_new(temporary / SUMS, "".join(f"{sha256_of(file)}  {_name(file, temporary)}\n" for file in files))
            for file in (*temporary.rglob("*"), temporary):
                _sync(file)
            _move(temporary, path, force)
            _sync(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def recorded_sums(folder: Path) -> dict[str, str]:
    """SHA-256 in hexadecimal of every file that was written into a folder, by name relative to it; else nothing."""
    sums = folder / SUMS
    lines = sums.read_text("utf-8", "replace").split("\n") if sums.is_file() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name}


def write_new(path: Path, text: str) -> None:
    """Write a text file that is not there yet."""
    with path.open("x", encoding="utf-8") as file:
        file.write(text)


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _check_place(path: Path, force: bool) -> None:
    if "\0" in str(path):
        raise OutputError(f"{str(path)!r}: is not a name for a folder; choose another `output`")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: no such folder; make it, or choose another `output`")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise OutputError(f"{path}: is not a folder; choose another `output`")
    if not path.exists():
        return
    if path.samefile(Path.cwd()):
        raise OutputError(f"{path}: is the current folder; name a new `output`")
    if not any(path.iterdir()):
        return
    _check_ours(path, path)  # before `force` is advised, which replaces no other
    if not force:
        raise OutputError(f"{path}: is not empty; choose another `output`, or add `force=True` to replace it")


def _check_ours(folder: Path, name: Path) -> None:
    """Refuse to replace a folder, called `name`, that was not written here or is not as it was."""
    mark, sums = folder / MARK, recorded_sums(folder)
    if mark.is_symlink() or not mark.is_file() or mark.read_bytes() != _MARK_TEXT.encode() or MARK not in sums:
        raise OutputError(f"{name}: was not written by jr-onnx deploy; choose another `output`")
    folders = {parent.as_posix() for file in sums for parent in PurePosixPath(file).parents}
    for file in sorted(folder.rglob("*")):
        known = _name(file, folder)
        expected = folders if file.is_dir() else {*sums, SUMS} if file.is_file() else ()
        if file.is_symlink() or known not in expected:
            raise OutputError(f"{name}: holds {known}, which jr-onnx deploy did not write; choose another `output`")
        if known in sums and sha256_of(file) != sums[known]:
            raise OutputError(f"{name}: {known} was changed after jr-onnx deploy wrote it; choose another `output`")


def _move(folder: Path, path: Path, force: bool) -> None:
    """Give a folder its name. One that has it already gets the temporary one, is looked at again, and goes with it."""
    if not force or not path.exists() or not any(path.iterdir()):
        folder.rename(path)  # rename(2) refuses where something stands in the meantime
        return
    exchange(folder, path)
    try:
        _check_ours(folder, path)
    except BaseException:
        exchange(folder, path)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
