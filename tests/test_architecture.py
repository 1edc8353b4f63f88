"""ARCHITECTURE.md and its picture are what the package is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from architecture_picture import PICTURE, layers, picture  # noqa: E402 - behind the path

TEXT = (ROOT / "ARCHITECTURE.md").read_text()


def test_the_picture_is_the_one_that_the_contracts_give() -> None:
    assert PICTURE.read_text() == picture(), "run python tools/architecture_picture.py"


def test_every_room_stands_in_the_contracts() -> None:
    there = {
        path.stem for path in (ROOT / "jr_onnx").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert {name for row in layers() for name in row} == there - {
        "__init__",
        "__main__",
    }


@pytest.mark.parametrize(
    "path",
    sorted(set(re.findall(r"`((?:jr_onnx|custom_ops|tests|tools|docs)/[\w/.]*)`", TEXT))),
)
def test_what_the_page_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_page_names_every_room() -> None:
    rooms = {path.parent.name for path in (ROOT / "jr_onnx").glob("*/__init__.py")}
    assert rooms == set(re.findall(r"`jr_onnx/(\w+)/`", TEXT))
