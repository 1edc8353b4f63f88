"""Tensors too large for the skeleton, compared byte for byte in chunks, inline or external; nothing is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx

from jr_onnx.checking import rules
from jr_onnx.checking.bytestream import FileReader, Reader, first_difference
from jr_onnx.checking.findings import Finding, finding
from jr_onnx.comparison.structure import same_but_for_order
from jr_onnx.modelfile.external import without_locations
from jr_onnx.modelfile.payloads import Payload, payloads_of, with_labels
from jr_onnx.modelfile.tensors import all_tensors
from jr_onnx.modelfile.wire import Buffer


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
