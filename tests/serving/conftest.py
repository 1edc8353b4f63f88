"""Model servers, each installed into a virtual environment of its own and started for real.

The environments are kept in pytest's cache, so that only the first run downloads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from server_models import mixed_model

from jr_onnx import convert

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def installed(kept_folder: Callable[[str, Callable[[Path], None]], Path]) -> Callable[[str], Path]:
    """The `bin` folder of an environment with this package and one of its extras."""

    def install(extra: str) -> Path:
        def update(folder: Path) -> None:
            if not (folder / "bin" / "pip").exists():
                venv.create(folder, with_pip=True)
            command = [folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", f"{REPOSITORY}[{extra}]"]
            done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "JR_CUDA": "OFF"})
            assert done.returncode == 0, done.stdout + done.stderr

        return kept_folder(f"venv-{extra}-{sys.version_info[0]}.{sys.version_info[1]}", update) / "bin"

    return install


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model with its jump as an input."""
    path = tmp_path_factory.mktemp("digits") / "digits.jumprelu.onnx"
    convert(REPOSITORY / "models" / "digits.onnx", jump=0.5, jump_input="jump", output=path)
    return path


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    with np.load(REPOSITORY / "models" / "digits_test.npz") as data:
        array: np.ndarray = data["x"]
    return array


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes and gives every datatype."""
    path = tmp_path_factory.mktemp("mixed") / "mixed.jumprelu.onnx"
    onnx.save(mixed_model(0.5), path)
    return path
