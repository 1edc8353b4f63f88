"""A model with external data, and how it is converted, for the tests of external data."""

from __future__ import annotations

from pathlib import Path

import pytest

from jr_onnx.cli.main import main

#: The weights that the model adds: 16 bytes, so that values can be compared.
WEIGHTS = bytes(range(16))


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def convert(*arguments: str | Path) -> int:
    return main(["convert", "--jump", "0.5", *map(str, arguments)])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line with which the command refuses."""
    assert convert(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err
