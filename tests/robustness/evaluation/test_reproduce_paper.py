"""The benchmark of the paper's experiments: what it refuses, before hours of work."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from evaluation_models import DIGITS, IMAGES

PROGRAM = Path(__file__).parents[3] / "benchmarks" / "reproduce_paper.py"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no.onnx", str(IMAGES)], "no.onnx: no such file"),
        ([str(DIGITS), "no.npz"], "no.npz: no such file"),
        ([str(DIGITS), str(IMAGES), "--samples", "0"], "--samples 0"),
        ([str(DIGITS), str(IMAGES), "--jumps", "0,x"], "--jumps: 'x' is not a number"),
        ([str(DIGITS), str(IMAGES), "--eps", "8"], "write 8/255, not 8"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runpy.run_path(str(PROGRAM))["main"](arguments) == 2
    told = capsys.readouterr()
    assert told.err.startswith("reproduce_paper: ")
    assert complaint in told.err
    assert told.err.count("\n") == 1
    assert not told.out
