"""What the tests of `jr-onnx deploy` share."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from support import hardened, relu_model

import jr_onnx
from jr_onnx import runtime
from jr_onnx.errors import RuntimeMissingError
from jr_onnx.serving.trial import Trial


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in where no kernel library was built: it is copied, and not loaded."""
    try:
        return runtime.library_path()
    except RuntimeMissingError:
        folder = tmp_path / "installed"
        folder.mkdir()
        (folder / "jr_onnx_ops.so").write_bytes(b"kernels")
        build = {"compiler": "", "processor": "", "cpu": [], "cuda": "", "cuda_architectures": []}
        (folder / "jr_onnx_ops.json").write_text(json.dumps(build))
        monkeypatch.setattr(jr_onnx, "__path__", [*jr_onnx.__path__, str(folder)])
        monkeypatch.setattr("jr_onnx.serving.deploy.try_model", lambda *_, library: Trial(library))
        return folder / "jr_onnx_ops.so"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.jumprelu.onnx"
    onnx.save(hardened(relu_model(shape=["N", 3])), path)
    return path
