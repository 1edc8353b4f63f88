"""Arrays from NPY and NPZ files, memory-mapped where they are not compressed."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.errors import OptionError
from jr_onnx.text import one_line

_HEADERS: Mapping[tuple[int, int], Callable[[Any], tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

#: Of the header in front of each member of a ZIP file: its length, and where the lengths of name and extra field are.
_LOCAL_HEADER, _LENGTHS = 30, slice(26, 30)


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array of an NPY file, as a memory map.

    Raises:
        OptionError: the file cannot be read, or is none.
    """
    try:
        array: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise OptionError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise OptionError(f"{path}: not an NPY file of a plain array: {_line(error)}") from error
    return array


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an NPZ file by name; one that is stored without compression is a memory map.

    Raises:
        OptionError: the file cannot be read, or is none of plain arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as file:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            return {name: _mapped(path, members[name], file) for name in file.files}
    except OSError as error:
        raise OptionError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise OptionError(f"{path}: not an NPZ file of plain arrays: {_line(error)}") from error


def _mapped(path: Path, member: zipfile.ZipInfo, file: Any) -> npt.NDArray[Any]:
    if member.compress_type == zipfile.ZIP_STORED:
        with path.open("rb") as raw:
            raw.seek(member.header_offset)
            raw.seek(sum(struct.unpack("<HH", raw.read(_LOCAL_HEADER)[_LENGTHS])), 1)
            read = _HEADERS.get(np.lib.format.read_magic(raw))
            shape, in_columns, dtype = read(raw) if read is not None else ((), False, np.dtype(object))
            if math.prod(shape) and not dtype.hasobject:  # the rest NumPy reads, or refuses
                return np.memmap(path, dtype, "r", raw.tell(), shape, "F" if in_columns else "C")
    array: npt.NDArray[Any] = file[member.filename.removesuffix(".npy")]
    return array


def _line(error: Exception) -> str:
    return one_line(error) or type(error).__name__
