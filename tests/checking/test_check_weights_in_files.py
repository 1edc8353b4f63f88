"""`jr-onnx check` compares weights where they lie: in large files, and in external data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from checking import initializer, large, small

import jr_onnx
from jr_onnx.files.wire import encode_header


def big_pair(folder: Path, megabytes: int) -> tuple[Path, Path]:
    """A model with so many megabytes of weights inline, written without holding them, and its conversion."""
    model = small()
    model.graph.initializer.remove(initializer(model, "large"))
    tensor = large(np.zeros(0, np.float32))
    tensor.dims[:] = [megabytes << 18]
    tensor.ClearField("raw_data")
    head, size = tensor.SerializeToString(), megabytes << 20
    graph, model_fields = model.graph.SerializeToString(), onnx.ModelProto()
    model_fields.CopyFrom(model)
    model_fields.ClearField("graph")
    inner = encode_header(5, len(head) + len(encode_header(9, size)) + size) + head + encode_header(9, size)
    path = folder / "big.onnx"
    with path.open("wb") as file:
        file.write(model_fields.SerializeToString() + encode_header(7, len(graph) + len(inner) + size) + graph + inner)
        for number in range(megabytes):
            file.write(bytes([number % 251]) * (1 << 20))
    return path, jr_onnx.convert(path, jump=0.5, output=folder / "big.jumprelu.onnx").output  # type: ignore[return-value]


def test_a_large_pair_is_streamed_and_one_byte_in_it_is_found(tmp_path: Path) -> None:
    original, converted = big_pair(tmp_path, 400)
    # VmHWM is this program's own peak; ru_maxrss would have that of the process that started it in it.
    code = (
        "import sys; from pathlib import Path; from jr_onnx.cli.main import main; code = main(sys.argv[1:]); "
        "print(*[line for line in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in line]); "
        "sys.exit(code)"
    )
    arguments = [sys.executable, "-c", code, "check", str(original), str(converted), "--no-run"]
    result = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    peak = int(result.stdout.split("VmHWM:")[1].split()[0]) >> 10
    assert peak < 150, f"{peak} MB for a pair of 400 MB models"
    with converted.open("r+b") as file:
        file.seek(300 << 20)
        file.write(b"\xff")
    report = jr_onnx.check(original, converted, run=False)
    assert [finding.rule for finding in report.findings] == ["JR109"]
    assert "'large'" in report.findings[0].message


def external_pair(folder: Path) -> tuple[Path, Path]:
    """A model with external data, and its conversion in another folder with a copy of them."""
    original = folder / "model.onnx"
    onnx.save(small(), original, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "hard").mkdir()
    converted = folder / "hard" / "model.onnx"
    jr_onnx.convert(original, jump=0.5, output=converted)
    return original, converted


def test_external_data_are_compared_where_they_lie(tmp_path: Path) -> None:
    original, converted = external_pair(tmp_path)
    report = jr_onnx.check(original, converted, library=False)
    assert not report.findings, [finding.message for finding in report.findings]
    weights = converted.with_name("weights.bin")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    report = jr_onnx.check(original, converted, run=False)
    assert [finding.rule for finding in report.findings] == ["JR109"]
    assert "weights, byte for byte" in report.checked


def test_external_data_of_a_model_in_memory_are_said_not_to_be_compared(tmp_path: Path) -> None:
    original, converted = external_pair(tmp_path)
    loaded = [onnx.load(path, load_external_data=False) for path in (original, converted)]
    for pair in ((loaded[0], converted), (original, loaded[1]), (None, loaded[1])):
        report = jr_onnx.check(*pair, run=False)
        assert {finding.rule for finding in report.findings} == {"JR001"}, report.findings
        assert all("in memory" in finding.message for finding in report.findings)
        assert "weights, byte for byte" not in report.checked


def test_external_data_that_two_tensors_name_in_two_ways_are_compared(tmp_path: Path) -> None:
    original, _ = external_pair(tmp_path)
    model = onnx.load(original, load_external_data=False)
    tensor = model.graph.initializer.add()
    tensor.CopyFrom(initializer(model, "large"))
    tensor.name = "again"
    entry = next(e for e in tensor.external_data if e.key == "location")
    entry.value = f"./{entry.value}"
    onnx.save(model, original)
    (tmp_path / "again").mkdir()
    converted = jr_onnx.convert(original, jump=0.5, output=tmp_path / "again" / "model.onnx").output
    report = jr_onnx.check(original, converted, run=False)  # type: ignore[arg-type]
    assert not report.findings, report.findings


def test_external_data_that_end_early_by_their_own_account_are_found(tmp_path: Path) -> None:
    original, converted = external_pair(tmp_path)
    model = onnx.load(converted, load_external_data=False)
    entry = next(e for e in initializer(model, "large").external_data if e.key == "length")
    entry.value = str(int(entry.value) - 4)
    onnx.save(model, converted)
    report = jr_onnx.check(original, converted, run=False)
    assert {finding.rule for finding in report.findings} == {"JR109", "JR119"}, report.findings


@pytest.mark.parametrize("damage", ["missing", "short", "outside"])
def test_external_data_must_be_there_whole_and_inside_the_folder(tmp_path: Path, damage: str) -> None:
    original, converted = external_pair(tmp_path)
    weights = converted.with_name("weights.bin")
    if damage == "short":
        weights.write_bytes(weights.read_bytes()[:-1])
    else:
        weights.unlink()
    if damage == "outside":
        weights.symlink_to(tmp_path / "weights.bin")
    for given in (original, None):
        report = jr_onnx.check(given, converted, run=False)
        assert [finding.rule for finding in report.findings] == ["JR119"], report.findings
