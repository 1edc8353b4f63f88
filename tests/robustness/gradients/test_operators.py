"""Gradients of single operators against finite differences of onnxruntime on the file."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import onnx
import pytest
from support import Array, make_model, node, value

pytest.importorskip("onnx_ad", reason="gradients need onnx-ad, from the extra [attack]")

from gradient_of import assert_close, by_differences, scores_and_slope

from jr_onnx.robustness.gradients.errors import NoGradientError
from jr_onnx.robustness.gradients.gradients import Gradients

GENERATOR = np.random.default_rng(2)
WEIGHTS = {
    "w": GENERATOR.normal(size=(4, 2, 3, 3)).astype(np.float32),
    "each": GENERATOR.normal(size=(2, 1, 3, 3)).astype(np.float32),
    "up": GENERATOR.normal(size=(2, 3, 2, 2)).astype(np.float32),
}
SAME, LOWER, VALID = ({"auto_pad": mode} for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"))
WINDOW = {"kernel_shape": [3, 3], "strides": [2, 2]}
WINDOWS: list[tuple[str, str, dict[str, Any]]] = [
    ("Conv", "x w", {"pads": [1, 0, 1, 2], "strides": [2, 1]}),
    ("Conv", "x w", {"strides": [2, 2], **SAME}),
    ("Conv", "x w", {"strides": [2, 2], **LOWER}),
    ("Conv", "x w", {"dilations": [2, 1], **VALID}),
    ("Conv", "x each", {"group": 2, **SAME}),
    ("ConvTranspose", "x up", {"strides": [2, 2], "output_padding": [1, 0]}),
    ("MaxPool", "x", {**WINDOW, **SAME}),
    ("MaxPool", "x", {**WINDOW, "ceil_mode": 1}),
    ("AveragePool", "x", {**WINDOW, **SAME}),
    ("AveragePool", "x", {**WINDOW, **LOWER}),
    ("AveragePool", "x", {**WINDOW, "ceil_mode": 1}),
    ("AveragePool", "x", {**WINDOW, "ceil_mode": 1, "count_include_pad": 1}),
    ("AveragePool", "x", {**WINDOW, "ceil_mode": 1, "pads": [1, 1, 1, 1]}),
    ("AveragePool", "x", {**WINDOW, "pads": [1, 1, 1, 1], "count_include_pad": 1}),
]


@pytest.mark.parametrize("op_type, inputs, attributes", WINDOWS)
def test_windows_have_the_gradient_of_finite_differences(op_type: str, inputs: str, attributes: dict[str, Any]) -> None:
    x = (GENERATOR.permutation(2 * 6 * 5) / 7).reshape(1, 2, 6, 5).astype(np.float32)  # no two are near each other
    constants = {name: WEIGHTS[name] for name in inputs.split()[1:]}
    nodes = [node(op_type, inputs, "c", **attributes), node("Flatten", "c", "y")]
    declared = [value("x", shape=["N", 2, 6, 5])], [value("y", shape=["N", "K"])]
    model = make_model(nodes, *declared, opset=22, initializers=constants, ir_version=10)
    assert_close(scores_and_slope(model, x)[1], by_differences(model, x), 1e-3)


def test_a_pool_that_hangs_over_and_counts_its_padding_is_refused() -> None:
    attributes = {**WINDOW, "ceil_mode": 1, "pads": [1, 1, 1, 1], "count_include_pad": 1}
    nodes = [node("AveragePool", "x", "c", **attributes), node("Flatten", "c", "y")]
    model = make_model(nodes, [value("x", shape=["N", 2, 6, 6])], [value("y", shape=["N", 18])])
    with pytest.raises(NoGradientError, match=r"no gradients: AveragePool .* counts its padding; only black-box"):
        Gradients(model, (2, 6, 6))


def ints(*values: int) -> Array:
    return np.asarray(values, np.int64)


NONE = ints()  # an input that is left out
TWICE = np.asarray([1, 1, 2, 2], np.float32)
SMALLER = np.asarray([1, 1, 0.5, 0.6], np.float32)
PADS = {"pads": ints(0, 0, 1, 2, 0, 0, 0, 1)}
INDEXED: list[tuple[str, dict[str, Any], dict[str, Array]]] = [
    ("Resize", {"mode": "nearest"}, {"": NONE, "scales": TWICE}),
    ("Resize", {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}, {"": NONE, "scales": SMALLER}),
    ("Resize", {"mode": "linear"}, {"": NONE, "scales": SMALLER}),
    ("Resize", {"mode": "linear", "antialias": 1}, {"": NONE, "scales": SMALLER}),
    ("Resize", {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, {"": NONE, "scales": TWICE}),
    ("Resize", {"mode": "cubic"}, {"": NONE, "scales": TWICE}),
    ("Pad", {}, PADS),
    ("Pad", {}, {"pads": ints(0, 0, -1, -2, 0, 0, 0, -1)}),
    ("Pad", {}, {"pads": ints(0, 0, -1, 2, 0, 0, 1, -1)}),
    ("Pad", {"mode": "reflect"}, PADS),
    ("Pad", {"mode": "edge"}, PADS),
    ("Pad", {"mode": "wrap"}, PADS),
    ("Slice", {}, {"starts": ints(1), "ends": ints(100), "axes": ints(2)}),
    ("Slice", {}, {"starts": ints(0, 1), "ends": ints(6, 5), "axes": ints(-2, -1), "steps": ints(2, 2)}),
    ("Slice", {}, {"starts": ints(-1, -2), "ends": ints(-100, 0), "axes": ints(2, 3), "steps": ints(-1, -2)}),
    ("Slice", {}, {"starts": ints(-100), "ends": ints(-100), "axes": ints(2), "steps": ints(-1)}),
]


@pytest.mark.parametrize("op_type, attributes, constants", INDEXED)
def test_what_moves_elements_has_the_gradient_of_finite_differences(
    op_type: str, attributes: dict[str, Any], constants: dict[str, Array]
) -> None:
    x = GENERATOR.normal(size=(1, 2, 6, 5)).astype(np.float32)
    nodes = [onnx.helper.make_node(op_type, ["x", *constants], ["c"], **attributes), node("Flatten", "c", "y")]
    declared = [value("x", shape=["N", 2, 6, 5])], [value("y", shape=["N", "K"])]
    given = {name: numbers for name, numbers in constants.items() if name}
    model = make_model(nodes, *declared, opset=22, initializers=given, ir_version=10)
    assert_close(scores_and_slope(model, x)[1], by_differences(model, x), 1e-3)


@pytest.mark.parametrize(
    "op_type, attributes", [("GroupNormalization", {"num_groups": 1}), ("MeanVarianceNormalization", {})]
)
def test_operators_whose_shape_onnx_does_not_infer(op_type: str, attributes: dict[str, Any]) -> None:
    inputs = "x scale bias" if attributes else "x"
    constants = {"scale": np.asarray([1, 2], np.float32), "bias": np.asarray([0, 1], np.float32)}
    given = {name: numbers for name, numbers in constants.items() if name in inputs}
    x = GENERATOR.normal(size=(1, 2, 6, 5)).astype(np.float32)
    nodes = [node(op_type, inputs, "c", **attributes), node("Conv", "c w", "d", **SAME), node("Flatten", "d", "y")]
    declared = [value("x", shape=["N", 2, 6, 5])], [value("y", shape=["N", "K"])]
    model = make_model(nodes, *declared, opset=21, initializers={**given, "w": WEIGHTS["w"]}, ir_version=10)
    assert_close(scores_and_slope(model, x)[1], by_differences(model, x, 1 / 64), 1e-3)


# --- what has no gradients --------------------------------------------------------------------------------------------

TO_ONE_SAMPLE = {"shape": ints(1, 60)}
TO_UNKNOWN = [
    node("NonZero", "x", "places"),
    node("Shape", "places", "sizes"),
    node("Gather", "sizes one", "count"),
    node("Concat", "rest count", "shape", axis=0),
]
REFUSED: list[tuple[list[onnx.NodeProto], dict[str, Array], str]] = [
    ([node("Reshape", "x shape", "y")], TO_ONE_SAMPLE, r"cannot infer that the scores are \[N, classes\]"),
    (
        [*TO_UNKNOWN, node("Reshape", "x shape", "y")],
        {"one": ints(1), "rest": ints(-1)},
        r"cannot infer that the scores are \[N, classes\]",
    ),
    (
        [
            *TO_UNKNOWN,
            node("Reshape", "x shape", "r"),
            node("MaxPool", "r", "m", **WINDOW, **SAME),
            node("GlobalAveragePool", "m", "a"),
            node("Reshape", "a two", "y"),
        ],
        {"one": ints(1), "rest": ints(2, 2, 3), "two": ints(2, 2)},
        "cannot infer the shapes around MaxPool 'm'",
    ),
    (
        [
            node("QuantizeLinear", "x s z", "q"),
            node("QLinearConv", "q s z w s z s z", "c", domain="com.microsoft", channels_last=1, **SAME),
            node("DequantizeLinear", "c s z", "d"),
            node("Flatten", "d", "y"),
        ],
        {"s": np.asarray(0.1, np.float32), "z": np.asarray(3, np.uint8), "w": np.ones((5, 5, 3, 3), np.uint8)},
        "nothing is known of QLinearConv, or not with channels last",
    ),
]


@pytest.mark.parametrize("nodes, constants, message", REFUSED)
def test_what_cannot_be_differentiated_is_refused_in_one_line(
    nodes: list[onnx.NodeProto], constants: dict[str, Array], message: str
) -> None:
    declared = [value("x", shape=["N", 2, 6, 5])], [value("y", shape=["N", "K"])]
    model = make_model(nodes, *declared, opset=18, initializers=constants, domains=["com.microsoft"])
    with pytest.raises(NoGradientError, match=message):
        Gradients(model, (2, 6, 5))


def test_the_error_comes_back_from_another_process_as_it_was() -> None:
    error = NoGradientError("nothing is known of com.x.Y")
    assert str(error) == "no gradients: nothing is known of com.x.Y; only black-box attacks can be run"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
