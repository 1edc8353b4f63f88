"""What several tests of files share."""

from __future__ import annotations

from pathlib import Path

import pytest
import strange_models
from external_models import WEIGHTS


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 64 MB: big enough that a process can be stopped at many moments while it writes."""
    path = tmp_path_factory.mktemp("large") / "model.onnx"
    strange_models.write_sparse_model(path, 64 << 20)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    strange_models.save_external(folder / "model.onnx", {"w": WEIGHTS})
    return folder / "model.onnx"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    folder.mkdir()
    return folder
