"""The provider tests of this folder with no GPU: onnxruntime's own CUDA provider, on a fake CUDA runtime."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import fake_provider
import pytest

pytestmark = pytest.mark.slow

TESTS = ("test_cuda_provider.py", "test_fake_cuda.py")


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64") or sys.version_info < (3, 11),
    reason=f"{fake_provider.ONNXRUNTIME} has no wheel for this system",
)
@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_the_provider_tests_pass_on_a_fake_cuda_runtime(tmp_path: Path) -> None:
    try:
        python = fake_provider.make(tmp_path)
    except fake_provider.NotToBeHadError as error:
        pytest.skip(str(error))
    files = [fake_provider.HERE / name for name in TESTS]
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", *files]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout, done.stdout[-5000:]
