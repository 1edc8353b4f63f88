"""Without onnxruntime, what needs it is one line that says what to install; the rest works."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from outcome import Outcome, refusal
from support import MODELS

import jr_onnx

LINE = "pip install onnxruntime, or onnxruntime-gpu for CUDA"
DIGITS, DATA = MODELS / "digits.onnx", MODELS / "digits_test.npz"


@pytest.fixture
def hard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # importing it fails
    path = tmp_path / "hard.onnx"
    jr_onnx.convert(DIGITS, jump=0.5, output=path)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ("optimize", "HARD"),
        ("bench", DIGITS, "HARD"),
        ("tune", DIGITS, "--data", DATA, "--objective", "clean"),
        ("evaluate", DIGITS, "HARD", "--data", DATA, "--eps", "0.1", "--attacks", "square"),
        ("deploy", "HARD", "--server", "kserve", "-o", "OUT"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_that_needs_it_says_so_in_one_line(arguments: tuple[object, ...], hard: Path) -> None:
    named = {"HARD": hard, "OUT": hard.with_name("out")}
    assert LINE in refusal(hard.parent, *(named.get(str(one), one) for one in arguments))


@pytest.mark.parametrize("optimize", [False, True])
def test_a_session_needs_it(hard: Path, optimize: bool) -> None:
    with pytest.raises(jr_onnx.RuntimeMissingError, match=LINE) as caught:
        jr_onnx.session(hard, optimize=optimize)
    assert "\n" not in str(caught.value)


def test_check_checks_the_structure_and_says_what_it_could_not_run(hard: Path) -> None:
    outcome = Outcome(hard.parent, ("check", DIGITS, hard))
    assert outcome.code == 1
    assert LINE in outcome.out
    assert "weights, byte for byte" in outcome.out
    assert Outcome(hard.parent, ("check", DIGITS, hard, "--no-run")).code == 0


@pytest.mark.parametrize(
    "arguments", [("inspect", "HARD"), ("diff", DIGITS, "HARD"), ("info",)], ids=lambda arguments: arguments[0]
)
def test_the_others_do_without(arguments: tuple[object, ...], hard: Path) -> None:
    outcome = Outcome(hard.parent, tuple(hard if one == "HARD" else one for one in arguments))
    assert outcome.code == 0
    assert not outcome.err
