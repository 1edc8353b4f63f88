"""A Max or a Clip that keeps a variance or a probability from falling below 0 is a guard, which is left alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support import FLOAT, INT64, Array, make_model, node, value

from jr_onnx import convert, find_sites, inspect
from jr_onnx.sites.guards import GUARD

NUMBERS = {"zero": 0, "one": 1, "tiny": 1e-6, "two": 2, "half": 0.5, "minus": -1, "big": 100}
BOUNDS = {"Max": node("Max", "v zero", "b", "bound"), "Clip": node("Clip", "v zero big", "b", "bound")}
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
    "a shape": [node("Cast", "b", "i", to=INT64), node("Expand", "v i", "e"), node("Sqrt", "e", "y")],
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


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("after", ACTIVATIONS)
def test_what_only_resembles_a_guard_is_an_activation(bound: str, after: str) -> None:
    model = model_of(bound, ACTIVATIONS[after])
    assert converted(model) == ["relu", "bound"]


def test_a_relu_under_a_root_is_an_activation() -> None:
    nodes = [node("Relu", "x", "b", "relu"), node("Sqrt", "b", "y")]
    model = make_model(nodes, [value("x", FLOAT, [5])], [value("y", FLOAT, [5])])
    assert [site.name for site in find_sites(model)] == ["relu"]
