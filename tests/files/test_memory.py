"""Weights are never loaded: what a conversion needs does not grow with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import strange_models
from strange_models import save_external

linux_only = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")

MEASURE = """
import json, re, sys, time
from jr_onnx.cli.main import main
code = main(sys.argv[1:])
seconds = time.process_time()
# Not getrusage: its peak includes that of the process that started this one.
[peak] = re.findall(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())
print(json.dumps([code, seconds, int(peak) * 1024]), file=sys.stderr)
"""


def measured(*arguments: str | Path) -> tuple[int, float, float]:
    """The exit code of the command, the processor's seconds, and the bytes of memory it had at most."""
    command = [sys.executable, "-c", MEASURE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    code, seconds, memory = json.loads(done.stderr.splitlines()[-1])
    return code, seconds, memory


@linux_only
@pytest.mark.parametrize("mode", ["share", "copy"])
def test_external_data_are_not_loaded(mode: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    save_external(tmp_path / "model.onnx", {"w": 200 << 20 if mode == "copy" else 10 << 30})
    output = (tmp_path if mode == "share" else other) / "hardened.onnx"
    arguments = (tmp_path / "model.onnx", "--jump", "0.5", "-o", output)
    code, seconds, memory = measured("convert", *arguments)
    assert code == 0
    assert output.stat().st_size < 1000
    assert memory < 150e6
    assert seconds < 4 or mode == "copy"


@linux_only
def test_a_large_model_in_one_file_is_not_loaded(tmp_path: Path) -> None:
    payload = (2 << 30) + (100 << 20)  # more than protobuf itself can parse
    source, output = tmp_path / "model.onnx", tmp_path / "hardened.onnx"
    strange_models.write_sparse_model(source, payload)
    code, seconds, memory = measured("inspect", source)
    assert (code, seconds < 4, memory < 150e6) == (0, True, True)
    code, _, memory = measured("convert", source, "--jump", "0.5", "-o", output)
    assert (code, memory < 150e6) == (0, True)
    assert output.stat().st_size > payload
    code, _, _ = measured("inspect", output)
    assert code == 0
    output.unlink()
