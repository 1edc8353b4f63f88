"""A Relu in the body of SequenceMap is written inlined: onnxruntime loads no call of a local function there."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from support import (
    FLOAT,
    TARGETS,
    assert_same_but_for_the_sign_of_zero,
    branch,
    function,
    hardened,
    make_model,
    node,
    report_of,
    run,
    value,
)

from jr_onnx import check

X = np.array([[0.2, 0.5, -1, 2], [0.3, 1, 0, 0.25]], np.float32)


def mapped(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Nodes that apply others, from "item" to "out", to each row."""
    body = helper.make_graph(nodes, "body", [value("item")], [value("out")])
    return [
        node("SplitToSequence", "x", "rows", axis=0, keepdims=0),
        node("SequenceMap", "rows", "mapped", "map", body=body),
        node("ConcatFromSequence", "mapped", "y", axis=0, new_axis=1),
    ]


def in_a_branch() -> list[onnx.NodeProto]:
    then, other = branch([node("Relu", "item", "t", "relu")], "t"), branch([node("Relu", "item", "e", "relu")], "e")
    condition = [node("ReduceMax", "item", "m", keepdims=0), node("Constant", "", "one", value_float=1.0)]
    condition += [node("Greater", "m one", "c")]
    return mapped([*condition, node("If", "c", "out", "if", then_branch=then, else_branch=other)])


RELU = mapped([node("Relu", "item", "out", "relu")])
MODELS = {
    "in the body": (RELU, []),
    "twice": (mapped([node("Relu", "item", "r", "relu"), node("Relu", "r", "out", "second")]), []),
    "in a branch in the body": (in_a_branch(), []),
    "in a function": ([node("F", "x", "y", domain="f")], [function("F", "x", "y", RELU)]),
    "beside one that is called": (
        [*RELU[:-1], node("ConcatFromSequence", "mapped", "h", axis=0, new_axis=1), node("Relu", "h", "y")],
        [],
    ),
}


def model_of(name: str) -> onnx.ModelProto:
    nodes, functions = MODELS[name]
    domains = ["f"] if functions else []
    x, y = value("x", FLOAT, ["N", 4]), value("y", FLOAT, ["K", 4])
    return make_model(nodes, [x], [y], functions=functions, domains=domains)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_it_loads_and_is_right_without_the_library(name: str, target: str) -> None:
    model = hardened(model_of(name), 0.25, **TARGETS[target])
    assert_same_but_for_the_sign_of_zero(run(model, {"x": X})[0], np.where(X <= 0.25, 0, X).astype(np.float32))


def test_the_report_says_why() -> None:
    first, second = report_of(model_of("beside one that is called"), 0.25).sites
    assert (first.lowering, second.lowering) == ("JumpReLU", "Where(LessOrEqual)")
    assert second.reason == "onnxruntime expands SequenceMap, and calls no function in its body rightly"


@pytest.mark.parametrize("name", MODELS)
def test_check_is_clean(name: str) -> None:
    model = model_of(name)
    assert not check(model, hardened(model, 0.25)).findings


def test_the_body_of_a_loop_keeps_the_call() -> None:
    body = helper.make_graph(
        [node("Relu", "h", "h2", "relu"), node("Identity", "go", "go2")],
        "body",
        [value("i", onnx.TensorProto.INT64, []), value("go", onnx.TensorProto.BOOL, []), value("h", FLOAT, [2, 4])],
        [value("go2", onnx.TensorProto.BOOL, []), value("h2", FLOAT, [2, 4])],
    )
    tensors = {"n": np.array(2), "t": np.array(True)}
    nodes = [node("Loop", "n t x", "y", "loop", body=body)]
    model = make_model(nodes, [value("x", FLOAT, [2, 4])], [value("y", FLOAT, [2, 4])], initializers=tensors)
    assert [site.lowering for site in report_of(model, 0.25).sites] == ["JumpReLU"]
