"""What the tests of commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import (
    FLOAT,
    FLOAT16,
    INT64,
    make_model,
    node,
    relu_model,
    value,
)

from jr_onnx.cli.main import main


class Result:
    """What a command did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `jr-onnx` with arguments, in this process."""

    def execute(*arguments: object) -> Result:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exited:  # argparse's own way out
            code = int(exited.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return execute


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file with one Relu of ten floats."""
    path = tmp_path / "net.onnx"
    onnx.save(relu_model(), path)
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A file with Relus of two types and an integer one, in two scopes, a Clip, and a threshold of its own."""
    then = onnx.helper.make_graph([node("Relu", "h", "t", "relu_1")], "then", [], [value("t", FLOAT, [10])])
    other = onnx.helper.make_graph([node("Neg", "h", "e")], "else", [], [value("e", FLOAT, [10])])
    nodes = [
        node("Relu", "x", "h", "stem/relu"),
        node("If", "c", "b", "If_3", then_branch=then, else_branch=other),
        node("Clip", "b low high", "k", "relu6"),
        node("ThresholdedRelu", "k", "y", "own", alpha=1.5),
        node("Relu", "half", "halved", "half"),
        node("Relu", "whole", "wholed", "whole"),
    ]
    inputs = [value("x", FLOAT, [10]), value("c", onnx.TensorProto.BOOL, [])]
    inputs += [value("half", FLOAT16, ["N", 3]), value("whole", INT64, [4])]
    outputs = [value("y", FLOAT, [10]), value("halved", FLOAT16, ["N", 3]), value("wholed", INT64, [4])]
    tensors = {"low": np.asarray(0, np.float32), "high": np.asarray(6, np.float32)}
    path = tmp_path / "mixed.onnx"
    onnx.save(make_model(nodes, inputs, outputs, initializers=tensors), path)
    return path
