"""The kernels and the op under sanitizers, by a C++ program that stands in for onnxruntime."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(not shutil.which("cmake"), reason="cmake is not installed"),
    pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler"),
]


@pytest.mark.parametrize(
    "sanitizers",
    [
        pytest.param("ON", id="none"),
        pytest.param("address,undefined", id="asan and ubsan", marks=(pytest.mark.slow, pytest.mark.sanitizers)),
        pytest.param("thread", id="tsan", marks=(pytest.mark.slow, pytest.mark.sanitizers)),
    ],
)
def test_the_harness_finds_nothing_wrong(sanitizers: str, repository: Path, tmp_path: Path) -> None:
    options = ["-DJR_CUDA=OFF", f"-DJR_HARNESS={sanitizers}"]
    for command in (
        ["cmake", "-S", repository / "custom_ops", "-B", tmp_path, *options],
        ["cmake", "--build", tmp_path, "--target", "jr_harness", "--parallel", str(os.cpu_count() or 1)],
    ):
        built = subprocess.run(command, capture_output=True, text=True)
        assert built.returncode == 0, built.stdout + built.stderr
    ran = subprocess.run([tmp_path / "harness" / "jr_harness"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "the harness found nothing wrong" in ran.stdout
