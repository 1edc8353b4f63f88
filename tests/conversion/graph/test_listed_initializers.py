"""Before IR version 4 every initializer is listed as an input too, in bodies as in the main graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from support import BOOL, EACH_TARGET, FLOAT, INT64, TARGETS, Array, evaluate, hardened, make_model, node, run, value

import jr_onnx
from jr_onnx.reference import jump_relu

JUMP, ADDED, GIVEN = 0.5, np.array([0.25, 1, -1], np.float32), np.array([0.25, 0.5, 3], np.float32)


def body(nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any], tensors: dict[str, Array]) -> Any:
    """A graph that lists its initializers as inputs, behind those that are passed in."""
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    listed = [value(one.name, one.data_type, one.dims) for one in initializers]
    return helper.make_graph(nodes, "body", [*inputs, *listed], outputs, initializers)


def branches(opset: int) -> onnx.ModelProto:
    """An If; one branch has its Relu as Max(x, 0)."""
    zero = np.zeros((), np.float32)
    then = body([node("Add", "x w", "s"), node("Relu", "s", "a")], [], [value("a", FLOAT, [3])], {"w": ADDED})
    other = body(
        [node("Mul", "x v", "p"), node("Max", "p zero", "b")], [], [value("b", FLOAT, [3])], {"v": ADDED, "zero": zero}
    )
    choice = node("If", "c", "y", "if", then_branch=then, else_branch=other)
    inputs = [value("c", BOOL, []), value("x", FLOAT, [3])]
    return make_model([choice], inputs, [value("y", FLOAT, [3])], opset=opset, ir_version=3)


def loop(opset: int) -> onnx.ModelProto:
    """A Loop of three steps: h = Relu(h + w)."""
    nodes = [node("Identity", "go", "go2"), node("Add", "h w", "s"), node("Relu", "s", "h2")]
    inputs = [value("i", INT64, []), value("go", BOOL, []), value("h", FLOAT, [3])]
    inside = body(nodes, inputs, [value("go2", BOOL, []), value("h2", FLOAT, [3])], {"w": ADDED})
    tensors = {"n": np.array(3), "t": np.array(True)}
    y = value("y", FLOAT, [3])
    nodes = [node("Loop", "n t x", "y", "loop", body=inside)]
    return make_model(nodes, [value("x", FLOAT, [3])], [y], opset=opset, ir_version=3, initializers=tensors)


def wanted(model: onnx.ModelProto, choice: bool) -> Array:
    if model.graph.node[-1].op_type == "If":
        return jump_relu(GIVEN + ADDED if choice else GIVEN * ADDED, np.float32(JUMP))
    h = GIVEN
    for _ in range(3):
        h = jump_relu(h + ADDED, np.float32(JUMP))
    return h


def assert_right(result: onnx.ModelProto) -> None:
    onnx.checker.check_model(result, full_check=True)
    for choice in (True, False):
        feeds = {"x": GIVEN, "c": np.array(choice)}
        feeds = {one.name: feeds[one.name] for one in result.graph.input if one.name in feeds}
        np.testing.assert_array_equal(run(result, feeds)[0], wanted(result, choice))
        if result.ir_version >= 4:  # the evaluator takes what is listed for an input that nobody gives
            np.testing.assert_array_equal(evaluate(result, feeds)[0], wanted(result, choice))


@EACH_TARGET
@pytest.mark.parametrize("make", [branches, loop])
@pytest.mark.parametrize("opset", [8, 9, 11, 12])
def test_a_raised_model_lists_no_initializer_of_a_body(make: Any, opset: int, target: str) -> None:
    model = make(opset)
    result = hardened(model, JUMP, **TARGETS[target])
    assert_right(result)
    assert result.ir_version in (3, 8)
    names = {value.name for attribute in result.graph.node[-1].attribute for value in attribute.g.input}
    assert bool(names & {"w", "v", "zero"}) == (result.ir_version == 3)
    again = hardened(result, JUMP, **TARGETS[target])
    assert_right(again)


@pytest.mark.parametrize("make", [branches, loop])
def test_check_finds_nothing_in_it(make: Any) -> None:
    model = make(9)
    findings = jr_onnx.check(model, hardened(model, JUMP)).findings
    assert not [found for found in findings if found.level != "note"], findings


@pytest.mark.parametrize("make", [branches, loop])
def test_graphsurgeon_drops_them_too(make: Any) -> None:
    gs = pytest.importorskip("onnx_graphsurgeon", reason="needs onnx-graphsurgeon")
    from jr_onnx.graphsurgeon import harden

    graph = gs.import_onnx(make(9))
    harden(graph, jump=JUMP)
    result = gs.export_onnx(graph)
    assert result.ir_version == 8
    assert_right(result)
