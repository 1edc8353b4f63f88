"""External data: found, checked, and brought along, without ever being loaded.

Source: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

import contextlib
import filecmp
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, get_args

import onnx

from jr_onnx.errors import ModelError, OptionError, OutputError
from jr_onnx.modelfile.atomic import atomic_file, temporary_beside
from jr_onnx.modelfile.copying import Progress, copy_file
from jr_onnx.modelfile.tensors import all_tensors

#: How a data file gets beside the output: it is there already, gets a second name (a hard link), or is copied.
ExternalMode = Literal["share", "link", "copy"]
EXTERNAL_MODES: tuple[ExternalMode, ...] = get_args(ExternalMode)


@dataclass(frozen=True)
class DataFile:
    """One external data file of a model.

    Attributes:
        location: as the model writes it, relative to the model's folder.
        path: the file.
        size: its size in bytes.
        outside: whether it is a symbolic link out of the model's folder.
    """

    location: str
    path: Path
    size: int
    outside: bool


def data_files(model: onnx.ModelProto, path: Path) -> tuple[DataFile, ...]:
    """The external data files of the model in the file `path`, each once.

    A symbolic link may lead to a file beside the one that `path` itself is a link to: in the cache of Hugging Face, the
    model and its data are links into one folder. onnxruntime allows that from version 1.32 on.

    Raises:
        ModelError: a location is absolute, leaves the folder (by `..` or by any other symbolic link) or names no file,
            or a tensor reaches behind the end of its file.
    """
    files: dict[str, DataFile] = {}
    for tensor in all_tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if location not in files:
            files[location] = _checked(location, path, tensor.name)
        _check_range(tensor.name, entries, files[location])
    return tuple({file.path: file for file in files.values()}.values())  # one file may be written in several ways


def _checked(location: str, model: Path, tensor: str) -> DataFile:
    where = f"tensor '{tensor}': external data location '{location}'"
    if isinstance(location, bytes):  # which is what protobuf gives where it is not UTF-8
        raise ModelError(f"{where} is not UTF-8 text; save the model with its data beside it")
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    if not location or PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor:
        raise ModelError(f"{where} is not a relative path; save the model with its data beside it")
    if ".." in parts or "\0" in location:
        raise ModelError(f"{where} leaves the model's folder; save the model with its data beside it")
    path = model.parent / location
    try:
        real = path.resolve()
        outside = not real.is_relative_to(model.parent.resolve())
        allowed = not outside or real.parent == model.resolve().parent
        size = path.stat().st_size if path.is_file() else None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links, before Python 3.13
        raise ModelError(f"{where} cannot be followed: {error}") from error
    if not allowed:
        raise ModelError(f"{where} is a symbolic link out of the model's folder; put a copy of the file there")
    if size is None:
        raise ModelError(f"{where} names no file in {model.parent}; put the data file beside the model")
    return DataFile(location, path, size, outside)


def _check_range(tensor: str, entries: dict[str, str], file: DataFile) -> None:
    where = f"tensor '{tensor}': external data in {file.path}"
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    except ValueError as error:
        raise ModelError(f"{where} has an offset or length that is no number") from error
    if offset < 0 or length < 0 or offset + length > file.size:
        raise ModelError(
            f"{where}: bytes {offset} to {offset + length} lie outside the file ({file.size} bytes); "
            "put the whole data file beside the model"
        )


def default_mode(source: Path, output: Path) -> ExternalMode:
    """`share` within a folder, else `copy`.

    Never `link`, though it costs nothing: from version 1.21 on, onnx refuses to load a data file with several names,
    and so the original model as well.
    """
    return "share" if _same_folder(source, output) else "copy"


@contextmanager
def placed(
    files: tuple[DataFile, ...],
    mode: ExternalMode,
    source: Path,
    output: Path,
    force: bool,
    progress: Progress,
) -> Iterator[None]:
    """Bring the data files beside `output`; if the context ends with an exception, take away what was brought.

    Raises:
        OptionError: `share` was asked for, but `output` lies in another folder.
        OutputError: another file of that name stands there and `force` is not set, or it cannot be written.
    """
    if mode == "share" and files and not _same_folder(source, output):
        raise OptionError(f"--external share: {output.parent} is not the model's folder; use link or copy")
    made: list[Path] = []
    staged: dict[Path, Path] = {}  # what takes the place of another file waits until the model is written
    try:
        for file in files if mode != "share" else ():
            target = output.parent / file.location
            try:
                if not _occupied(target, file.path, force):
                    place = target
                    if target.exists():
                        place = staged[target] = temporary_beside(target)
                    made += _missing(place, output.parent)
                    _bring(file, place, mode, progress)
            except OSError as error:
                raise OutputError(
                    f"{target}: cannot be put here ({error.strerror}); try --external copy or another folder"
                ) from error
        yield
        for target, place in staged.items():
            place.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            for path in reversed(made):
                path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        raise


def _occupied(target: Path, source: Path, force: bool) -> bool:
    """Whether the very file stands there already, or a copy of it, as when a command is run again."""
    if not target.exists():
        return False
    if target.is_dir():
        raise OutputError(f"{target}: is a folder, where the model's external data has to be; choose another folder")
    if target.samefile(source) or filecmp.cmp(target, source, shallow=False):
        return True
    if not force:
        raise OutputError(f"{target}: another file stands here; write to another folder, or add --force")
    return False


def _missing(path: Path, folder: Path) -> list[Path]:
    """What has to be made for `path`, which lies in `folder`: folders, the outermost first, and the file."""
    parts = path.relative_to(folder).parts
    paths = (folder.joinpath(*parts[:number]) for number in range(1, len(parts) + 1))
    return [path for path in paths if not os.path.lexists(path)]


def _bring(file: DataFile, target: Path, mode: ExternalMode, progress: Progress) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if mode == "link":
        os.link(file.path.resolve(), target)
        return
    with file.path.open("rb", buffering=0) as data, atomic_file(target) as copy:
        copy_file(data, copy, file.size, progress)


def _same_folder(source: Path, output: Path) -> bool:
    with contextlib.suppress(OSError):
        return source.parent.samefile(output.parent)
    return False
