"""The models and the settings that the tests of evaluation share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

import jr_onnx
from jr_onnx.robustness.attacks.target import Effort
from jr_onnx.robustness.dataset import Dataset, load_data

MODELS = Path(__file__).parents[3] / "models"
DIGITS, ROBUST, IMAGES = MODELS / "digits.onnx", MODELS / "digits_robust.onnx", MODELS / "digits_test.npz"

#: Few steps: the digits are small, and the suite must stay fast.
QUICK = Effort(steps=10, queries=60)


def digits(samples: int = 360) -> Dataset:
    """The first of the digits' test images."""
    return load_data(IMAGES).take(np.arange(samples))


def with_jump(jump: float) -> onnx.ModelProto:
    """The digits classifier with JumpReLU."""
    model = jr_onnx.convert(onnx.load(DIGITS), jump=jump).model
    assert model is not None
    return model


def masked() -> onnx.ModelProto:
    """The digits classifier behind a staircase, which the test images pass unchanged (they have 17 levels of grey): as
    good and as weak as it was, but without a gradient."""
    model = onnx.load(DIGITS)
    given = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["stairs" if name == given else name for name in node.input]
    model.graph.initializer.append(helper.make_tensor("levels", TensorProto.FLOAT, [], [16.0]))
    stairs = [
        helper.make_node("Mul", [given, "levels"], ["scaled"], name="scaled"),
        helper.make_node("Round", ["scaled"], ["rounded"], name="rounded"),
        helper.make_node("Div", ["rounded", "levels"], ["stairs"], name="stairs"),
    ]
    nodes = [*stairs, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model
