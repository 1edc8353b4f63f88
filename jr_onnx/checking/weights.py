"""Weights compared byte for byte, in chunks: nothing is loaded, inline or external."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import onnx

from jr_onnx.checking import rules
from jr_onnx.checking.compare import same_but_for_order
from jr_onnx.checking.report import Finding, finding
from jr_onnx.files.external import all_tensors, without_locations
from jr_onnx.files.skeleton import Payload, payloads_of, with_labels
from jr_onnx.files.source import Source
from jr_onnx.files.spliced import Reader, Spliced, reader_of


def compare_inline(expected: Spliced, hardened: Source, *, same: bool) -> Iterator[Finding]:
    """Compare the payloads of two serialized models, in the order of the file.

    Args:
        same: whether the skeletons are equal. If they are and nothing is found, every payload is where it belongs.
    """
    wanted, found = payloads_of(expected), payloads_of(hardened.buffer)
    read = reader_of(hardened)
    equal = True
    for label in dict.fromkeys((*wanted, *found)):
        text = _payload_difference(wanted.get(label), expected.read, found.get(label), read)
        if text:
            equal = False
            yield finding(rules.WEIGHTS, f"'{label}': {text}")
    if same and equal:
        labelled = (with_labels(expected, wanted), with_labels(hardened.buffer, found))
        if not same_but_for_order(*map(without_locations, labelled)):
            yield finding(rules.WEIGHTS, "large tensors or strings are in other places than in the original")


def _payload_difference(ours: Payload | None, read_ours: Reader, theirs: Payload | None, read_theirs: Reader) -> str:
    if ours is None or theirs is None:
        return f"only {'HARDENED' if ours is None else 'the original'} has its bytes in the model file"
    if ours.number != theirs.number:
        return f"its bytes are in field {theirs.number}, in the original in field {ours.number}"
    length = ours.end - ours.start
    if length != theirs.end - theirs.start:
        return f"{theirs.end - theirs.start} bytes, the original has {length}"
    place = first_difference(read_ours, ours.start, read_theirs, theirs.start, length)
    return "" if place is None else f"its bytes differ from the original's from byte {place} on"


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
    with one.open("rb") as ours, other.open("rb") as theirs:
        place = first_difference(_reader(ours), start, _reader(theirs), other_start, min(length, other_length))
    return min(length, other_length) if place is None and length != other_length else place


def _range(path: Path, entries: Mapping[str, str]) -> tuple[int, int]:
    offset = int(entries.get("offset", 0))
    return offset, int(entries.get("length", path.stat().st_size - offset))


# --- Large models compared as bytes: read in chunks, never mapped into memory or held there ---------------------------

#: Read in one call; small enough that two of them stay in the processor's cache.
_CHUNK = 1 << 18


def _reader(file: IO[bytes]) -> Reader:
    return lambda position, length: os.pread(file.fileno(), length, position)


def first_difference(one: Reader, start: int, other: Reader, other_start: int, length: int) -> int | None:
    """Where two ranges of bytes first differ, counted from their starts; None where they are equal."""
    for done in range(0, length, _CHUNK):
        step = min(_CHUNK, length - done)
        ours, theirs = one(start + done, step), other(other_start + done, step)
        if ours != theirs:
            return done + next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), len(theirs))
    return None
