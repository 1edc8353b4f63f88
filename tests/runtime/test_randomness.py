"""Which models draw random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from support import BOOL, FLOAT, branch, function, make_model, node, relu_model, value

from jr_onnx.runtime.agreement import why_random


def model(*nodes: onnx.NodeProto, **options: Any) -> onnx.ModelProto:
    shape = options.pop("shape", [3])
    inputs = [value("x", FLOAT, shape), *options.pop("inputs", ())]
    return make_model(nodes, inputs, [value("y", FLOAT)], **options)


@pytest.mark.parametrize(
    "drawing",
    [
        node("RandomNormal", "", "y", "draw", shape=[3], seed=1.0),
        node("RandomUniform", "", "y", "draw", shape=[3]),
        node("RandomNormalLike", "x", "y", "draw"),
        node("RandomUniformLike", "x", "y", "draw"),
        node("Bernoulli", "x", "y", "draw", seed=1.0),
        node("Multinomial", "x", "y", "draw", sample_size=2),
    ],
    ids=lambda drawing: drawing.op_type,
)
def test_a_node_that_draws_is_named(drawing: onnx.NodeProto) -> None:
    assert why_random(model(drawing)) == (f"its outputs are random: node 'draw' ({drawing.op_type}) draws numbers")
    drawing.domain = "ai.onnx"
    assert "'draw'" in why_random(model(drawing))
    drawing.domain = "another"
    assert not why_random(model(drawing))


@pytest.mark.parametrize("training", [True, False, None, "left out", "input"], ids=str)
def test_a_dropout_draws_where_it_may_train(training: bool | str | None) -> None:
    inputs = {None: "x", "left out": "x ratio -"}.get(training, "x ratio t")  # type: ignore[call-overload]
    initializers: dict[str, Any] = {"ratio": np.float32(0.5)}
    if isinstance(training, bool):
        initializers["t"] = np.array(training)
    given = [value("t", BOOL, [])] if training == "input" else []
    said = why_random(model(node("Dropout", inputs, "y"), inputs=given, initializers=initializers))
    assert bool(said) == (training in (True, "input"))


def test_the_training_mode_of_a_body_is_its_own_and_not_the_one_around_it() -> None:
    """The names are the same: in the body the constant is true."""
    true = onnx.numpy_helper.from_array(np.array(True), "t")
    inner = branch([node("Constant", "", "t", value=true), node("Dropout", "x - t", "b", "drop")], "b")
    outer = branch([node("Dropout", "x - t", "c")], "c")
    chosen = node("If", "x", "y", "choose", then_branch=outer, else_branch=inner)
    said = why_random(model(chosen, initializers={"t": np.array(False)}))
    assert "'choose/else_branch/drop'" in said
    inner.node[0].attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.array(False)))
    chosen = node("If", "x", "y", "choose", then_branch=outer, else_branch=inner)
    assert not why_random(model(chosen, initializers={"t": np.array(False)}))


def test_functions_are_looked_into() -> None:
    noise = function("Noise", "a", "b", [node("RandomNormalLike", "a", "b", "draw")])
    said = why_random(model(node("Noise", "x", "y", domain="f"), functions=[noise], domains=["f"]))
    assert "'f::Noise/draw'" in said


def test_an_ordinary_model_draws_nothing() -> None:
    assert why_random(relu_model()) == ""
