"""Bytes from one file to another, whatever the kernel can do."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jr_onnx.errors import OutputError
from jr_onnx.files.splice import Piece, Span, copy_file, join, write_pieces

#: Lengths at which one way of copying may end and another begin.
LENGTHS = [0, 1, 4095, 65535, 65536, 65537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_001]


def _fail(*_: object) -> int:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


#: What the kernel's own copy does, from the real one.
KERNEL: dict[str, Any] = {
    "copies": lambda real: real,
    "copies a little at a time": lambda real: lambda a, b, length, at: real(a, b, min(length, 100_003), at),
    "copies nothing": lambda _: lambda *_: 0,
    "cannot copy between these files": lambda _: _fail,
}


@pytest.fixture(params=KERNEL)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    real = getattr(os, "copy_file_range", _fail)
    monkeypatch.setattr(os, "copy_file_range", KERNEL[request.param](real), raising=False)
    return str(request.param)


@pytest.mark.parametrize("seed", range(8))
def test_pieces_are_written_as_they_are_joined(seed: int, tmp_path: Path) -> None:
    content = np.random.default_rng(seed).bytes(8_000_000)
    (tmp_path / "source").write_bytes(content)
    chance = random.Random(seed)
    pieces: list[Piece] = []
    for length in LENGTHS:
        start = chance.randrange(len(content) - length)
        new = content[: chance.choice((1, 77, 70_000, 3_000_000))]
        pieces += [Span(start, start + length), bytes(reversed(new))]
    chance.shuffle(pieces)
    told: list[int] = []
    with (tmp_path / "source").open("rb", buffering=0) as source, (tmp_path / "target").open("wb") as target:
        write_pieces(target, pieces, source, told.append)
    assert (tmp_path / "target").read_bytes() == join(content, pieces)
    assert sum(told) == sum(map(len, pieces))


@pytest.mark.parametrize("size", LENGTHS)
def test_a_file_is_copied(kernel: str, size: int, tmp_path: Path) -> None:
    content = np.random.default_rng(size).bytes(size)
    (tmp_path / "source").write_bytes(content)
    told: list[int] = []
    with (tmp_path / "source").open("rb", buffering=0) as source, (tmp_path / "target").open("wb") as target:
        copy_file(source, target, size, told.append)
    assert (tmp_path / "target").read_bytes() == content, kernel
    assert sum(told) == size


def test_a_kernel_that_stops_halfway_is_helped_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(os, "copy_file_range", None)
    if real is None:
        pytest.skip("copy_file_range is Linux's")
    calls: list[int] = []

    def stops(source: int, target: int, length: int, position: int) -> int:
        calls.append(position)
        return _fail() if len(calls) > 2 else int(real(source, target, min(length, 1_000_001), position))

    monkeypatch.setattr(os, "copy_file_range", stops)
    content = np.random.default_rng(0).bytes(5_000_000)
    (tmp_path / "source").write_bytes(content)
    with (tmp_path / "source").open("rb", buffering=0) as source, (tmp_path / "target").open("wb") as target:
        copy_file(source, target, len(content), lambda _: None)
    assert (tmp_path / "target").read_bytes() == content
    assert calls == [0, 1_000_001, 2_000_002]


def test_a_source_that_has_become_shorter_is_an_error(kernel: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 1000)
    with (tmp_path / "source").open("rb", buffering=0) as source, (tmp_path / "target").open("wb") as target:
        with pytest.raises(OutputError, match="source: became shorter while it was copied"):
            copy_file(source, target, 1001, lambda _: None)
        with pytest.raises(OutputError, match="source: became shorter while it was copied"):
            write_pieces(target, [Span(500, 1001)], source, lambda _: None)
    assert kernel in KERNEL


@pytest.mark.parametrize("size", [1 << 20, 100 << 20])
def test_progress_is_told_often_enough_for_a_bar_and_for_ctrl_c(kernel: str, size: int, tmp_path: Path) -> None:
    with (tmp_path / "source").open("wb") as sparse:
        sparse.truncate(size)
    told: list[int] = []
    with (tmp_path / "source").open("rb", buffering=0) as source, (tmp_path / "target").open("wb") as target:
        copy_file(source, target, size, told.append)
    assert max(told) <= 16 << 20, kernel
