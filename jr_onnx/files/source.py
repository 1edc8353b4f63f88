"""An ONNX model opened for reading: its skeleton as protos, and its bytes for splicing."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError

from jr_onnx.errors import ModelError
from jr_onnx.files.skeleton import skeleton_of
from jr_onnx.files.splice import Message
from jr_onnx.files.wire import Buffer


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


def open_bytes(serialized: Buffer) -> Source:
    """The model in a byte string, or in what is read like one.

    Raises:
        ModelError: it is not an ONNX model.
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


# --- What a file is that turned out to be no ONNX model in protobuf's wire format: named by its first bytes -----------

#: How many bytes are looked at: at the start, and where a ZIP archive lists its members, at the end.
_HEAD, _TAIL = 4096, 1 << 16

_SAVE = "save it as protobuf with onnx.save(onnx.load(FILE, format='{}'), 'model.onnx')"
_EXPORT = "export the model to ONNX"
_UNPACK = "unpack it and give the ONNX model in it"

#: What a file begins with -> what it is, and what to do about it.
_FORMATS = tuple(
    (re.compile(pattern, re.DOTALL), f"is {what}; {advice}")
    for pattern, what, advice in (
        (rb"version https://git-lfs", "a Git LFS pointer, not the model itself", "get the model with 'git lfs pull'"),
        (rb".{4}ORTM", "onnxruntime's ORT format", "give the ONNX model that it was made from"),
        (rb".{4}TFL3", "a TensorFlow Lite model", _EXPORT),
        (rb"\x1f\x8b", "compressed with gzip", "decompress it first"),
        (rb"BZh", "compressed with bzip2", "decompress it first"),
        (rb"\xfd7zXZ", "compressed with xz", "decompress it first"),
        (rb"\x28\xb5\x2f\xfd", "compressed with zstd", "decompress it first"),
        (rb"7z\xbc\xaf", "a 7z archive", _UNPACK),
        (rb".{257}ustar", "a tar archive", _UNPACK),
        (rb"\x93NUMPY", "an NPY file, an array of NumPy", "give the ONNX model"),
        (rb"\x89HDF", "an HDF5 file, as Keras saves models", _EXPORT),
        (rb"GGUF", "a GGUF file", _EXPORT),
        (rb"\x80[\x02-\x05]", "a pickle, as torch.save wrote it", _EXPORT),
        (rb".{8}\{\"", "a safetensors file, weights without a graph", _EXPORT),
        (rb"(\xef\xbb\xbf)?\s*<\s*ir_version", "an ONNX model as text (onnxtxt)", _SAVE.format("onnxtxt")),
        (rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head)", "a web page", "download the model itself"),
        (rb"(\xef\xbb\xbf)?\s*<(\?xml|net)\b", "XML, as OpenVINO saves models", "give the ONNX model"),
        (rb"(\xef\xbb\xbf)?\s*\{.*\"(graph|irVersion)\"", "an ONNX model as JSON", _SAVE.format("json")),
        (rb"(\xef\xbb\xbf)?\s*[\[{]\s*[\"\[{\]}]", "JSON", "give the ONNX model"),
        (
            rb"\s*(#[^\n]*\n\s*)*(ir_version|producer_name|opset_import|graph|model_version|doc_string)\s*[:{]",
            "an ONNX model as text (textproto)",
            _SAVE.format("textproto"),
        ),
        # A model that is damaged further on has zeros, or tags and lengths that are not text, in its first 4 KiB.
        (rb"([\t\n\r -~]|[\xc2-\xf4][\x80-\xbf]{1,3}){8,}[\xc2-\xf4]?[\x80-\xbf]*\Z", "text", "give the ONNX model"),
    )
)

#: What the list of a ZIP archive holds -> what the archive is.
_ARCHIVES = (
    (rb"data\.pkl|constants\.pkl", f"is a PyTorch file; {_EXPORT}"),
    (rb"\.npy", "is an NPZ file, arrays of NumPy; give the ONNX model"),
    (rb"", f"is a ZIP archive; {_UNPACK}"),
)


def other_format(buffer: Buffer) -> str:
    """What the bytes are, and what to do about it; empty if they are nothing that is known.

    Only for what could not be read as a model: some models begin like another format.
    """
    head = bytes(buffer[:_HEAD])
    if head.startswith(b"PK\x03\x04"):
        listed = bytes(buffer[max(0, len(buffer) - _TAIL) :])
        return next(said for pattern, said in _ARCHIVES if re.search(pattern, listed))
    return next((said for pattern, said in _FORMATS if pattern.match(head)), "")
