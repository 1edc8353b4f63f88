"""`jr-onnx optimize` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from optimized import residual_net
from support import MODELS

import jr_onnx
from jr_onnx.cli.main import main


@pytest.fixture
def hard(tmp_path: Path) -> Path:
    path = tmp_path / "hard.onnx"
    jr_onnx.convert(residual_net(tmp_path / "net.onnx"), jump=0.3, output=path)
    return path


def test_it_says_where_each_jump_relu_went(hard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", str(hard)]) == 0
    out = capsys.readouterr().out
    assert "4 JumpReLUs: 3 behind fused nodes (1 of them below a MaxPool), 1 in place of a Relu" in out
    assert hard.with_name("hard.optimized.onnx").is_file()


def test_json_holds_the_same(hard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", str(hard), "--level", "extended", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["level"], report["sites"], report["below"]) == ("extended", 4, 0)


def test_an_optimised_model_is_not_converted_again(hard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast = hard.with_name("fast.onnx")
    jr_onnx.optimize(hard, output=fast)
    assert main(["convert", str(fast), "--jump", "1"]) == 2
    assert "was optimised for one machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("plain", "has no JumpReLU; harden it first"),
        ("recurrent", "has no JumpReLU outside of RNN, GRU and LSTM"),
        ("optimised", "is optimised already"),
        ("missing", "no such file"),
        ("itself", "is the input itself"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    hard: Path, case: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = hard.parent
    model = {"plain": folder / "net.onnx", "missing": folder / "none.onnx", "itself": hard}.get(case)
    if case == "recurrent":
        model = folder / "rnn.onnx"
        jr_onnx.convert(MODELS / "rnn.torchscript.onnx", jump=0.3, exclude=["/relu/Relu"], output=model)
    elif model is None:
        model = folder / "fast.onnx"
        jr_onnx.optimize(hard, output=model)
    before = sorted((path.name, path.read_bytes()) for path in folder.iterdir())
    output = hard if case == "itself" else folder / "out.onnx"
    assert main(["optimize", str(model), "-o", str(output)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted((path.name, path.read_bytes()) for path in folder.iterdir()) == before


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_an_optimised_model_is_not_checked_against_the_original(
    provider: Literal["cpu", "cuda"], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = residual_net(tmp_path / "net.onnx")
    jr_onnx.convert(original, jump=0.3, output=tmp_path / "hard.onnx")
    jr_onnx.optimize(tmp_path / "hard.onnx", output=tmp_path / "fast.onnx", provider=provider)
    assert main(["check", str(original), str(tmp_path / "fast.onnx")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"jr-onnx check: {tmp_path / 'fast.onnx'}: was optimised; check the hardened")
    assert main(["check", str(tmp_path / "fast.onnx")]) == 0
