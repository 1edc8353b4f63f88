"""External data: found, checked and given other names, without ever being loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

import onnx
from google.protobuf.message import Message as ProtoMessage

from jr_onnx.errors import ModelError
from jr_onnx.files.skeleton import Part, parts_of
from jr_onnx.files.source import Source
from jr_onnx.files.splice import Message, Piece
from jr_onnx.files.wire import CHILDREN, TENSOR_EXTERNAL_DATA, encode_field

#: How a data file gets beside the output: it is there already, or is copied. Never as a hard link, though that costs
#: nothing: from version 1.21 on, onnx refuses to load a data file with several names, and so the original model too.
ExternalMode = Literal["share", "copy"]


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


def locations_of(model: onnx.ModelProto) -> set[str]:
    """The locations of a model's external data, as they are spelled; nothing is checked."""
    external = (tensor for tensor in all_tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL)
    return {entry.value for tensor in external for entry in tensor.external_data if entry.key == "location"}


def without_locations(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which the files of external data have no names, for where it does not matter how they are called."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in all_tensors(copy):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = ""
    return copy


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
        raise ModelError(f"{where} has an offset or length that is not a number") from error
    if offset < 0 or length < 0 or offset + length > file.size:
        raise ModelError(
            f"{where}: bytes {offset} to {offset + length} lie outside the file ({file.size} bytes); "
            "put the whole data file beside the model"
        )


def external_mode(source: Path, output: Path) -> ExternalMode:
    """How the data of the model `source` get beside `output`: `share` within a folder, else `copy`."""
    with contextlib.suppress(OSError):
        if source.parent.samefile(output.parent):
            return "share"
    return "copy"


# --- Every TensorProto of a model, wherever it stands -----------------------------------------------------------------


def all_tensors(message: ProtoMessage) -> Iterator[onnx.TensorProto]:
    """Initializers, sparse initializers and attributes, in all graphs, functions and training information.

    Args:
        message: the model, or a part of one.
    """
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    children = CHILDREN[message.DESCRIPTOR.name.removesuffix("Proto")]
    for field, value in message.ListFields():
        if field.number in children:
            for child in (value,) if isinstance(value, ProtoMessage) else value:
                yield from all_tensors(child)


# --- A model whose external data get other names: only the `location` entries are written anew ------------------------

_LOCATION = "location"


def relocate(source: Source, names: Mapping[str, str]) -> list[Piece]:
    """The model with other locations of its external data, as new bytes and spans of the source's.

    Raises:
        ModelError: as `record_locations`.
    """
    root = source.root()
    record_locations(source, root, names)
    return root.pieces()


def record_locations(source: Source, root: Message, names: Mapping[str, str]) -> None:
    """Record on a model's message that its external data get other locations.

    Args:
        source: the model.
        root: its message, which may have other edits.
        names: the new location for each one that changes, as the model spells it.

    Raises:
        ModelError: a tensor names several locations, so that another reader could follow another one than ours.
    """
    for tensor in all_tensors(source.skeleton) if names else ():
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if external and sum(entry.key == _LOCATION for entry in tensor.external_data) > 1:
            raise ModelError(f"tensor '{tensor.name}' names several files for its external data; save the model again")
    for kind, message, _ in parts_of(Part("Model", root, "")) if names else ():
        for field in message.fields(TENSOR_EXTERNAL_DATA) if kind == "Tensor" else ():
            entry = onnx.StringStringEntryProto.FromString(source.buffer[field.value : field.end])
            if entry.key == _LOCATION and entry.value in names:
                entry.value = names[entry.value]
                message.replace(field, encode_field(TENSOR_EXTERNAL_DATA, entry.SerializeToString()))


def relocated(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """The node itself, with the other locations in its tensors."""
    for tensor in all_tensors(node) if names else ():
        for entry in tensor.external_data:
            if entry.key == _LOCATION:
                entry.value = names.get(entry.value, entry.value)
    return node
