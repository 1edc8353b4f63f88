"""Tensors too large for the skeleton, compared byte for byte in chunks, inline or external; nothing is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from jr_onnx.checking import rules
from jr_onnx.checking.bytestream import FileReader, Reader, first_difference
from jr_onnx.checking.findings import Finding, finding
from jr_onnx.modelfile.schema import CHILDREN, PAYLOADS
from jr_onnx.modelfile.skeleton import PAYLOAD_LIMIT
from jr_onnx.modelfile.tensors import all_tensors
from jr_onnx.modelfile.wire import LENGTH_DELIMITED, Buffer, read_fields

#: Message -> the field that tells it from its neighbours: the name, or of a node the first output.
_NAMES = {"Tensor": 8, "Node": 2, "Attribute": 1, "Function": 1}


@dataclass(frozen=True)
class Payload:
    """The bytes [start, end) of a tensor in a serialized model, and the field that they are in."""

    number: int
    start: int
    end: int


def payloads_of(buffer: Buffer) -> dict[str, Payload]:
    """Every payload that is not in the skeleton, by a label that says where it stands."""
    found: dict[str, Payload] = {}
    repeated: Counter[str] = Counter()
    for label, payload in _walk(buffer, 0, len(buffer), "Model", ""):
        repeated[label] += 1
        found[label if repeated[label] == 1 else f"{label} ({repeated[label]})"] = payload
    return found


def _walk(buffer: Buffer, start: int, end: int, message: str, label: str) -> Iterator[tuple[str, Payload]]:
    fields = list(read_fields(buffer, start, end))
    naming = next((f for f in fields if f.number == _NAMES.get(message) and f.wire_type == LENGTH_DELIMITED), None)
    if naming is not None:
        name = bytes(buffer[naming.value : naming.end]).decode(errors="replace")
        label = f"{label}/{name}" if label else name
    for field in fields:
        if field.wire_type != LENGTH_DELIMITED or field.end - field.value <= PAYLOAD_LIMIT:
            continue
        child = CHILDREN[message].get(field.number)
        if child is not None:
            yield from _walk(buffer, field.value, field.end, child, label)
        elif field.number in PAYLOADS.get(message, frozenset()):
            yield label, Payload(field.number, field.value, field.end)


def compare_inline(ours: Buffer, read_ours: Reader, theirs: Buffer, read_theirs: Reader) -> Iterator[Finding]:
    """Compare the payloads of two serialized models, in the order of the file."""
    wanted, found = payloads_of(ours), payloads_of(theirs)
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
