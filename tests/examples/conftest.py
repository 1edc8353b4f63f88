"""The examples of examples/, run as their README says."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from example_programs import EXAMPLES
from support import MODELS, Array

import jr_onnx


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """The digits model, hardened."""
    path = tmp_path / "digits.jumprelu.onnx"
    jr_onnx.convert(MODELS / "digits.onnx", jump=0.5, output=path)
    return path


@pytest.fixture(scope="session")
def image() -> Array:
    """One test image [1, 1, 8, 8]."""
    with np.load(MODELS / "digits_test.npz") as data:
        array: Array = data["x"][:1]
    return array


@pytest.fixture
def logits(digits: Path, image: Array) -> Array:
    """What onnxruntime in this process gives for it, by the function in the model."""
    result: Array = onnxruntime.InferenceSession(digits).run(None, {"image": image})[0]
    return result


@pytest.fixture(scope="session")
def npm_example(kept_folder: Callable[[str, Callable[[Path], None]], Path]) -> Callable[[str], Path]:
    """A copy of an example with what its package.json names; kept in pytest's cache."""

    def install(name: str) -> Path:
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            pytest.skip("there is no Node.js here")

        def update(folder: Path) -> None:
            for file in (EXAMPLES / name).iterdir():
                if file.is_file():
                    shutil.copy(file, folder)
            # Without the variable, onnxruntime-node's script downloads CUDA libraries.
            environment = {**os.environ, "ONNXRUNTIME_NODE_INSTALL_CUDA": "skip"}
            done = subprocess.run(
                [npm, "install", "--no-audit"], cwd=folder, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr

        return kept_folder(f"npm-{name}", update)

    return install
