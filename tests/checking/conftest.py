"""What the tests of `check` share."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from checking import broken, hardened, small
from damage import leave_a_relu


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with an original, a good and a bad hardened model."""
    onnx.save(small(), tmp_path / "a.onnx")
    onnx.save(hardened(), tmp_path / "a.jumprelu.onnx")
    onnx.save(broken(leave_a_relu), tmp_path / "bad.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path
