"""External data: brought along or shared, checked, and never loaded."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from external_models import WEIGHTS, convert, files_in, refusal
from strange_models import save_external
from support import session

import jr_onnx
from jr_onnx.files import writing
from jr_onnx.files.external import all_tensors

# --- brought along ----------------------------------------------------------------------------------------------------


def test_in_the_same_folder_the_data_file_is_shared_and_not_touched(source: Path) -> None:
    data = source.with_name("w.bin")
    before = data.stat()
    assert convert(source) == 0
    assert files_in(source.parent) == {"model.onnx", "model.jumprelu.onnx", "w.bin"}
    after = data.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_nlink) == (before.st_ino, before.st_mtime_ns, 1)
    [tensor] = onnx.load(source.with_name("model.jumprelu.onnx")).graph.initializer[:1]
    assert tensor.raw_data == WEIGHTS


def test_in_another_folder_the_data_file_is_copied(
    source: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(source, "-o", other / "hardened.onnx", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["external_mode"] == "copy"
    assert report["external_data"] == ["w.bin"]
    assert files_in(other) == {"hardened.onnx", "w.bin"}
    assert (other / "w.bin").stat().st_nlink == 1
    assert (other / "w.bin").read_bytes() == WEIGHTS


def test_data_in_subfolders_are_brought_to_the_same_subfolders(tmp_path: Path, other: Path) -> None:
    locations = {"w": "weights/deep/w.bin", "v": "weights/v.bin", "u": "u.bin"}
    save_external(tmp_path / "model.onnx", {"w": WEIGHTS, "v": b"v" * 8, "u": b"u" * 4}, locations=locations)
    assert convert(tmp_path / "model.onnx", "-o", other / "hardened.onnx") == 0
    assert files_in(other) >= {"hardened.onnx", *locations.values()}
    assert [(other / location).read_bytes() for location in locations.values()] == [WEIGHTS, b"v" * 8, b"u" * 4]


def test_one_file_that_is_written_in_several_ways_is_brought_once(tmp_path: Path, other: Path) -> None:
    locations = {"w": "w.bin", "again": "./w.bin", "and again": ".//w.bin"}
    save_external(tmp_path / "model.onnx", dict.fromkeys(locations, WEIGHTS), locations=locations)
    assert convert(tmp_path / "model.onnx", "-o", other / "hardened.onnx") == 0
    assert files_in(other) == {"hardened.onnx", "w.bin"}


def test_a_link_within_the_folder_is_followed(source: Path, other: Path) -> None:
    real = source.with_name("real.bin")
    source.with_name("w.bin").rename(real)
    source.with_name("w.bin").symlink_to("real.bin")
    assert convert(source, "-o", other / "hardened.onnx") == 0
    assert (other / "w.bin").read_bytes() == WEIGHTS
    assert not (other / "w.bin").is_symlink()


def test_the_original_and_the_output_load_everywhere_by_default(source: Path, other: Path) -> None:
    # onnx 1.21 and newer refuse a data file with several names.
    assert convert(source, "-o", other / "hardened.onnx") == 0
    for path in (source, other / "hardened.onnx"):
        assert onnx.load(path).graph.initializer[0].raw_data == WEIGHTS
        onnx.checker.check_model(str(path))
        assert session(path).run(None, {"x": np.ones(4, np.float32)})


def test_other_data_of_that_name_stay_and_with_force_the_new_data_get_another_name(
    source: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (other / "w.bin").write_bytes(b"something else")
    arguments = (source, "-o", other / "hardened.onnx")
    assert f"{other / 'w.bin'}: another file stands here" in refusal(capsys, *arguments)
    assert files_in(other) == {"w.bin"}
    for _ in range(2):  # the second time a copy of the data is there
        assert convert(*arguments, "--force", "--json") == 0
        report = json.loads(capsys.readouterr().out)
        assert report["external_data"] == ["w.1.bin"]
        assert report["notes"] == ["other data have the name w.bin there: the model names w.1.bin"]
        assert report["size"] == (other / "hardened.onnx").stat().st_size
        assert files_in(other) == {"w.bin", "w.1.bin", "hardened.onnx"}
    assert (other / "w.bin").read_bytes() == b"something else"
    assert (other / "w.1.bin").read_bytes() == WEIGHTS
    report = jr_onnx.check(source, other / "hardened.onnx")
    assert not report.findings, report.findings


def test_other_data_stay_what_they_are_if_the_model_cannot_be_written(
    source: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (other / "w.bin").write_bytes(b"something else")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "write_pieces", full)
    assert convert(source, "-o", other / "hardened.onnx", "--force") == 2
    assert files_in(other) == {"w.bin"}
    assert (other / "w.bin").read_bytes() == b"something else"


def test_data_of_the_replaced_model_are_removed_where_no_model_names_them(source: Path, other: Path) -> None:
    output = other / "hardened.onnx"
    assert convert(source, "-o", output) == 0
    for number in range(4):
        weights = bytes([number]) * 16
        source.with_name("w.bin").write_bytes(weights)
        assert convert(source, "-o", output, "--force") == 0
        assert files_in(other) == {"hardened.onnx", "w.bin" if number % 2 else "w.1.bin"}
        assert onnx.load(output).graph.initializer[0].raw_data == weights


@pytest.mark.parametrize("neighbour", ["neighbour.onnx", "neighbour.pb", "no model"])
def test_data_that_another_model_may_name_stay(neighbour: str, source: Path, other: Path) -> None:
    output = other / "hardened.onnx"
    assert convert(source, "-o", output) == 0
    name = "neighbour.onnx" if neighbour == "no model" else neighbour
    (other / name).write_bytes(b"no model" if neighbour == "no model" else output.read_bytes())
    (other / "notes.txt").write_bytes(b"no model")
    source.with_name("w.bin").write_bytes(bytes(16))
    assert convert(source, "-o", output, "--force") == 0
    assert files_in(other) == {"hardened.onnx", name, "notes.txt", "w.bin", "w.1.bin"}
    assert (other / "w.bin").read_bytes() == WEIGHTS


def test_every_tensor_of_renamed_data_finds_them(tmp_path: Path, other: Path) -> None:
    locations = {"w": "./w.bin", "again": "w.bin", "v": "sub/v.bin", "taken": "w.1.bin"}
    model = save_external(tmp_path / "model.onnx", dict.fromkeys(locations, WEIGHTS), locations=locations)
    (tmp_path / "w.1.bin").write_bytes(bytes(16))
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["c"], value=model.graph.initializer[0])], "b", [], []
    )
    body.output.add(name="c")
    model.graph.node.append(onnx.helper.make_node("If", ["yes"], ["z"], then_branch=body, else_branch=body))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (other / "w.bin").write_bytes(b"something else")
    (other / "sub").mkdir()
    (other / "sub" / "v.bin").write_bytes(b"something else")
    assert convert(tmp_path / "model.onnx", "-o", other / "hardened.onnx", "--force") == 0
    hardened = onnx.load(other / "hardened.onnx", load_external_data=False)
    found = {tensor.name: tensor.external_data[0].value for tensor in all_tensors(hardened) if tensor.external_data}
    assert found == {"w": "w.2.bin", "again": "w.2.bin", "v": "sub/v.1.bin", "taken": "w.1.bin"}
    assert (other / "w.2.bin").read_bytes() == (other / "sub" / "v.1.bin").read_bytes() == WEIGHTS
    inside = next(node for node in hardened.graph.node if node.op_type == "If").attribute[0].g.node[0].attribute[0].t
    assert inside.external_data[0].value == "w.2.bin"
    report = jr_onnx.check(tmp_path / "model.onnx", other / "hardened.onnx", run=False)
    assert not report.findings, report.findings

    (other / "w.2.bin").write_bytes(bytes(16))
    report = jr_onnx.check(tmp_path / "model.onnx", other / "hardened.onnx", run=False)
    assert {one.rule for one in report.findings} == {"JR109"}


def test_the_very_file_may_stand_there_already(source: Path, other: Path) -> None:
    (other / "w.bin").hardlink_to(source.with_name("w.bin"))
    assert convert(source, "-o", other / "hardened.onnx") == 0
    assert (other / "w.bin").samefile(source.with_name("w.bin"))


def test_a_copy_of_the_file_may_stand_there_already(source: Path, other: Path) -> None:
    (other / "w.bin").write_bytes(WEIGHTS)
    before = (other / "w.bin").stat()
    for name in ("hardened.onnx", "again.onnx"):
        assert convert(source, "-o", other / name) == 0
    after = (other / "w.bin").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_folder_that_stands_in_the_way_is_an_error(
    source: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (other / "w.bin").mkdir()
    arguments = (source, "-o", other / "hardened.onnx", "--force")
    assert str(other / "w.bin") in refusal(capsys, *arguments)
    assert files_in(other) == {"w.bin"}


def test_a_dangling_link_that_stands_in_the_way_stays(
    source: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (other / "w.bin").symlink_to("nowhere")
    assert str(other / "w.bin") in refusal(capsys, source, "-o", other / "hardened.onnx")
    assert (other / "w.bin").is_symlink()
    assert files_in(other) == {"w.bin"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_conversion_that_fails_takes_away_what_it_brought(
    error: BaseException, tmp_path: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locations = {"w": "weights/deep/w.bin", "v": "mine/v.bin"}
    save_external(tmp_path / "model.onnx", {"w": WEIGHTS, "v": b"v" * 8}, locations=locations)
    (other / "mine").mkdir()
    (other / "mine" / "something.txt").write_text("stays")
    syncs = iter(range(100))
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if next(syncs) == 4:  # two files and their folders are copied before
            raise error
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    code = convert(tmp_path / "model.onnx", "-o", other / "hardened.onnx")
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert files_in(other) == {"mine", "mine/something.txt"}


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_failure_once_the_model_has_its_name_takes_nothing_away(
    error: BaseException, source: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        if (other / "hardened.onnx").exists():
            raise error

    monkeypatch.setattr(os, "fsync", fsync)
    assert convert(source, "-o", other / "hardened.onnx") in (2, 130)
    assert onnx.load(other / "hardened.onnx").graph.initializer[0].raw_data == WEIGHTS


@pytest.mark.parametrize("mode", ["share", "copy"])
def test_a_dry_run_brings_nothing(mode: str, source: Path, other: Path) -> None:
    output = source.with_name("hardened.onnx") if mode == "share" else other / "hardened.onnx"
    assert convert(source, "-o", output, "--dry-run") == 0
    assert files_in(other) == set()
    assert files_in(source.parent) == {"model.onnx", "w.bin"}


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("how", ["its name", "a hard link", "where it would be brought"])
def test_the_data_file_is_never_overwritten_by_the_model(
    how: str, force: list[str], source: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = source.with_name("w.bin")
    output = data if how == "its name" else other / "link.bin"
    if how == "a hard link":
        output.hardlink_to(data)
    elif how == "where it would be brought":
        output = other / "w.bin"
    refused = refusal(capsys, source, "-o", output, *force)
    assert f"{output}: is where the model's external data lies" in refused
    assert data.read_bytes() == WEIGHTS
    assert output.exists() == (how != "where it would be brought")
