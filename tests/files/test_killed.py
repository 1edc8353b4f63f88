"""A process killed before any of its system calls that change a folder: the model and its data are old, or both new.

A child is forked for each moment. Python tells of each such call before it is made (`sys.addaudithook`); what lies
between two of them are reads, and writes to files that have no name yet.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from strange_models import save_external

from jr_onnx import convert

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kill and fork as POSIX has them")

OLD, NEW = bytes(16), bytes(range(16))

#: Runs the command line argv[1] in a child that is killed before its argv[2]-th call that touches the folder argv[3];
#: exits with 9 where it was, else with the child's code.
DIES = """
import json, os, sys
import jr_onnx.conversion.convert, jr_onnx.cli.convert
from jr_onnx.cli.main import main

command, moment, folder = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if len(sys.argv) > 4:
    del os.O_TMPFILE
CHANGES = ("open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "fcntl.flock")
seen = begun = 0

def hook(event, arguments):
    global seen, begun
    begun = begun or any(isinstance(one, (str, os.PathLike)) and folder in str(one) for one in arguments)
    if begun and event in CHANGES:
        seen += 1
        if seen == moment:
            os.kill(os.getpid(), 9)

def fsync(descriptor, real=os.fsync):
    hook("open", ())  # of which Python does not tell
    real(descriptor)

os.fsync = fsync
sys.addaudithook(hook)
os._exit(main(command))
"""


def die(command: list[str], moment: int, folder: Path, *without_tmpfile: str) -> int:
    arguments = [sys.executable, "-c", DIES, json.dumps(command), str(moment), str(folder), *without_tmpfile]
    return subprocess.run(arguments, stdout=subprocess.DEVNULL, check=False, timeout=60).returncode


def what_is_there(output: Path) -> str:
    """Which jump the model has, and which data it finds."""
    if not output.exists():
        return "nothing"
    model = onnx.load(output)  # with its data
    [weights] = [tensor.raw_data for tensor in model.graph.initializer if tensor.name == "w"]
    [jump] = [entry.value for entry in model.metadata_props if entry.key == "jr_onnx.jump"]
    return {(OLD, "0.25"): "old", (NEW, "0.5"): "new"}[weights, jump]


@pytest.mark.slow
@pytest.mark.parametrize("way", [(), ("without O_TMPFILE",)], ids=["files without a name", "temporary names"])
@pytest.mark.parametrize("there", ["nothing", "old"])
def test_model_and_data_change_together(there: str, way: tuple[str, ...], tmp_path: Path) -> None:
    sources = {}
    for name, weights in (("old", OLD), ("new", NEW)):
        (tmp_path / name).mkdir()
        save_external(tmp_path / name / "m.onnx", {"w": weights})
        sources[name] = tmp_path / name / "m.onnx"
    seen, moment = [], 0
    while not seen or seen[-1] != "done":
        moment += 1
        folder = tmp_path / f"out{moment}"
        folder.mkdir()
        output = folder / "o.onnx"
        if there == "old":
            convert(sources["old"], jump=0.25, output=output)
        command = ["convert", str(sources["new"]), "--jump", "0.5", "-o", str(output), "--force"]
        code = die(command, moment, folder, *way)
        seen.append(what_is_there(output) if code == -signal.SIGKILL else "done")
        assert code in (0, -signal.SIGKILL)
        # What was left behind does not matter to the next run, which removes it.
        convert(sources["new"], jump=0.5, output=output, force=True)
        assert what_is_there(output) == "new"
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    changed = seen.index("new")
    assert set(seen[:changed]) == {there}
    assert set(seen[changed:]) == {"new", "done"}
    assert changed > 10
