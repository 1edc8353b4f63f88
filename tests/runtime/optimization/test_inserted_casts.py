"""What onnxruntime computes of a float16 model in float: its casts and constants leave a sound file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from support import FLOAT16, TARGETS, assert_same_bits, make_model, node, value

import jr_onnx

CPU = ["CPUExecutionProvider"]
RELUS = [
    node("Mul", "x x", "a"),
    node("Relu", "a", "r"),
    node("Neg", "r", "n"),
    node("Relu", "x", "s"),
    node("Sub", "s n", "b"),
    node("Relu", "b", "y"),
]


@pytest.mark.parametrize("opset, ir_version", [(9, 3), (11, 6), (12, 8), (14, 8), (18, 9)])
@pytest.mark.parametrize("target", TARGETS)
def test_the_optimised_file_is_sound_and_gives_the_same(
    tmp_path: Path, target: str, opset: int, ir_version: int
) -> None:
    nodes = [*RELUS, node("Add", "y w", "z")]
    declared = [value(name, FLOAT16, [4]) for name in "xz"]
    initializers: dict[str, Any] = {"w": np.ones(4, np.float16)}
    model = make_model(nodes, declared[:1], declared[1:], opset=opset, ir_version=ir_version, initializers=initializers)
    original, hard, fast = (tmp_path / f"{name}.onnx" for name in ("model", "hard", "fast"))
    onnx.save(model, original)
    jr_onnx.convert(original, jump=0.5, output=hard, **TARGETS[target])
    jr_onnx.optimize(hard, output=fast)
    report = jr_onnx.check(None, fast)
    assert not report.findings, report.findings
    x = {"x": np.array([-1, 0.25, 0.75, 2], np.float16)}
    wanted = onnxruntime.InferenceSession(hard, providers=CPU).run(None, x)[0]
    assert_same_bits(np.asarray(jr_onnx.session(fast, providers=CPU).run(None, x)[0]), np.asarray(wanted))
