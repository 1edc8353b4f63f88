"""Outputs that are links are followed; pipes, devices and open files are written to, or refused, and never replaced."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import MODELS

import jr_onnx
from jr_onnx.errors import OutputError
from jr_onnx.files.atomic import atomic_file

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, pipes and devices as POSIX has them")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    shutil.copyfile(MODELS / "digits.onnx", folder / "a.onnx")
    jr_onnx.convert(folder / "a.onnx", jump=0.5, output=folder / "h.onnx")
    return folder


def run(folder: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "jr_onnx", *arguments]
    return subprocess.run(command, cwd=folder, check=False, timeout=120, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


#: Each command that writes a text file, with the option that names it last.
WRITERS: Sequence[Sequence[str]] = (
    ("check", "h.onnx", "--no-run", "--output"),
    ("diff", "a.onnx", "h.onnx", "--html"),
)

#: Each command that writes a model.
MODEL_WRITERS: Sequence[Sequence[str]] = (
    ("convert", "a.onnx", "--jump", "0.5", "--force", "-o"),
    ("optimize", "h.onnx", "--level", "basic", "--force", "-o"),
)


@pytest.mark.parametrize("command", [*WRITERS, *MODEL_WRITERS], ids=lambda command: command[0])
def test_a_link_stays_a_link_and_its_file_is_written(command: Sequence[str], models: Path, tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "folder" / "file"
    file.parent.mkdir()
    link.symlink_to("folder/file")
    for before in (None, b"old"):  # the first time the link leads to nothing
        if before is not None:
            file.write_bytes(before)
        assert run(models, *command, str(link), stdout=subprocess.DEVNULL).returncode == 0
        assert link.is_symlink()
        assert len(file.read_bytes()) > 100
        assert {path.name for path in (*tmp_path.iterdir(), *file.parent.iterdir())} == {"link", "folder", "file"}


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "a link"])
def test_a_report_to_standard_output_stands_in_order_with_what_is_printed(
    name: str, models: Path, tmp_path: Path
) -> None:
    if name == "a link":
        (tmp_path / "link").symlink_to("/dev/stdout")
    target = str(tmp_path / "link") if name == "a link" else name
    redirected = tmp_path / "redirected"
    with redirected.open("wb") as stdout:
        stdout.write(b"[0,\n")
        stdout.flush()
        arguments = ("check", "h.onnx", "--no-run", "--format", "text", "--format", "json")
        arguments = (*arguments, "--output", str(tmp_path / "report.txt"), "--output", target)
        assert run(models, *arguments, stdout=stdout).returncode == 0
        stdout.seek(0, os.SEEK_END)
        stdout.write(b"]")
    before, report = json.loads(redirected.read_text())
    assert (before, report["tool"]["name"]) == (0, "jr-onnx")
    assert Path("/dev/stdout").is_symlink()


@pytest.mark.parametrize("command", WRITERS, ids=lambda command: command[0])
def test_a_pipe_and_a_device_are_written_to(command: Sequence[str], models: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    assert run(models, *command, str(pipe), stdout=subprocess.DEVNULL).returncode == 0
    reader.join(timeout=60)
    assert len(read[0]) > 100
    assert stat.S_ISFIFO(pipe.stat().st_mode)

    done = run(models, *command, "/dev/full", stdout=subprocess.DEVNULL)
    assert done.returncode == 2
    assert b"/dev/full: cannot be written: No space left on device" in done.stderr
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


@pytest.mark.parametrize("command", MODEL_WRITERS, ids=lambda command: command[0])
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/null", "/dev/fd/1"])
def test_a_model_is_no_stream(command: Sequence[str], name: str, models: Path, tmp_path: Path) -> None:
    with (tmp_path / "redirected").open("wb") as stdout:
        done = run(models, *command, name, stdout=stdout)
    assert done.returncode == 2
    assert done.stderr.decode().endswith(f"{name}: is no regular file; choose another --output\n")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert (tmp_path / "redirected").read_bytes() == b""


@pytest.mark.parametrize("command", [*WRITERS, *MODEL_WRITERS], ids=lambda command: command[0])
def test_links_that_go_round_in_a_circle_are_an_error_in_one_line(
    command: Sequence[str], models: Path, tmp_path: Path
) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    done = run(models, *command, str(tmp_path / "one"), stdout=subprocess.DEVNULL)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"Too many levels of symbolic links" in done.stderr


def test_a_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    os.mkfifo(disk)  # in the place of a block device, which only root could make
    monkeypatch.setattr(Path, "is_block_device", lambda _: True)
    with pytest.raises(OutputError, match="is a disk"), atomic_file(disk):
        pass
