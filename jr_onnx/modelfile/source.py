"""An ONNX model opened for reading: its skeleton as protos, and its bytes for splicing."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError

from jr_onnx.errors import ModelError
from jr_onnx.modelfile.formats import other_format
from jr_onnx.modelfile.skeleton import skeleton_of
from jr_onnx.modelfile.splice import Message
from jr_onnx.modelfile.wire import Buffer


@dataclass(frozen=True)
class Source:
    """A model's bytes, and the skeleton that was parsed from them.

    Attributes:
        buffer: the serialized model; for a file, a view of its memory map.
        skeleton: the model without payloads over 4 KiB. For analysis only: what is written comes from `buffer`.
        digest: SHA-256 of the serialized skeleton, in hexadecimal. It identifies the model's structure without
            reading its weights.
        path: where the bytes come from; None for a model in memory.
        file: the open file; None for a model in memory.
    """

    buffer: Buffer
    skeleton: onnx.ModelProto
    digest: str
    path: Path | None = None
    file: FileIO | None = None

    @property
    def opened(self) -> FileIO:
        """The file.

        Raises:
            TypeError: the model is in memory.
        """
        if self.file is None:
            raise TypeError("a model in memory is not written to a file")
        return self.file

    def root(self) -> Message:
        """The ModelProto message, to record edits on."""
        return Message(self.buffer, 0, len(self.buffer))


@contextmanager
def open_file(path: Path) -> Iterator[Source]:
    """The model in a file, memory-mapped while the context lasts.

    Raises:
        ModelError: there is no such file, it cannot be read, or it holds no ONNX model. Every other ModelError that
            is raised while the context lasts, and names no file yet, is raised again with the path in front.
    """
    with about(path), open_unnamed(path) as source:
        yield source


@contextmanager
def open_unnamed(path: Path) -> Iterator[Source]:
    """`open_file`, of a file that is not the user's own: errors do not name it."""
    with contextlib.ExitStack() as stack:
        try:
            check_is_file(path)
            file = stack.enter_context(path.open("rb", buffering=0))
            buffer = stack.enter_context(_mapped(file.fileno()))
        except OSError as error:
            raise ModelError(str(error.strerror)) from error
        yield _read(buffer, path, file)


def check_is_file(path: Path) -> None:
    """Refuse what cannot be opened, before onnxruntime says so in its own words.

    Raises:
        ModelError: there is no such file, or it is a folder; the error does not name it.
    """
    if not path.is_file():
        raise ModelError("not a file" if path.exists() else "no such file")


@contextmanager
def open_model(model: str | Path | onnx.ModelProto) -> Iterator[Source]:
    """A file, or a model in memory; raises what `open_file` and `open_proto` raise."""
    if isinstance(model, onnx.ModelProto):
        yield open_proto(model)
    else:
        with open_file(Path(model)) as source:
            yield source


@contextmanager
def about(path: Path | None) -> Iterator[None]:
    """Where several models are open: a ModelError in this context is about this one. None is a model in memory."""
    try:
        yield
    except ModelError as error:
        if path is not None and not error.named:
            error.args, error.named = (f"{path}: {error}",), True
        raise


def open_proto(model: onnx.ModelProto) -> Source:
    """The model in memory.

    Raises:
        ModelError: the model is too large for protobuf to serialize (2 GB); save it and convert the file.
    """
    try:
        serialized = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelError(f"the model cannot be serialized ({error}); save it and convert the file") from error
    return _read(serialized)


def open_bytes(serialized: bytes) -> Source:
    """The model in a byte string.

    Raises:
        ModelError: it is none.
    """
    return _read(serialized)


@contextmanager
def _mapped(descriptor: int) -> Iterator[Buffer]:
    try:
        mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except ValueError:  # an empty file cannot be mapped
        yield b""
        return
    with mapped:
        yield mapped


def _read(buffer: Buffer, path: Path | None = None, file: FileIO | None = None) -> Source:
    if not len(buffer):
        raise ModelError("is empty; export or copy the model again")
    try:
        serialized, skeleton = _parsed(buffer)
    except ModelError as error:
        what = other_format(buffer)
        if what:
            raise ModelError(what) from error
        raise
    if skeleton.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"IR version {skeleton.ir_version} is unknown to onnx {onnx.__version__} "
            f"(newest: {onnx.IR_VERSION}); pip install --upgrade onnx"
        )
    return Source(buffer, skeleton, hashlib.sha256(serialized).hexdigest(), path, file)


def _parsed(buffer: Buffer) -> tuple[bytes, onnx.ModelProto]:
    """The skeleton, serialized and as a proto."""
    serialized = skeleton_of(buffer)
    skeleton = onnx.ModelProto()
    try:
        skeleton.ParseFromString(serialized)
    except (DecodeError, UnicodeDecodeError) as error:  # the latter from protobuf's implementation in Python
        raise ModelError(f"not an ONNX model: {error}") from error
    if not skeleton.HasField("graph"):
        raise ModelError("not an ONNX model, or one without a graph")
    if skeleton.ir_version < 1:
        raise ModelError("not an ONNX model: it has no IR version")
    return serialized, skeleton
