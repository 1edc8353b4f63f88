"""A zero or a slope that is the default of a graph input makes no Relu: whoever runs the model may override it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support import (
    BOOL,
    FLOAT,
    TARGETS,
    assert_same_but_for_the_sign_of_zero,
    branch,
    hardened,
    make_model,
    node,
    report_of,
    run,
    session,
    value,
)

from jr_onnx.reference import jump_relu

X, Y = value("x", FLOAT, ["N", 4]), value("y", FLOAT, ["N", 4])
VALUES = np.array([[-1, 0.25, 0.5, 2], [-0.0, 0, np.inf, np.nan]], np.float32)
A_DEFAULT = "the default of a graph input, which may be overridden; make it an initializer alone"
WITH_DEFAULT = {
    "Max": (node("Max", "x k", "y", "act"), f"its 0 is {A_DEFAULT}"),
    "PRelu": (node("PRelu", "x k", "y", "act"), f"its slopes below 0 are {A_DEFAULT}"),
    "Clip": (node("Clip", "x k", "y", "act"), f"its minimum is {A_DEFAULT}"),
}


def with_default(kind: str, ir_version: int, number: float = 0, behind: str = "", opset: int = 18) -> onnx.ModelProto:
    """The node whose constant k is an input too; behind a node, or used in a body."""
    op = onnx.NodeProto()
    op.CopyFrom(WITH_DEFAULT[kind][0])
    nodes, inputs = [op], [X, *([value("k", FLOAT, []), value("c", BOOL, [])] if ir_version >= 4 else [])]
    if behind == "If":
        then = branch([node(op.op_type, "x k", "t", "act")], "t")
        nodes = [node("If", "c", "y", "if", then_branch=then, else_branch=branch([node("Neg", "x", "e")], "e"))]
    elif behind:
        op.input[1] = "same"
        nodes.insert(0, node(behind, "k", "same", **({"to": int(FLOAT)} if behind == "Cast" else {})))
    return make_model(
        nodes, inputs, [Y], opset=opset, ir_version=ir_version, initializers={"k": np.array(number, np.float32)}
    )


@pytest.mark.parametrize("kind", WITH_DEFAULT)
@pytest.mark.parametrize("behind", ["", "Identity", "Cast", "If"])
def test_a_constant_that_may_be_overridden_makes_no_relu(kind: str, behind: str) -> None:
    model = with_default(kind, 8, behind=behind)
    assert [one.name for one in session(model).get_overridable_initializers()] == ["k"]
    report = report_of(model, clip=True, allow_empty=True)
    assert not report.sites
    assert [left.reason for left in report.left_alone] == [WITH_DEFAULT[kind][1]]
    assert report.model is not None
    feeds = {"x": VALUES, "c": np.array(True), "k": np.array(0.25, np.float32)}
    for got, want in zip(run(report.model, feeds), run(model, feeds), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("kind", WITH_DEFAULT)
@pytest.mark.parametrize("target", TARGETS)
def test_before_ir_version_4_an_initializer_is_constant_though_it_is_an_input(kind: str, target: str) -> None:
    model = with_default(kind, 3, opset=12)
    assert not session(model).get_overridable_initializers()
    with pytest.raises(Exception, match="Invalid"):
        run(model, {"x": VALUES, "k": np.array(0.25, np.float32)})
    result = hardened(model, 0.5, clip=True, **TARGETS[target])
    x = np.array([[-1, 0.25, 0.5, 2]], np.float32)
    assert_same_but_for_the_sign_of_zero(run(result, {"x": x})[0], jump_relu(x, 0.5))
    assert not session(result).get_overridable_initializers()


def test_the_default_of_what_is_no_relu_is_not_reported() -> None:
    assert not report_of(with_default("Max", 8, number=0.5), allow_empty=True).left_alone
    assert not report_of(with_default("Clip", 8, number=0.5), allow_empty=True, clip=True).left_alone
