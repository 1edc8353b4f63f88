"""The tests here are of the kernel library: where it could not be built, they are skipped, and say so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jr_onnx import runtime
from jr_onnx.errors import RuntimeMissingError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def library() -> Path:
    """The kernel library; its absence is a failure wherever it could have been built."""
    try:
        return runtime.library_path()
    except RuntimeMissingError as error:
        if any(map(shutil.which, ("c++", "g++", "clang++"))):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY
