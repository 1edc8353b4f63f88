"""A Relu that several operators spell out is listed; what only resembles one is not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support import FLOAT, TARGETS, evaluate, hardened, make_model, node, relu_model, report_of, value

from jr_onnx import inspect

X, Y = value("x", FLOAT, [2, 4]), value("y", FLOAT, [2, 4])
ZERO_LIKE = [node("Shape", "x", "s"), node("ConstantOfShape", "s", "zeros")]
SPELLED_OUT = {
    "Where(x > 0, x, 0)": [
        [node("Greater", "x zero", "m"), node("Where", "m x zero", "y", "act")],
        [node("GreaterOrEqual", "x zero", "m"), node("Where", "m x zero", "y", "act")],
        [node("Less", "zero x", "m"), node("Where", "m x zero", "y", "act")],
        [node("LessOrEqual", "zero x", "m"), *ZERO_LIKE, node("Where", "m x zeros", "y", "act")],
    ],
    "Where(x <= 0, 0, x)": [
        [node("Less", "x zero", "m"), node("Where", "m zero x", "y", "act")],
        [node("LessOrEqual", "x zero", "m"), node("Where", "m zero x", "y", "act")],
        [node("Greater", "zero x", "m"), node("Where", "m zero x", "y", "act")],
        [*ZERO_LIKE, node("GreaterOrEqual", "zeros x", "m"), node("Where", "m zeros x", "y", "act")],
    ],
    "x * Cast(x > 0)": [
        [node("Greater", "x zero", "m"), node("Cast", "m", "f", to=int(FLOAT)), node("Mul", "x f", "y", "act")],
        [node("Less", "zero x", "m"), node("Cast", "m", "f", to=int(FLOAT)), node("Mul", "f x", "y", "act")],
    ],
    "-Min(-x, 0)": [
        [node("Neg", "x", "n"), node("Min", "n zero", "m"), node("Neg", "m", "y", "act")],
        [node("Neg", "x", "n"), node("Min", "zero n", "m"), node("Neg", "m", "y", "act")],
    ],
    "x - Min(x, 0)": [
        [node("Min", "x zero", "m"), node("Sub", "x m", "y", "act")],
        [node("Min", "zero x", "m"), node("Sub", "x m", "y", "act")],
    ],
}
FINITE = np.array([[-2, -0.25, -0.0, 0], [0.25, 0.5, 1, 3]], np.float32)


@pytest.mark.parametrize(("formula", "nodes"), [(f, nodes) for f, many in SPELLED_OUT.items() for nodes in many])
def test_a_relu_that_is_spelled_out_is_reported(formula: str, nodes: list[onnx.NodeProto]) -> None:
    model = make_model(nodes, [X], [Y], initializers={"zero": np.float32(0)})
    (got,) = evaluate(model, {"x": FINITE})
    np.testing.assert_array_equal(got, np.maximum(FINITE, 0), err_msg="the formula itself")
    reason = f"a Relu written as {formula}; write it as Relu"
    assert [(left.path, left.reason) for left in report_of(model, allow_empty=True).left_alone] == [("act", reason)]
    assert [(found.path, found.how) for found in inspect(model).nodes] == [("act", reason)]


NOT_SPELLED_OUT = {
    "the other half": [node("Less", "x zero", "m"), node("Where", "m x zero", "y")],
    "the other half, exchanged": [node("Greater", "x zero", "m"), node("Where", "m zero x", "y")],
    "above 1": [node("Greater", "x one", "m"), node("Where", "m x zero", "y")],
    "1 below 0": [node("Greater", "x zero", "m"), node("Where", "m x one", "y")],
    "another value": [node("Neg", "x", "n"), node("Greater", "x zero", "m"), node("Where", "m n zero", "y")],
    "a mask": [node("Less", "x zero", "m"), node("Cast", "m", "f", to=int(FLOAT)), node("Mul", "x f", "y")],
    "a mask of another": [
        node("Neg", "x", "n"),
        node("Greater", "x zero", "m"),
        node("Cast", "m", "f", to=int(FLOAT)),
        node("Mul", "n f", "y"),
    ],
    "no minus": [node("Min", "x zero", "m"), node("Neg", "m", "y")],
    "Min with 1": [node("Neg", "x", "n"), node("Min", "n one", "m"), node("Neg", "m", "y")],
    "x less Min of another": [node("Neg", "x", "n"), node("Min", "n zero", "m"), node("Sub", "x m", "y")],
    "Min less x": [node("Min", "x zero", "m"), node("Sub", "m x", "y")],
    "x * HardSigmoid(x)": [node("HardSigmoid", "x", "h"), node("Mul", "x h", "y")],
    "x * Sigmoid(x)": [node("Sigmoid", "x", "h"), node("Mul", "x h", "y")],
}


@pytest.mark.parametrize("name", NOT_SPELLED_OUT)
def test_what_only_resembles_a_spelled_out_relu_is_not_reported(name: str) -> None:
    constants = {"zero": np.float32(0), "one": np.float32(1)}
    model = make_model(NOT_SPELLED_OUT[name], [X], [Y], initializers=constants)
    assert not np.array_equal(evaluate(model, {"x": FINITE})[0], np.maximum(FINITE, 0))
    assert not [one for one in inspect(model).nodes if "a Relu written as" in one.how]


@pytest.mark.parametrize("jump", [0.0, 0.25])
@pytest.mark.parametrize("target", TARGETS)
def test_a_jump_relu_of_ours_is_no_spelled_out_relu(target: str, jump: float) -> None:
    result = hardened(relu_model(), jump, **TARGETS[target])
    assert [one.converted for one in inspect(result).nodes] == [True]
