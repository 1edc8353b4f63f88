"""Outputs appear whole or not at all when the process is killed or interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import strange_models

linux_only = pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without a name are Linux's")


@pytest.fixture
def huge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes so long to write that a process can be stopped at any time."""
    path = tmp_path_factory.mktemp("huge") / "model.onnx"
    strange_models.write_sparse_model(path, 300 << 20)
    return path


def is_whole(output: Path, source: Path) -> bool:
    """Whether a conversion of a large model is complete: its end comes last."""
    with output.open("rb") as file:
        head = file.read(1000)
        file.seek(-1000, os.SEEK_END)
        return output.stat().st_size > source.stat().st_size and b"JumpReLU" in head and b"jr_onnx." in file.read()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


#: Converts argv[1] to argv[2] and kills itself with the signal argv[4] at the moment argv[3].
DIES = """
import itertools, os, signal, sys
from jr_onnx.cli import convert as command
from jr_onnx.cli.main import main

source, output, moment, number = *sys.argv[1:4], int(sys.argv[4])
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
events = itertools.count(1)

def reached(event):
    if moment == event:
        os.kill(os.getpid(), number)

class Bar:
    def __init__(self, path, quiet): self.written, self.size = 0, os.path.getsize(path)
    def __enter__(self): return self.write
    def __exit__(self, *_): pass
    def write(self, count):
        before, self.written = self.written, self.written + count
        if moment.endswith("%") and before < int(moment[:-1]) / 100 * self.size <= self.written:
            reached(moment)

def fsync(descriptor, real=os.fsync, calls=itertools.count(1)):
    call = next(calls)
    reached(f"before fsync {call}")
    real(descriptor)
    reached(f"after fsync {call}")

command.progress_bar = Bar
os.fsync = fsync
sys.addaudithook(lambda event, _: event in ("os.link", "os.rename") and reached(event))
sys.exit(main(["convert", source, "--jump", "0.5", "-o", output]))
"""

MOMENTS = ["1%", "33%", "70%", "100%"] + [f"{when} fsync {n}" for n in (1, 2) for when in ("before", "after")]


def die(source: Path, output: Path, moment: str, number: int) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", DIES, str(source), str(output), moment, str(int(number))]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)


@linux_only
@pytest.mark.parametrize("moment", [*MOMENTS, "os.link"])
def test_a_process_killed_while_it_writes_leaves_no_output_or_a_whole_one(
    moment: str, large: Path, tmp_path: Path
) -> None:
    output = tmp_path / "hardened.onnx"
    assert die(large, output, moment, signal.SIGKILL).returncode == -signal.SIGKILL
    if moment.endswith("fsync 2"):
        assert is_whole(output, large)
    assert names(tmp_path) == ({output.name} if moment.endswith("fsync 2") else set())


@linux_only
@pytest.mark.parametrize("moment", [*MOMENTS, "os.link", "os.rename"])
def test_a_process_killed_while_it_writes_leaves_the_old_output_or_the_new_one(
    moment: str, large: Path, tmp_path: Path
) -> None:
    output = tmp_path / "hardened.onnx"
    output.write_text("the old output")
    assert die(large, output, moment, signal.SIGKILL).returncode == -signal.SIGKILL
    if moment.endswith("fsync 2"):
        assert is_whole(output, large)
    else:
        assert output.read_text() == "the old output"
    # Between its two names, the new file has a hidden one; nothing replaces a name by a file without one.
    left = names(tmp_path) - {output.name}
    assert all(name.startswith(".jr-onnx.") for name in left)
    assert len(left) == (moment == "os.rename")


#: Converts argv[1] to argv[2], and has the kernel kill the process when it has used argv[3] seconds of the processor,
#: unless that is 0; says how many it used.
DIES_AFTER = """
import signal, sys, time
from jr_onnx.cli.main import main

source, output, seconds = *sys.argv[1:3], float(sys.argv[3])
signal.setitimer(signal.ITIMER_PROF, seconds)
code = main(["convert", source, "--jump", "0.5", "-o", output])
print(time.process_time(), file=sys.stderr)
sys.exit(code)
"""


@linux_only
def test_a_process_killed_at_any_time_leaves_no_output_or_a_whole_one(huge: Path, tmp_path: Path) -> None:
    output = tmp_path / "hardened.onnx"

    def die_after(seconds: float) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", DIES_AFTER, str(huge), str(output), str(seconds)]
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)

    whole = float(die_after(0).stderr)
    assert is_whole(output, huge)
    codes = []
    for sixteenths in range(1, 9):  # the first run, with cold caches, may have used twice as many as the others
        output.unlink(missing_ok=True)
        codes.append(die_after(sixteenths / 16 * whole).returncode)
        assert codes[-1] in (0, -signal.SIGPROF)
        assert names(tmp_path) <= {output.name}
        assert is_whole(output, huge) if output.exists() else codes[-1] != 0
    assert -signal.SIGPROF in codes


@pytest.mark.parametrize("moment", ["1%", "50%", "before fsync 1", "os.link"])
def test_ctrl_c_exits_130_and_leaves_nothing(moment: str, large: Path, tmp_path: Path) -> None:
    output = tmp_path / "hardened.onnx"
    done = die(large, output, moment, signal.SIGINT)
    assert done.returncode == 130
    assert done.stderr == "jr-onnx convert: interrupted, nothing was written\n"
    assert names(tmp_path) == set()


def test_ctrl_c_leaves_the_old_output(large: Path, tmp_path: Path) -> None:
    output = tmp_path / "hardened.onnx"
    output.write_text("the old output")
    assert die(large, output, "os.rename", signal.SIGINT).returncode == 130
    assert output.read_text() == "the old output"
    assert names(tmp_path) == {output.name}
