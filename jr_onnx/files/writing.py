"""A model and its external data, written so that they change together or not at all.

No data file is ever replaced, since the model that is there names it until the new one takes its place. Where other
data have the name, and the user said so, the new data get a name of their own beside them: w.1.bin for w.bin. So there
is one moment in which everything changes, the one in which the model gets its name; a process that is killed before it
leaves the old model with the old data, and after it the new ones. At the end the old data are removed, unless another
model in the folder names them.
"""

from __future__ import annotations

import contextlib
import filecmp
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from jr_onnx.errors import ModelError, OutputError
from jr_onnx.files.atomic import atomic_file
from jr_onnx.files.external import DataFile, locations_of
from jr_onnx.files.source import Source, open_unnamed
from jr_onnx.files.splice import Piece, Progress, copy_file, join, write_pieces


@dataclass(frozen=True)
class DataPlace:
    """Where a data file is put.

    Attributes:
        file: the source's.
        location: relative to the output's folder: the source's, or another one where other data have that name.
        brought: False where the very file, or a copy of it, stands there already.
    """

    file: DataFile
    location: str
    brought: bool


def data_places(files: tuple[DataFile, ...], output: Path, force: bool) -> tuple[DataPlace, ...]:
    """Where the data files are put, beside `output`. Nothing is written.

    Raises:
        OutputError: another file of that name stands there and `force` is not set, or it cannot be read.
    """
    taken = {PurePosixPath(file.location) for file in files}
    return tuple(_place(file, output.parent, force, taken) for file in files)


def new_locations(source: Source, data: tuple[DataPlace, ...]) -> dict[str, str]:
    """The locations that change, each as the model spells it."""
    new = {PurePosixPath(one.file.location): one.location for one in data if one.location != one.file.location}
    spelled = locations_of(source.skeleton) if new else ()
    return {location: new[PurePosixPath(location)] for location in spelled if PurePosixPath(location) in new}


def write_model(
    source: Source,
    pieces: list[Piece],
    output: Path,
    data: tuple[DataPlace, ...],
    *,
    force: bool,
    progress: Progress,
) -> None:
    """Write a model that consists of pieces of `source`, and its external data.

    Args:
        pieces: with `new_locations` in them.
        output: the file; no symbolic link, for what the model names lies beside it.
        data: what `data_places` gave.
        force: data of the model that is replaced are removed, if new data took their place.
        progress: called with the number of bytes written since its last call.

    Raises:
        OutputError: a file cannot be written.
    """
    old = _replaced_data(data, output) if force else set()
    with _brought(data, output, progress), atomic_file(output) as target:
        if source.file is None:
            target.write(join(source.buffer, pieces))
        else:
            write_pieces(target, pieces, source.file, progress)
    _remove_unnamed(old, output)


def _place(file: DataFile, folder: Path, force: bool, taken: set[PurePosixPath]) -> DataPlace:
    for number in itertools.count():
        location = _numbered(file.location, number)
        if number and PurePosixPath(location) in taken:  # by another data file of this model
            continue
        there = _stands_there(file, folder / location)
        if there is None or there:
            break
        if not force:
            text = "another file stands here; write to another folder, or add `force=True`"
            raise OutputError(f"{folder / location}: {text}")
    taken.add(PurePosixPath(location))
    return DataPlace(file, location, brought=there is None)


def _stands_there(file: DataFile, target: Path) -> bool | None:
    """Whether the very file, or a copy of it, has that name already; None where nothing has."""
    try:
        if not os.path.lexists(target):
            return None
        if target.is_dir():
            raise OutputError(f"{target}: is a folder, where the model's external data has to be; use another one")
        return target.samefile(file.path) or filecmp.cmp(target, file.path, shallow=False)
    except OSError as error:
        raise OutputError(f"{target}: cannot be put here ({error.strerror}); choose another folder") from error


def _numbered(location: str, number: int) -> str:
    path = PurePosixPath(location)
    return str(path.with_name(f"{path.stem}.{number}{path.suffix}")) if number else location


@contextmanager
def _brought(data: tuple[DataPlace, ...], output: Path, progress: Progress) -> Iterator[None]:
    """Bring the data files beside `output`; if the context ends with an exception, take away what was brought."""
    made: list[Path] = []
    before = _identity(output)
    try:
        for place in (place for place in data if place.brought):
            target = output.parent / place.location
            try:
                made += _missing(target, output.parent)
                target.parent.mkdir(parents=True, exist_ok=True)
                with place.file.path.open("rb", buffering=0) as opened, atomic_file(target) as copy:
                    copy_file(opened, copy, place.file.size, progress)
            except OSError as error:
                raise OutputError(f"{target}: cannot be put here ({error.strerror}); try another folder") from error
        yield
    except BaseException:
        # The last that can fail is to have the model's name on the disk: then it is there, and needs its data.
        if _identity(output) == before:
            _remove(made)
        raise


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _remove(made: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for path in reversed(made):
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


def _missing(path: Path, folder: Path) -> list[Path]:
    """What has to be made for `path`, which lies in `folder`: folders, the outermost first, and the file."""
    parts = path.relative_to(folder).parts
    paths = (folder.joinpath(*parts[:number]) for number in range(1, len(parts) + 1))
    return [path for path in paths if not os.path.lexists(path)]


def _replaced_data(data: tuple[DataPlace, ...], output: Path) -> set[Path]:
    """Of the data of the model that is there, those under names that the new data have, or could have been given."""
    names = [PurePosixPath(one.file.location) for one in data]
    family = [rf"{re.escape(str(one.with_suffix('')))}(\.\d+)?{re.escape(one.suffix)}" for one in names]
    named = _named(output) or set()
    return {
        output.parent / name for name in named if any(re.fullmatch(one, str(PurePosixPath(name))) for one in family)
    }


def _remove_unnamed(data: set[Path], output: Path) -> None:
    """Remove data files that no model in the folder names; a damaged .onnx file may name any."""
    with contextlib.suppress(OSError):
        for model in {output, *filter(Path.is_file, output.parent.iterdir())} - data if data else ():
            named = _named(model)
            if named is None and model.suffix == ".onnx":
                return
            data = data - {output.parent / location for location in named or ()}
        _remove(list(data))


def _named(model: Path) -> set[str] | None:
    """The locations of a model's external data; None where it cannot be read."""
    try:
        with open_unnamed(model) as source:
            return locations_of(source.skeleton)
    except ModelError:
        return None
