"""Arrays from NPY and NPZ files, memory-mapped where they are not compressed."""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.errors import OptionError
from jr_onnx.text import bytes_text, one_line

_HEADERS: Mapping[tuple[int, int], Callable[[Any], tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

#: Of the header in front of each member of a ZIP file: its length, and where the lengths of name and extra field are.
_LOCAL_HEADER, _LENGTHS = 30, slice(26, 30)

#: What all compressed members may unpack to: a few MB of a ZIP file can hold many GB of zeros.
_MOST_PACKED = 2 << 30

_BLOCK = 1 << 20

#: What zipfile and NumPy raise where a file is damaged, encrypted, packed in an unknown way, or holds something else.
_UNREADABLE = (
    ValueError,
    TypeError,
    EOFError,
    KeyError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array of an NPY file, as a memory map.

    Raises:
        OptionError: the file cannot be read, or is not an NPY file.
    """
    try:
        array: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise OptionError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise OptionError(f"{path}: not an NPY file of a plain array: {_line(error)}") from error
    return array


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an NPZ file by name, all of whose bytes are as they were stored (CRC-32).

    One that is stored without compression is a memory map.

    Raises:
        OptionError: the file cannot be read, holds something else than plain arrays, or its compressed arrays would
            take more than 2 GiB of memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            packed = sum(member.file_size for member in members if member.compress_type != zipfile.ZIP_STORED)
            if packed > _MOST_PACKED:
                raise OptionError(
                    f"{path}: its compressed arrays unpack to {bytes_text(packed)}, more than the "
                    f"{bytes_text(_MOST_PACKED)} that are read; save it with numpy.savez, which does not compress"
                )
            return {member.filename.removesuffix(".npy"): _member(path, archive, member) for member in members}
    except OSError as error:
        raise OptionError(f"{path}: cannot be read: {error.strerror or error}") from error
    except _UNREADABLE as error:
        raise OptionError(f"{path}: not an NPZ file of plain arrays: {_line(error)}") from error


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(member) as stream:
        read = _HEADERS.get(np.lib.format.read_magic(stream))
        if read is None:
            raise ValueError(f"{member.filename} has an unknown version of the format")
        shape, in_columns, dtype = read(stream)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects")
        header, size = stream.tell(), math.prod(shape) * dtype.itemsize
        if header + size != member.file_size:
            raise ValueError(f"{member.filename} has {member.file_size - header} bytes of data, not {size}")
        order: Any = "F" if in_columns else "C"
        if member.compress_type != zipfile.ZIP_STORED or not size:
            return np.frombuffer(stream.read(), dtype).reshape(shape, order=order)
        while stream.read(_BLOCK):  # at the end, its checksum is compared
            pass
    with path.open("rb") as raw:
        raw.seek(member.header_offset)
        names = sum(struct.unpack("<HH", raw.read(_LOCAL_HEADER)[_LENGTHS]))
    return np.memmap(path, dtype, "r", member.header_offset + _LOCAL_HEADER + names + header, shape, order)


def _line(error: Exception) -> str:
    return one_line(error) or type(error).__name__
