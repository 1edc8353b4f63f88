"""An edited model read as if it were written: nothing is joined in memory."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import overload

from jr_onnx.files.skeleton import PAYLOAD_LIMIT
from jr_onnx.files.source import Source
from jr_onnx.files.splice import Piece, Span

#: The bytes [position, position + length), or fewer at the end.
Reader = Callable[[int, int], bytes]


def reader_of(source: Source) -> Reader:
    """Read a model's bytes: from its file, past the memory map, whose pages would count as this process's memory."""
    if source.file is None:
        return lambda position, length: source.buffer[position : position + length]
    descriptor = source.file.fileno()
    return lambda position, length: os.pread(descriptor, length, position)


class Spliced:
    """An edited model as if it were written: the bytes of its pieces, to be read like any other buffer."""

    def __init__(self, source: Source, pieces: list[Piece]) -> None:
        self._buffer = source.buffer
        self._read_source = reader_of(source)
        self._pieces = pieces
        self._starts = [0, *accumulate(map(len, pieces))]

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, item: int) -> int: ...
    @overload
    def __getitem__(self, item: slice) -> bytes: ...
    def __getitem__(self, item: int | slice) -> int | bytes:
        if isinstance(item, int):
            return self.read(item, 1)[0]
        start, stop, _ = item.indices(len(self))
        return self.read(start, stop - start)

    def read(self, position: int, length: int) -> bytes:
        """The bytes [position, position + length), or fewer at the end."""
        parts: list[bytes] = []
        index = bisect_right(self._starts, position) - 1
        while length > 0 and index < len(self._pieces):
            piece, inside = self._pieces[index], position - self._starts[index]
            step = min(length, len(piece) - inside)
            if isinstance(piece, Span):
                start = piece.start + inside
                small = step <= PAYLOAD_LIMIT  # the map is faster, and these pages are read for the skeleton anyway
                parts.append(self._buffer[start : start + step] if small else self._read_source(start, step))
            else:
                parts.append(piece[inside : inside + step])
            position, length, index = position + step, length - step, index + 1
        return parts[0] if len(parts) == 1 else b"".join(parts)
