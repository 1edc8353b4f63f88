"""What a body defines hides what has the same name outside: onnx.checker and onnxruntime take the body's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from support import (
    BOOL,
    FLOAT,
    INT64,
    TARGETS,
    Array,
    hardened,
    make_model,
    node,
    report_of,
    run,
    value,
)

from jr_onnx import find_sites
from jr_onnx.conversion.graph.scopes import all_scopes
from jr_onnx.conversion.graph.wiring import Wiring, constant_value
from jr_onnx.conversion.sites.surveyed import jump_of

X = np.array([-2, -0.886, 0.5], np.float32)


def loop(
    body: list[onnx.NodeProto], out: str, passed: float, outer: Mapping[str, Array], domains: Sequence[str] = ()
) -> onnx.ModelProto:
    """A Loop of two steps whose body has an input "k", to which `passed` is given; "k" outside is something else."""
    graph = helper.make_graph(
        [*body, node("Identity", "go", "go2"), node("Identity", "k", "k2")],
        "body",
        [value("i", INT64, []), value("go", BOOL, []), value("h", FLOAT, [3]), value("k", FLOAT, [])],
        [value("go2", BOOL, []), value(out, FLOAT, [3]), value("k2", FLOAT, [])],
    )
    tensors = {"n": np.array(2), "t": np.array(True), "passed": np.float32(passed), **outer}
    nodes = [node("Loop", "n t x passed", "y last", "loop", body=graph), node("Add", "x k", "z")]
    outputs = [value("y", FLOAT, [3]), value("z", FLOAT, [3])]
    model = make_model(nodes, [value("x", FLOAT, [3])], outputs, opset=13, initializers=tensors, domains=domains)
    onnx.checker.check_model(model, full_check=True)
    return model


def test_a_minimum_that_is_an_input_of_the_body_is_no_constant() -> None:
    model = loop([node("Clip", "h k", "h2", "clip")], "h2", -1, {"k": np.float32(0)})
    report = report_of(model, 0.3, clip=True, allow_empty=True)
    assert [(left.path, left.reason) for left in report.left_alone] == [
        ("loop/body/clip", "its minimum is not a constant")
    ]
    assert report.model is not None
    for got, want in zip(run(report.model, {"x": X}), run(model, {"x": X}), strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_zero_that_is_an_input_of_the_body_makes_no_relu_of_max() -> None:
    model = loop([node("Max", "h k", "h2", "max")], "h2", -1, {"k": np.float32(0)})
    report = report_of(model, 0.3, allow_empty=True)
    assert not report.sites
    assert not report.left_alone


def test_a_zero_that_is_an_input_of_the_body_makes_no_jump_relu_of_where() -> None:
    # "jr_onnx.jump" is ours by its name, but what stands at its side is a lower bound of -1.
    nodes = [node("LessOrEqual", "h jr_onnx.jump", "m"), node("Where", "m k h", "h2", "where")]
    tensors = {"k": np.float32(0), "jr_onnx.jump": np.float32(0.25)}
    assert not find_sites(loop(nodes, "h2", -1, tensors))


def test_a_jump_that_is_an_input_of_the_body_is_not_the_outer_one() -> None:
    nodes = [node("JumpReLU", "h k", "h2", "jump", domain="jr_onnx")]
    model = loop(nodes, "h2", 0.5, {"k": np.float32(0.25)}, domains=["jr_onnx"])
    (site,) = find_sites(model)
    assert jump_of(site) is None


@pytest.mark.parametrize("target", TARGETS)
def test_a_gate_whose_numbers_are_inputs_of_the_body_is_none(target: str) -> None:
    nodes = [node("Add", "h k", "a"), node("Clip", "a zero six", "c", "clip"), node("Div", "c six", "h2")]
    tensors = {"k": np.float32(3), "zero": np.float32(0), "six": np.float32(6)}
    model = loop(nodes, "h2", -1, tensors)
    assert [site.path for site in find_sites(model)] == ["loop/body/clip"]
    run(hardened(model, 0.3, clip=True, **TARGETS[target]), {"x": X})


def inner_graph(kind: str, deeper: onnx.GraphProto | None) -> onnx.GraphProto:
    """A branch in which "k" is 1, -1 through a node, unknown by an input, in another file, or not defined at all."""
    nodes, inputs, tensors = [node("Identity", "k", "e")], [], []
    if kind == "initializer":
        tensors = [onnx.numpy_helper.from_array(np.float32(1), "k")]
    elif kind == "node":
        nodes.insert(0, node("Constant", "", "k", value_float=-1.0))
    elif kind == "input":
        inputs = [value("k", FLOAT, [])]
        tensors = [onnx.numpy_helper.from_array(np.float32(7), "k")]  # a default, which no body's input has
    elif kind == "computed":
        nodes.insert(0, node("Neg", "x", "k"))
    elif kind == "external":
        tensors = [onnx.TensorProto(name="k", data_type=FLOAT, data_location=onnx.TensorProto.EXTERNAL)]
    if deeper is not None:
        nodes.append(node("If", "c", "f", "if", then_branch=deeper, else_branch=deeper))
    return helper.make_graph(nodes, "g", inputs, [value("e", FLOAT)], tensors)


KINDS: Mapping[str, Any] = {"initializer": 1.0, "node": -1.0, "input": None, "computed": None, "external": None}


@given(st.lists(st.sampled_from([*KINDS, "nothing"]), min_size=1, max_size=5))
def test_the_nearest_definition_counts_at_any_depth(kinds: list[str]) -> None:
    deeper: onnx.GraphProto | None = None
    for kind in reversed(kinds):
        deeper = inner_graph(kind, deeper)
    nodes = [node("If", "c", "y", "if", then_branch=deeper, else_branch=deeper)]
    model = make_model(nodes, [value("x"), value("c", BOOL)], [value("y")], initializers={"k": np.float32(0)})
    wirings: dict[Any, Wiring] = {}
    scopes = list(all_scopes(model))
    for scope in scopes:
        wirings[scope] = Wiring(scope, wirings.get(scope.parent))
    deepest = max(scopes, key=lambda scope: scope.path.count("/"))
    near = next((KINDS[kind] for kind in reversed(kinds) if kind in KINDS), 0.0)
    for found in (wirings[deepest].constant("k"), constant_value(wirings[deepest], "k")):
        assert (None if found is None else found.item()) == near
