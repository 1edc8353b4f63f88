"""NPZ files that were damaged, or made to do harm: refused in one line, without much memory."""

from __future__ import annotations

import io
import pickle
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jr_onnx.errors import OptionError
from jr_onnx.runtime.data.arrays import read_npz
from jr_onnx.runtime.data.loading import load_data

X = np.random.default_rng(0).random((40, 1, 8, 8)).astype(np.float32)


def npy(shape: Any, descr: str = "<f4", data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + data


def whole(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


MEMBERS: Mapping[str, bytes] = {
    "a shape that no memory holds": npy((2**40, 1, 8, 8)),
    "a shape that overflows": npy((2**62, 4, 8, 8)),
    "a negative shape": npy((-5, 1, 8, 8), data=bytes(100)),
    "elements of no size": npy((2**50,), "|S0"),
    "void": npy((2**60,), "|V0"),
    "objects": npy((3,), "|O", pickle.dumps([1, 2, 3])),
    "less data than the header says": whole(X)[:-100],
    "more data than the header says": whole(X) + b"xx",
    "no header": b"hello",
    "nothing": b"",
    "an unknown version": npy((4,), version=b"\x09\x00"),
    "a deep header": b"\x93NUMPY\x02\x00" + (9999).to_bytes(4, "little") + b"(" * 9998 + b"\n",
    "a long header": b"\x93NUMPY\x02\x00" + (200000).to_bytes(4, "little") + b"(" * 199999 + b"\n",
    "code": b"\x93NUMPY\x01\x00\x40\x00" + b"__import__('os').system('touch PWN')".ljust(63) + b"\n",
}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("what", MEMBERS)
@pytest.mark.parametrize("read", [read_npz, load_data])
def test_a_member_that_is_no_array(
    what: str, compression: int, read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", MEMBERS[what])
    with pytest.raises(OptionError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}: not an NPZ file of plain arrays: ")
    assert "\n" not in str(raised.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["d.npz"]


def flipped(content: bytearray, start: int) -> None:
    content[start] ^= 0xFF


def encrypted(content: bytearray) -> None:
    content[content.find(b"PK\x01\x02") + 8] |= 1


def packed_otherwise(content: bytearray) -> None:
    content[content.find(b"PK\x01\x02") + 10] = 99


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "damage", [lambda content: flipped(content, 3000), encrypted, packed_otherwise, lambda content: content.pop()]
)
def test_a_damaged_archive(damage: Callable[[bytearray], None], compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=X, y=np.arange(40))
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    with pytest.raises(OptionError) as raised:
        read_npz(path)
    assert str(raised.value).startswith(f"{path}: not an NPZ file of plain arrays: ")


def test_every_bit_of_a_stored_array_counts(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=X[:1])
    content = path.read_bytes()
    start = content.index(X[:1].tobytes())
    for byte in range(start, start + X[:1].nbytes, 17):
        changed = bytearray(content)
        changed[byte] ^= 1
        path.write_bytes(changed)
        with pytest.raises(OptionError, match="CRC"):
            read_npz(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "u1", "?", "<U5", "S3"])
def test_arrays_come_out_as_they_went_in(save: Any, order: Any, dtype: str, tmp_path: Path) -> None:
    arrays = {"x": np.asarray(X.astype(dtype), order=order), "empty": np.zeros((0, 3), dtype), "one": X[0, 0, 0, 0]}
    save(tmp_path / "d.npz", **arrays)
    found = read_npz(tmp_path / "d.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    assert isinstance(found["x"], np.memmap) == (save is np.savez)


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(9):  # none is large by itself
            with archive.open(f"x{number}.npy", "w") as member:
                member.write(npy((1 << 28,), "|u1"))
                for _ in range(16):
                    member.write(bytes(1 << 24))
    assert path.stat().st_size < 4 << 20
    code = "import sys; from jr_onnx.runtime.data.loading import read_data; read_data(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)),
    )
    assert "its compressed arrays unpack to 2.4 GB, more than the 2.1 GB that are read" in done.stderr
