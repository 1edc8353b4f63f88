"""The scripts in tools/: onnxruntime's versions, and the proof of the C ABI."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_the_declarations_agree_with_the_official_headers(repository: Path) -> None:
    ran = subprocess.run([sys.executable, repository / "tools" / "check_ort_abi.py"], capture_output=True, text=True)
    if ran.returncode == 77:
        pytest.skip(ran.stdout.strip())
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_wrong_declaration_fails_the_proof(repository: Path, tmp_path: Path) -> None:
    sources = repository / "custom_ops" / "src"
    tools = tmp_path / "tools"
    (tmp_path / "custom_ops" / "src").mkdir(parents=True)
    tools.mkdir()
    header = (sources / "ort_abi.h").read_text()
    (tmp_path / "custom_ops" / "src" / "ort_abi.h").write_text(header.replace("Slot<27,", "Slot<25,"))
    for name in ("check_ort_abi.py", "check_ort_abi.cc"):
        (tools / name).write_text((repository / "tools" / name).read_text())
    ran = subprocess.run([sys.executable, tools / "check_ort_abi.py"], capture_output=True, text=True)
    if ran.returncode == 77:
        pytest.skip(ran.stdout.strip())
    assert ran.returncode == 1
    assert re.search(r"static assertion failed.*CustomOpDomain_Add|CustomOpDomain_Add", ran.stdout)


def test_the_oldest_and_the_newest_onnxruntime_run_the_kernels_and_an_older_one_is_refused(
    repository: Path, library: Path
) -> None:
    matrix = repository / "tools" / "onnxruntime_matrix.py"
    command = [sys.executable, matrix, "--library", library, "--versions", "1.16.3", "1.17.0", "newest"]
    ran = subprocess.run(command, capture_output=True, text=True)
    if "No matching distribution found for onnxruntime==1.1" in ran.stdout:
        pytest.skip(f"the oldest onnxruntime has no wheel for this Python: {ran.stdout}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count(" ok ") == 3
