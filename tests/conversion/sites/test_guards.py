"""A Max or a Clip that keeps a variance or a probability from falling below 0 is a guard, which is left alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support import (
    BOOL,
    FLOAT,
    FLOAT16,
    INT64,
    Array,
    assert_same_bits,
    branch,
    evaluate,
    hardened,
    make_model,
    node,
    value,
    with_oracle,
)

from jr_onnx import convert, find_sites, inspect
from jr_onnx.conversion.sites.bounds import GUARD

NUMBERS = {"zero": 0, "one": 1, "tiny": 1e-6, "two": 2, "half": 0.5, "minus": -1, "big": 100}
BOUNDS = {"Max": node("Max", "v zero", "b", "bound"), "Clip": node("Clip", "v zero big", "b", "bound")}
INDEXED = np.arange(3, 104, dtype=np.float32)
GUARDED = {
    "sqrt": [node("Sqrt", "b", "y")],
    "sqrt of b + epsilon": [node("Add", "b tiny", "e"), node("Sqrt", "e", "y")],
    "1 / sqrt, epsilon first": [node("Add", "tiny b", "e"), node("Sqrt", "e", "s"), node("Div", "one s", "y")],
    "behind Identity": [node("Identity", "b", "i"), node("Sqrt", "i", "y")],
    "log": [node("Add", "b tiny", "e"), node("Log", "e", "y")],
    "reciprocal": [node("Add", "b tiny", "e"), node("Reciprocal", "e", "y")],
    "denominator": [node("Add", "b tiny", "e"), node("Div", "v e", "y")],
    "root as a power": [node("Pow", "b half", "y")],
    "shaped first, as flax has it": [
        node("Reshape", "b shape", "q"),
        node("Add", "q tiny", "e"),
        node("Sqrt", "e", "s"),
        node("Reciprocal", "s", "y"),
    ],
    "behind Unsqueeze and Expand": [
        node("Unsqueeze", "b axes", "u"),
        node("Expand", "u shape", "e"),
        node("Sqrt", "e", "y"),
    ],
    "times a number": [node("Mul", "two b", "m"), node("Sqrt", "m", "y")],
    "over a number": [node("Div", "b two", "d"), node("Add", "d tiny", "e"), node("Sqrt", "e", "y")],
    "a probability, upper bound second": [node("Min", "b one", "m"), node("Log", "m", "y")],
    "a smallest number": [node("Max", "tiny b", "m"), node("Log", "m", "y")],
    "clipped": [node("Clip", "b tiny one", "c"), node("Log", "c", "y")],
    "variance of BatchNormalization": [node("BatchNormalization", "image v v v b", "y")],
    "summed first": [node("ReduceSum", "b", "s", keepdims=0), node("Sqrt", "s", "y")],
    "averaged first": [node("ReduceMean", "b", "s"), node("Add", "s tiny", "e"), node("Log", "e", "y")],
    "beside a comparison": [
        node("Equal", "b zero", "m"),
        node("Where", "m one b", "w"),
        node("Sqrt", "w", "s"),
        node("Where", "m zero s", "y"),
    ],
    "beside its shape": [node("Shape", "b", "d"), node("Sqrt", "b", "s"), node("Expand", "s d", "y")],
    "an index": [node("Floor", "b", "f"), node("Cast", "f", "i", to=INT64), node("Gather", "indexed i", "y")],
    "a shape": [node("Cast", "b", "i", to=INT64), node("Expand", "v i", "e"), node("Sqrt", "e", "y")],
    "bytes of an image": [node("Cast", "b", "i", to=onnx.TensorProto.UINT8), node("Cast", "i", "y", to=FLOAT)],
    "negative power": [node("Add", "b tiny", "e"), node("Pow", "e minus", "y")],
}
ACTIVATIONS = {
    "log(1 + b)": [node("Add", "b one", "e"), node("Log", "e", "y")],
    "square": [node("Pow", "b two", "y")],
    "mean of BatchNormalization": [node("BatchNormalization", "image v v b v", "y")],
    "mean and variance of BatchNormalization": [node("BatchNormalization", "image v v b b", "y")],
    "over a root": [node("Sqrt", "two", "s"), node("Div", "b s", "y")],
    "below no less than 1": [node("Max", "b one", "m"), node("Log", "m", "y")],
    "less than a number": [node("Min", "b two", "y")],
    "no more than compared": [node("Greater", "b zero", "m"), node("Where", "m v zero", "y")],
    "chosen and not needed": [node("Equal", "v zero", "m"), node("Where", "m one b", "y")],
    "cast to another float": [node("Cast", "b", "h", to=FLOAT16), node("Cast", "h", "y", to=FLOAT)],
    "summed and not needed": [node("ReduceSum", "b", "y", keepdims=0)],
    "numerator": [node("Div", "b two", "y")],
    "over itself": [node("Add", "b tiny", "e"), node("Div", "b e", "y")],
    "root and another use": [node("Sqrt", "b", "s"), node("Add", "s b", "y")],
    "exponent": [node("Pow", "two b", "y")],
    "sum": [node("Add", "b tiny", "e"), node("Mul", "e e", "y")],
}


def model_of(bound: str, after: list[onnx.NodeProto]) -> onnx.ModelProto:
    """A Relu in front, and what the bound leads to."""
    numbers: dict[str, Array] = {name: np.asarray(number, np.float32) for name, number in NUMBERS.items()}
    numbers |= {"shape": np.array([1, 5]), "axes": np.array([0]), "image": np.ones((1, 5), np.float32)}
    numbers["indexed"] = INDEXED
    nodes = [node("Relu", "x", "r", "relu"), node("Sub", "r one", "v"), BOUNDS[bound], *after]
    return make_model(nodes, [value("x", FLOAT, [5])], [value("y", FLOAT)], initializers=numbers)


def converted(model: onnx.ModelProto) -> list[str]:
    return [site.name for site in convert(model, jump=0.5, clip=True).sites]


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("after", GUARDED)
def test_a_guard_is_left_alone_with_the_reason(bound: str, after: str) -> None:
    model = model_of(bound, GUARDED[after])
    assert converted(model) == ["relu"]
    report = convert(model, jump=0.5, clip=True)
    assert [(left.name, left.reason) for left in report.left_alone if left.name == "bound"] == [("bound", GUARD)]
    assert {found.name: found.how for found in inspect(model).nodes}["bound"] == GUARD


X = np.array([1.25, 1.75, 0.25, 3, -2], np.float32)


def assert_only_the_relu_changes(model: onnx.ModelProto, feeds: dict[str, Array]) -> None:
    """Check that hardening puts JumpReLU at the Relu in front and nowhere else, bit for bit."""
    want = evaluate(with_oracle(model, lambda output: 0.5 if output == "r" else None), feeds)
    for got, expected in zip(evaluate(hardened(model, 0.5, clip=True), feeds), want, strict=True):
        assert_same_bits(got, expected)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    "after", sorted(GUARDED.keys() - {"a shape", "variance of BatchNormalization"})
)  # of no such values
def test_nothing_but_the_relu_in_front_changes(bound: str, after: str) -> None:
    assert_only_the_relu_changes(model_of(bound, GUARDED[after]), {"x": X})


# --- uses in other scopes ---------------------------------------------------------------------------------------------

ROOT, NEGATIVE = [node("Sqrt", "b", "t")], [node("Neg", "b", "t")]
ONCE_MORE = [node("If", "c", "t", then_branch=branch([node("Sqrt", "b", "u")], "u"), else_branch=branch([], "b"))]


def in_branches(bound: str, then: list[onnx.NodeProto], other: list[onnx.NodeProto]) -> onnx.ModelProto:
    """The bound outside, its uses in the branches of an If."""
    choose = node("If", "c", "y", "if", then_branch=branch(then, "t"), else_branch=branch(other, "t"))
    model = model_of(bound, [choose])
    model.graph.input.append(value("c", BOOL, []))
    return model


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_guard_of_what_bodies_do_is_left_alone(bound: str) -> None:
    model = in_branches(bound, ROOT, [node("Log", "b", "l"), node("Neg", "l", "t")])
    assert converted(model) == ["relu"]
    for c in (False, True):
        assert_only_the_relu_changes(model, {"x": X, "c": np.array(c)})


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(("then", "other"), [(ROOT, NEGATIVE), (NEGATIVE, ROOT), (ONCE_MORE, ROOT)])
def test_a_bound_that_one_body_uses_otherwise_is_an_activation(
    bound: str, then: list[onnx.NodeProto], other: list[onnx.NodeProto]
) -> None:
    assert converted(in_branches(bound, then, other)) == ["relu", "bound"]


def test_a_value_of_the_same_name_in_a_body_is_another() -> None:
    hides = [node("Neg", "v", "b"), node("Neg", "b", "t")]
    choose = node("If", "c", "h", "if", then_branch=branch(hides, "t"), else_branch=branch(hides, "t"))
    model = model_of("Max", [node("Sqrt", "b", "s"), choose, node("Add", "s h", "y")])
    model.graph.input.append(value("c", BOOL, []))
    assert converted(model) == ["relu"]


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(("after", "sites"), [("Sqrt", ["relu"]), ("Neg", ["relu", "bound"])])
def test_the_uses_of_what_a_branch_gives_count(bound: str, after: str, sites: list[str]) -> None:
    bounds = [BOUNDS[bound]]
    choose = node("If", "c", "h", "if", then_branch=branch(bounds, "b"), else_branch=branch([], "big"))
    model = model_of("Max", [choose, node(after, "h", "y")])
    del model.graph.node[2]
    model.graph.input.append(value("c", BOOL, []))
    assert converted(model) == sites
    if after == "Sqrt":
        assert_only_the_relu_changes(model, {"x": X, "c": np.array(True)})


def test_many_ifs_that_pass_a_bound_on_are_not_followed_to_their_end() -> None:
    def choose(index: int) -> onnx.NodeProto:
        name = f"b{index}" if index else "b"
        return node("If", "c", f"b{index + 1}", then_branch=branch([], name), else_branch=branch([], name))

    model = model_of("Max", [*(choose(index) for index in range(5000)), node("Sqrt", "b5000", "y")])
    model.graph.input.append(value("c", BOOL, []))
    assert converted(model) == ["relu", "bound"]


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("after", ACTIVATIONS)
def test_what_only_resembles_a_guard_is_an_activation(bound: str, after: str) -> None:
    model = model_of(bound, ACTIVATIONS[after])
    assert converted(model) == ["relu", "bound"]


def test_a_spelled_out_bound_is_a_guard_too() -> None:
    nodes = [node("Greater", "x zero", "m"), node("Where", "m x zero", "b", "bound"), node("Sqrt", "b", "y")]
    model = make_model(nodes, [value("x")], [value("y")], initializers={"zero": np.array(0, np.float32)})
    assert [(found.name, found.how) for found in inspect(model).nodes] == [("bound", GUARD)]


def test_a_relu_under_a_root_is_an_activation() -> None:
    nodes = [node("Relu", "x", "b", "relu"), node("Sqrt", "b", "y")]
    model = make_model(nodes, [value("x", FLOAT, [5])], [value("y", FLOAT, [5])])
    assert [site.name for site in find_sites(model)] == ["relu"]
