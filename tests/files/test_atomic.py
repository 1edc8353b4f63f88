"""Outputs appear whole or not at all: on a full disk, after an error, or where nothing can be written."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest
import strange_models

from jr_onnx import convert
from jr_onnx.cli import convert as command
from jr_onnx.cli.main import main
from jr_onnx.files import atomic
from jr_onnx.files.atomic import atomic_file, remove_stale, temporary_folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(strange_models.weighted_relu().SerializeToString())
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- no room, no folder, no permission --------------------------------------------------------------------------------


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line with which the command refuses."""
    assert main(["convert", "--jump", "0.5", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize("room", [0, 1000, 60_000, 20 << 20])
def test_a_full_disk_leaves_nothing(room: int, large: Path, tmp_path: Path) -> None:
    source = large
    if room < 60_000:
        source = tmp_path / "model.onnx"
        source.write_bytes(strange_models.weighted_relu().SerializeToString())
    there = names(tmp_path)
    limited = f"""
import resource, signal, sys
from jr_onnx.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
sys.exit(main(["convert", "--jump", "1", {str(source)!r}, "-o", {str(tmp_path / "hardened.onnx")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f"jr-onnx convert: {tmp_path / 'hardened.onnx'}: cannot be written: File too large\n"
    assert names(tmp_path) == there


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_an_error_at_the_very_end_leaves_the_old_output(
    number: int, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: int) -> None:
        raise OSError(number, os.strerror(number))

    output = model.with_name("hardened.onnx")
    output.write_text("the old output")
    monkeypatch.setattr(os, "fsync", fails)
    assert os.strerror(number) in refusal(capsys, model, "-o", output)
    assert output.read_text() == "the old output"
    assert names(model.parent) == {model.name, output.name}


def test_a_folder_that_is_missing_is_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model.parent / "missing"
    assert f"{folder}: no such folder" in refusal(capsys, model, "-o", folder / "hardened.onnx")
    assert not folder.exists()


def test_a_file_is_no_folder(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{model}: no such folder" in refusal(capsys, model, "-o", model / "hardened.onnx")


def test_a_folder_is_no_output(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model.parent / "folder"
    folder.mkdir()
    assert f"{folder}: is a folder" in refusal(capsys, model, "-o", folder)
    assert names(folder) == set()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which not even root can write")
def test_a_folder_that_nobody_can_write_to_is_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "/proc/hardened.onnx: cannot be written: " in refusal(capsys, model, "-o", "/proc/hardened.onnx")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write to a read-only folder")
def test_a_read_only_folder_is_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model.parent / "folder"
    folder.mkdir(mode=0o500)
    assert f"{folder / 'hardened.onnx'}: cannot be written: " in refusal(capsys, model, "-o", folder / "hardened.onnx")
    assert names(folder) == set()


def test_a_pipe_or_a_device_is_not_replaced_by_a_file(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = model.parent / "pipe"
    os.mkfifo(pipe)
    assert f"{pipe}: is no regular file" in refusal(capsys, model, "-o", pipe, "--force")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_name_that_is_too_long_is_an_error(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = model.parent / ("n" * 300)
    assert f"{output}: cannot be written: " in refusal(capsys, model, "-o", output)
    assert names(model.parent) == {model.name}


@pytest.mark.parametrize("name", ["n" * 255, "模" * 85])
def test_a_name_as_long_as_names_can_be_is_written(name: str, model: Path) -> None:
    for _ in range(2):  # the second time there is a file to replace
        assert convert(model, jump=0.5, output=model.parent / name).written
        assert names(model.parent) == {model.name, name}


# --- the input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["same", "spelled otherwise", "hard link", "symbolic link"])
def test_the_input_is_overwritten_with_force_only(how: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = model.read_bytes()
    output = model.with_name("link.onnx")
    if how == "same":
        output = model
    elif how == "spelled otherwise":
        output = model.parent / ".." / model.parent.name / model.name
    elif how == "hard link":
        output.hardlink_to(model)
    else:
        output.symlink_to(model)
    assert f"{output}: is the input itself" in refusal(capsys, model, "-o", output)
    assert model.read_bytes() == output.read_bytes() == before

    assert main(["convert", str(model), "--jump", "0.5", "-o", str(output), "--force"]) == 0
    assert [node.op_type for node in onnx.load(output).graph.node] == ["Add", "JumpReLU"]
    assert (model.read_bytes() == before) == (how == "hard link")  # a symbolic link is followed
    assert output.is_symlink() == (how == "symbolic link")


def test_the_default_output_is_replaced_without_force(model: Path) -> None:
    output = model.with_name("model.jumprelu.onnx")
    output.write_text("the old output")
    assert main(["convert", str(model), "--jump", "0.5"]) == 0
    onnx.checker.check_model(onnx.load(output))


# --- the parts --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["without a name", "under a temporary name"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The two ways in which a file is written before it has its name."""
    if request.param == "under a temporary name":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not hasattr(os, "O_TMPFILE"):
        pytest.skip("files without a name are Linux's")
    return str(request.param)


@pytest.mark.parametrize("existing", [False, True])
def test_a_file_has_its_name_only_when_it_is_complete(way: str, existing: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if existing:
        path.write_text("old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert (path.read_text() if existing else path.exists()) == ("old" if existing else False)
        assert len(names(tmp_path)) == existing + (way == "under a temporary name")
    assert path.read_text() == "new"
    assert names(tmp_path) == {"file"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_exception_leaves_the_old_file(way: str, error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as file:
        file.write(b"new")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == {"file"}, way


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
def test_the_mode_follows_the_umask(way: str, mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        with atomic_file(tmp_path / "file") as file:
            file.write(b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask, way


def test_the_data_are_on_the_disk_before_the_name_is(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / "file").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_file(tmp_path / "file") as file:
        file.write(b"new")
    assert synced == [(False, False), (True, True)], way


def test_what_killed_processes_left_is_removed_by_the_next_and_nothing_else(tmp_path: Path) -> None:
    stale = tmp_path / ".jr-onnx.0123456789ab.tmp"
    stale.write_text("left behind")
    (tmp_path / ".jr-onnx.00ff00ff00ff.tmp").mkdir()
    (tmp_path / ".jr-onnx.00ff00ff00ff.tmp" / "model.onnx").write_text("left behind by deploy")
    stay = {".jr-onnx.0123456789ab.tmp.bak", ".jr-onnx.mine.tmp", "x.jr-onnx.0123456789ab.tmp"}
    for name in stay:
        (tmp_path / name).write_text("somebody's")
    outside = tmp_path / "outside"
    outside.write_text("somebody's")
    (tmp_path / ".jr-onnx.111111111111.tmp").symlink_to(outside)
    with atomic_file(tmp_path / "file") as file:
        file.write(b"new")
    assert names(tmp_path) == {"file", "outside", ".jr-onnx.111111111111.tmp", *stay}


def test_what_another_process_writes_is_left_alone(way: str, tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "folder") as folder, atomic_file(tmp_path / "one") as one:
        there = names(tmp_path)
        remove_stale(tmp_path)
        with atomic_file(tmp_path / "two") as two:
            two.write(b"2")
        assert names(tmp_path) == {*there, "two"}, way
        assert folder.name in there
        one.write(b"1")
    assert names(tmp_path) == {"one", "two"}
    assert ((tmp_path / "one").read_bytes(), (tmp_path / "two").read_bytes()) == (b"1", b"2")


def test_a_temporary_file_that_was_taken_for_stale_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    made: list[str] = []

    def lock(_: int) -> None:
        if not made:
            [name] = names(tmp_path)
            made.append(name)
            (tmp_path / name).unlink()

    monkeypatch.setattr(atomic, "_lock", lock)
    with atomic_file(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == {"file"}


def test_a_failure_while_it_is_written_leaves_the_old_output(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def interrupted(_: Path, **__: object) -> Iterator[object]:
        def progress(_: int) -> None:
            raise KeyboardInterrupt

        yield progress

    output = model.with_name("hardened.onnx")
    output.write_text("the old output")
    monkeypatch.setattr(command, "progress_bar", interrupted)
    assert main(["convert", str(model), "--jump", "0.5", "-o", str(output)]) == 130
    assert output.read_text() == "the old output"
    assert names(model.parent) == {model.name, output.name}
