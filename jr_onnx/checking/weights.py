"""Weights compared byte for byte, in chunks: nothing is loaded, inline or external."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import overload

import onnx

from jr_onnx.checking import rules
from jr_onnx.checking.compare import same_but_for_order
from jr_onnx.checking.report import Finding, finding
from jr_onnx.files.external import all_tensors, without_locations
from jr_onnx.files.skeleton import PAYLOAD_LIMIT, Payload, payloads_of, with_labels
from jr_onnx.files.source import Source
from jr_onnx.files.splice import Piece, Span
from jr_onnx.files.wire import Buffer


def compare_inline(
    ours: Buffer, read_ours: Reader, theirs: Buffer, read_theirs: Reader, *, same: bool
) -> Iterator[Finding]:
    """Compare the payloads of two serialized models, in the order of the file.

    Args:
        same: whether the skeletons are equal. If they are and nothing is found, every payload is where it belongs.
    """
    wanted, found = payloads_of(ours), payloads_of(theirs)
    differences = list(_differences(wanted, read_ours, found, read_theirs))
    yield from differences
    if same and not differences and not same_but_for_order(_with_labels(ours, wanted), _with_labels(theirs, found)):
        yield finding(rules.WEIGHTS, "large tensors or strings are in other places than in the original")


def _with_labels(buffer: Buffer, payloads: Mapping[str, Payload]) -> onnx.ModelProto:
    return without_locations(with_labels(buffer, payloads))


def _differences(
    wanted: Mapping[str, Payload], read_ours: Reader, found: Mapping[str, Payload], read_theirs: Reader
) -> Iterator[Finding]:
    for label in dict.fromkeys((*wanted, *found)):
        if label not in found or label not in wanted:
            where = "the original" if label in wanted else "HARDENED"
            yield finding(rules.WEIGHTS, f"'{label}': only {where} has its bytes in the model file")
            continue
        one, other = wanted[label], found[label]
        if one.number != other.number:
            text = f"'{label}': its bytes are in field {other.number}, in the original in field {one.number}"
            yield finding(rules.WEIGHTS, text)
            continue
        length = one.end - one.start
        if length != other.end - other.start:
            yield finding(rules.WEIGHTS, f"'{label}': {other.end - other.start} bytes, the original has {length}")
            continue
        place = first_difference(read_ours, one.start, read_theirs, other.start, length)
        if place is not None:
            yield finding(rules.WEIGHTS, f"'{label}': its bytes differ from the original's from byte {place} on")


def compare_external(
    ours: onnx.ModelProto, our_folder: Path, theirs: onnx.ModelProto, their_folder: Path
) -> Iterator[Finding]:
    """Compare the external data of two models, whose `data_files` are known to be sound, from the folders they lie in.

    A file that both share is not read.
    """
    wanted, found = _external(ours), _external(theirs)
    for label, entries in wanted.items():
        if label not in found:
            continue  # a finding of the structure
        one, other = our_folder / entries["location"], their_folder / found[label]["location"]
        if one.samefile(other) and entries == found[label]:
            continue
        place = _difference(one, entries, other, found[label])
        if place is not None:
            yield finding(rules.WEIGHTS, f"'{label}': its bytes in {other.name} differ from byte {place} on")


def _external(model: onnx.ModelProto) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    repeated: Counter[str] = Counter()
    for tensor in all_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            repeated[tensor.name] += 1
            label = tensor.name if repeated[tensor.name] == 1 else f"{tensor.name} ({repeated[tensor.name]})"
            found[label] = {entry.key: entry.value for entry in tensor.external_data}
    return found


def _difference(one: Path, entries: Mapping[str, str], other: Path, others: Mapping[str, str]) -> int | None:
    (start, length), (other_start, other_length) = _range(one, entries), _range(other, others)
    with FileReader(one) as ours, FileReader(other) as theirs:
        place = first_difference(ours, start, theirs, other_start, min(length, other_length))
    return min(length, other_length) if place is None and length != other_length else place


def _range(path: Path, entries: Mapping[str, str]) -> tuple[int, int]:
    offset = int(entries.get("offset", 0))
    return offset, int(entries.get("length", path.stat().st_size - offset))


# --- Large models compared as bytes: read in chunks, never mapped into memory or held there ---------------------------

#: Read in one call; small enough that two of them stay in the processor's cache.
_CHUNK = 1 << 18

#: The bytes [position, position + length), or fewer at the end.
Reader = Callable[[int, int], bytes]


def reader_of(source: Source) -> Reader:
    """Read a model's bytes: from its file, past the memory map, whose pages would count as this process's memory."""
    if source.file is None:
        return lambda position, length: source.buffer[position : position + length]
    descriptor = source.file.fileno()
    return lambda position, length: os.pread(descriptor, length, position)


class FileReader:
    """Read a file that is not a model: external data."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def __call__(self, position: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, position)

    def __enter__(self) -> FileReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


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


def first_difference(one: Reader, start: int, other: Reader, other_start: int, length: int) -> int | None:
    """Where two ranges of bytes first differ, counted from their starts; None where they are equal."""
    for done in range(0, length, _CHUNK):
        step = min(_CHUNK, length - done)
        ours, theirs = one(start + done, step), other(other_start + done, step)
        if ours != theirs:
            return done + next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), len(theirs))
    return None
