"""Gradients of models of integers: every operator on integers, and every form of JumpReLU between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import pytest
from gradient_of import scores_and_slope
from quantized_models import KINDS, MICROSOFT, images, network, one_layer, quantized
from support import MODELS, Array, hardened, make_model, node, run, value

from jr_onnx.robustness.gradients.gradients import Gradients

pytest.importorskip("onnx_ad", reason="gradients need onnx-ad, from the extra [attack]")

X = (np.random.default_rng(0).integers(-8, 9, (3, 4, 6, 6)) / 4).astype(np.float32)

#: In steps of 1/4 goes in what is on that grid; in steps of 1/16 it comes out.
GRID = {"s": np.float32(1 / 4), "z": np.int8(-3), "large": np.float32(1 / 16), "zero": np.int8(0)}


def integers(*shape: int) -> Array:
    """Weights from -3 to 3."""
    return np.random.default_rng(1).integers(-3, 4, shape).astype(np.int8)


def on_integers(op_type: str, inputs: str, domain: str = MICROSOFT, **attributes: Any) -> onnx.NodeProto:
    """A node that gives h, of numbers that are quantized in steps of 1/4."""
    return node(op_type, inputs, "h", domain=domain, **attributes)


#: The operator on integers, the one on floats, and their weights.
OPERATORS: list[tuple[onnx.NodeProto, onnx.NodeProto, dict[str, Array]]] = [
    (
        on_integers("QLinearConv", "q s z w ws wz large zero bias", domain="", pads=[1] * 4),
        node("Conv", "x weights biases", "y", pads=[1] * 4),
        {"w": integers(5, 4, 3, 3), "ws": np.float32([1, 2, 1, 2, 1]) / 64, "wz": np.zeros(5, np.int8)},
    ),
    (
        on_integers("QLinearMatMul", "q s z w ws wz large zero", domain=""),
        node("MatMul", "x weights", "y"),
        {"w": integers(6, 5), "ws": np.float32(1 / 64), "wz": np.int8(1)},
    ),
    (on_integers("QLinearAdd", "q s z q s z large zero"), node("Add", "x x", "y"), {}),
    (on_integers("QLinearMul", "q s z q s z large zero"), node("Mul", "x x", "y"), {}),
    (
        on_integers("QLinearAveragePool", "q s z large zero", kernel_shape=[2, 2], strides=[2, 2]),
        node("AveragePool", "x", "y", kernel_shape=[2, 2], strides=[2, 2]),
        {},
    ),
    (on_integers("QLinearGlobalAveragePool", "q s z large zero"), node("GlobalAveragePool", "x", "y"), {}),
    (on_integers("QLinearConcat", "large zero q s z q s z", axis=1), node("Concat", "x x", "y", axis=1), {}),
]


@pytest.mark.parametrize("quantizing, floating, tensors", OPERATORS, ids=lambda one: getattr(one, "op_type", ""))
def test_an_operator_on_integers_has_the_gradient_of_the_one_on_floats(
    quantizing: onnx.NodeProto, floating: onnx.NodeProto, tensors: dict[str, Array]
) -> None:
    """Straight through the rounding; x is on the grid, and nothing is cut off."""
    ends = [node("DequantizeLinear", "h large zero", "y"), node("Flatten", "y", "scores")]
    constants = {**GRID, **tensors}
    if "w" in tensors:
        factor = tensors["ws"].reshape(-1, *(1,) * (tensors["w"].ndim - 1)) if tensors["ws"].ndim else tensors["ws"]
        constants["weights"] = (tensors["w"].astype(np.float32) - tensors["wz"].max()) * factor
        constants["bias"] = np.arange(5, dtype=np.int32)
        constants["biases"] = constants["bias"] * (np.float32(1 / 4) * tensors["ws"])
    declared = [value("x", shape=["N", 4, 6, 6])], [value("scores", shape=["N", "K"])]
    start = node("QuantizeLinear", "x s z", "q")
    made = make_model([start, quantizing, *ends], *declared, opset=18, initializers=constants, domains=[MICROSOFT])
    exact = make_model([floating, ends[1]], *declared, opset=18, initializers=constants)
    scores, slope = scores_and_slope(made, X)
    given = run(made, {"x": X})[0]
    assert (np.abs(given) < 7.9).all(), "cut off"
    np.testing.assert_allclose(scores, given, rtol=0, atol=1.01 / 16)  # one that is halfway may be rounded to either
    wanted = scores_and_slope(exact, X)[1]
    np.testing.assert_allclose(slope, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_a_gemm_of_integers_scales_its_bias_with_the_product(form: str) -> None:
    tensors = {**GRID, "w": integers(5, 4), "ws": np.float32([1, 2, 1, 2, 1]) / 64, "wz": np.zeros(5, np.int8)}
    tensors["bias"] = np.arange(5, dtype=np.int32)
    out = "h large zero" if form == "QOperator" else ""
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("QGemm", "q s z w ws wz bias" + (" large zero" if out else ""), "h" if out else "y", domain=MICROSOFT),
        *([node("DequantizeLinear", out, "y")] if out else []),
    ]
    for attribute in (onnx.helper.make_attribute("transB", 1), onnx.helper.make_attribute("alpha", 0.5)):
        nodes[1].attribute.append(attribute)
    ends = [value("x", shape=["N", 4])], [value("y", shape=["N", 5])]
    model = make_model(nodes, *ends, opset=18, initializers=tensors, domains=[MICROSOFT])
    scores, _ = scores_and_slope(model, X[:, :, 0, 0])
    np.testing.assert_allclose(scores, run(model, {"x": X[:, :, 0, 0]})[0], rtol=0, atol=1.01 / 16 if out else 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_scores_of_a_hardened_network_are_those_of_its_file(kind: tuple[str, str]) -> None:
    model = hardened(quantized(*kind), 0.1)
    scores, slope = scores_and_slope(model, images())
    given = run(model, {"x": images()})[0]
    np.testing.assert_allclose(scores, given, rtol=0, atol=0.03 * np.abs(given).max())
    exact = scores_and_slope(hardened(network(), 0.1), images())[1]
    assert (slope * exact).sum() / np.linalg.norm(slope) / np.linalg.norm(exact) > 0.9


def test_the_function_written_out_is_a_jump_relu_too() -> None:
    called = hardened(quantized("QUInt8", "QOperator"), 0.1)
    expected = scores_and_slope(called, images())
    for found, wanted in zip(
        scores_and_slope(onnx.inliner.inline_local_functions(called), images()), expected, strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("opset", [17, 21])
def test_every_type_of_integers(dtype: str, opset: int) -> None:
    """Also quantized by com.microsoft's operators, as 16 bits are before opset 21."""
    model = hardened(one_layer(0.25, np.iinfo(dtype).min + np.zeros((), dtype), ("N", 1), opset), 1.1)
    x = np.linspace(-2, 4, 25, dtype=np.float32)[:, None]
    scores, (slope,) = Gradients(model, (1,))(x, np.ones((25, 1, 1), np.float32))
    np.testing.assert_array_equal(scores, run(model, {"x": x})[0])
    np.testing.assert_array_equal(slope, (scores > 0).astype(np.float32))


def test_what_is_quantized_when_the_model_runs(tmp_path: Path) -> None:
    """The weights of the digits are integers then, and so are the inputs of each layer for a moment."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(MODELS / "digits.onnx", tmp_path / "dynamic.onnx", weight_type=QuantType.QUInt8)
    model = hardened(onnx.load(tmp_path / "dynamic.onnx"), 0.5)
    assert {"ConvInteger", "MatMulInteger"} <= {one.op_type for one in model.graph.node}
    x = np.load(MODELS / "digits_test.npz")["x"][:8].astype(np.float32)
    scores, slope = scores_and_slope(model, x)
    np.testing.assert_allclose(scores, run(model, {"image": x})[0], rtol=0, atol=0.02 * np.abs(scores).max())
    exact = scores_and_slope(hardened(onnx.load(MODELS / "digits.onnx"), 0.5), x)[1]
    assert (slope * exact).sum() / np.linalg.norm(slope) / np.linalg.norm(exact) > 0.9
