"""The folder of `jr-onnx deploy` appears whole or not at all, and takes the place of nothing but its like."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jr_onnx
from jr_onnx import OptionError, OutputError, deploy
from jr_onnx.serving.folder import write_new


def no_space(*_: object) -> Any:
    raise OSError(28, "No space left on device")


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_folder_with_something_in_it_is_refused_and_stays_as_it_is(model: Path, refused: Callable[..., str]) -> None:
    out = model.parent / "out"
    out.mkdir()
    (out / "precious.txt").write_text("precious")
    for force in ((), ("--force",)):
        assert "out" in refused("deploy", model, "--server", "triton", "-o", out, *force)
        assert [file.name for file in out.iterdir()] == ["precious.txt"]


def test_an_empty_folder_is_filled(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    deploy(model, "triton", tmp_path / "out")
    assert (tmp_path / "out" / "net" / "config.pbtxt").is_file()


def test_force_replaces_what_was_deployed_before_and_nothing_else(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    deploy(model, "triton", out, name="before")
    with pytest.raises(jr_onnx.OutputError, match="add `force=True`"):
        deploy(model, "mlserver", out)
    assert (out / "before" / "config.pbtxt").is_file()
    deploy(model, "mlserver", out, force=True)
    assert not (out / "before").exists()
    assert (out / "settings.json").is_file()
    (out / "net" / "notes.txt").write_text("mine")
    with pytest.raises(jr_onnx.OutputError, match=r"holds net/notes\.txt"):
        deploy(model, "triton", out, force=True)
    assert (out / "net" / "notes.txt").read_text() == "mine"


def test_an_interrupted_run_leaves_nothing_new_and_the_old_folder(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    deploy(model, "triton", out)
    before = contents(tmp_path)
    calls = {"copy": "jr_onnx.serving.deploy.write_pieces", "disk": "jr_onnx.serving.folder.os.fsync"}
    for call in calls.values():
        with monkeypatch.context() as patch:
            patch.setattr(call, no_space)
            for force, place in ((True, out), (False, tmp_path / "other")):
                with pytest.raises(OutputError, match="No space left"):
                    deploy(model, "mlserver", place, force=force)
        assert contents(tmp_path) == before


def test_where_the_new_folder_cannot_take_the_name_the_old_one_gets_it_back(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    deploy(model, "triton", out)
    before = contents(tmp_path)
    rename = Path.rename

    def fails_for_the_new_one(self: Path, target: Path) -> Path:
        return no_space() if (self / "settings.json").exists() else rename(self, target)

    monkeypatch.setattr(ctypes, "CDLL", lambda _: None)  # a system that cannot exchange two names at once
    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    with pytest.raises(OutputError, match="No space left"):
        deploy(model, "mlserver", out, force=True)
    assert contents(tmp_path) == before


def test_all_is_on_the_disk_before_the_folder_has_its_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, synced, fsync = tmp_path / "out", [], os.fsync

    def watch(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, out.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    deploy(model, "mlserver", out)
    assert {(path.stat().st_ino, False) for path in (out, *out.rglob("*"))} < set(synced)
    assert synced[-1] == (tmp_path.stat().st_ino, True)


@pytest.mark.parametrize("force", [False, True])
def test_what_comes_to_stand_at_the_place_meanwhile_stays(
    force: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    if force:
        deploy(model, "triton", out)

    def readme(*_: object) -> str:
        out.mkdir(exist_ok=True)
        (out / "mine").touch()
        return ""

    monkeypatch.setattr("jr_onnx.serving.deploy._readme", readme)
    with pytest.raises(OutputError):
        deploy(model, "mlserver", out, force=force)
    assert (out / "mine").exists()
    assert not list(tmp_path.glob(".jr-onnx*"))


@pytest.mark.parametrize("force", [False, True])  # who was told to add `force` would be refused then
def test_a_folder_with_sums_of_its_own_is_not_ours(force: bool, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "data").write_bytes(b"precious")
    (out / "SHA256SUMS").write_text(f"{hashlib.sha256(b'precious').hexdigest()}  data\n")
    with pytest.raises(OutputError, match="was not written by jr-onnx deploy"):
        deploy(model, "triton", out, force=force)
    assert (out / "data").read_bytes() == b"precious"


@pytest.mark.parametrize("change", ["content", "link", "linked folder", "folder", "pipe", "more sums"])
def test_force_refuses_a_folder_in_which_something_changed(change: str, model: Path, tmp_path: Path) -> None:
    out, aside = tmp_path / "out", tmp_path / "aside"
    deploy(model, "mlserver", out)
    file = out / "net" / "model.onnx"
    if change == "content":
        file.write_bytes(b"mine")
    elif change == "link":
        file.rename(aside)
        file.symlink_to(aside)
    elif change == "linked folder":
        (out / "net").rename(aside)
        (out / "net").symlink_to(aside)
    elif change == "pipe":
        file.unlink()
        os.mkfifo(file)
    elif change == "folder":
        (out / "mine").mkdir()
    else:
        (out / "mine").write_bytes(b"mine")
        with (out / "SHA256SUMS").open("a") as sums:
            sums.write(f"{'0' * 64}  mine\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="choose another `output`"):
        deploy(model, "mlserver", out, force=True)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["README.md", "readme.MD", "SHA256SUMS", "settings.json"])
def test_a_name_that_a_file_of_the_folder_has_is_refused(name: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="a file of that name"):
        deploy(model, "mlserver", tmp_path / "out", name=name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["missing/out", "net.jumprelu.onnx", "nul\0"])
def test_a_place_where_no_folder_can_be_is_refused(place: str, model: Path, refused: Callable[..., str]) -> None:
    refused("deploy", model, "--server", "triton", "-o", model.parent / place)


def test_a_link_and_the_current_folder_are_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = model.parent / "here"
    here.mkdir()
    (model.parent / "link").symlink_to(here)
    monkeypatch.chdir(here)
    for place in (Path(), model.parent / "link"):
        with pytest.raises(jr_onnx.OutputError):
            deploy(model, "triton", place)


def test_no_file_of_the_folder_is_written_twice(tmp_path: Path) -> None:
    write_new(tmp_path / "README.md", "the first")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "README.md", "the second")
    assert (tmp_path / "README.md").read_text() == "the first"
