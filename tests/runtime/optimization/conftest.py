"""Optimised models are for the kernel library: where it could not be built, these tests are skipped, and say so."""

from __future__ import annotations

import shutil

import pytest

import jr_onnx


@pytest.fixture(scope="session", autouse=True)
def library() -> None:
    """The kernel library; its absence is a failure wherever it could have been built."""
    try:
        jr_onnx.library_path()
    except jr_onnx.RuntimeMissingError as error:
        if any(map(shutil.which, ("c++", "g++", "clang++"))):
            raise
        pytest.skip(str(error))
