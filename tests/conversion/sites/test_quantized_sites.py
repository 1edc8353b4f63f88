"""ReLUs of values that are integers: each that a quantizer folded is a site, and nothing that is not one."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
import pytest
from support import FLOAT, Array, make_model, node, report_of, value

SITE = "a site"
UNKNOWN = "a Relu may be folded into its zero point, but it stands behind no convolution or other linear layer"
CHANNELS = "a Relu may be folded into its zero point, but it has one scale a channel"
MICROSOFT = "com.microsoft"
ZERO = np.uint8(0)


def verdicts(model: onnx.ModelProto) -> dict[str, str]:
    """Scope path -> whether the node is a site, or why it is left alone."""
    report = report_of(model, allow_empty=True)
    return {**{left.path: left.reason for left in report.left_alone}, **{site.path: SITE for site in report.sites}}


def quantized(*before: onnx.NodeProto, zero_point: Any = ZERO, opset: int = 18, **attributes: Any) -> onnx.ModelProto:
    """Nodes from x to h, and a quantizer of h."""
    tensors: dict[str, Array] = {
        "w": np.eye(4, dtype=np.float32),
        "one": np.ones(4, np.float32),
        "minus": -np.ones(4, np.float32),
        "four": np.array([2, 8], np.int64),
        "scale": np.float32(0.1),
        "byte": np.uint8(0),
        "middle": np.uint8(128),
    }
    if zero_point is not None:
        tensors["zp"] = np.asarray(zero_point)
    last = node("QuantizeLinear", f"h scale {'-' if zero_point is None else 'zp'}", "y", "quantize", **attributes)
    if zero_point is None:
        del last.input[2:]
    model = make_model([*before, last], [value("x", FLOAT, [1, 4])], [onnx.ValueInfoProto(name="y")], opset=opset)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in tensors.items())
    model.opset_import.add(domain=MICROSOFT, version=1)
    return model


SIGNED = {
    "MatMul": [node("MatMul", "x w", "h")],
    "InstanceNormalization": [node("InstanceNormalization", "x one minus", "h")],
    "Mul": [node("Mul", "x minus", "h")],
    "LayerNormalization": [node("LayerNormalization", "x one", "h")],
    "a chain": [node("MatMul", "x w", "m"), node("Reshape", "m four", "r"), node("Transpose", "r", "h")],
    "a sum with a negative constant": [node("Relu", "x", "r"), node("Add", "r minus", "h")],
    "a dequantizer from the middle": [
        node("MatMul", "x w", "m"),
        node("QuantizeLinear", "m scale middle", "q"),
        node("DequantizeLinear", "q scale middle", "d"),
        node("MaxPool", "d", "h", kernel_shape=[1]),
    ],
}


@pytest.mark.parametrize("kind", SIGNED)
def test_a_quantizer_that_starts_at_0_behind_a_layer_folds_a_relu(kind: str) -> None:
    assert verdicts(quantized(*SIGNED[kind]))["quantize"] == SITE


OF_UNKNOWN_SIGN = {
    "Resize": [node("Neg", "x", "n"), node("Resize", "n - - four", "h", mode="linear")],
    "cubic interpolation": [node("Relu", "x", "r"), node("Resize", "r - - four", "h", mode="cubic")],
    "an operator of another domain": [node("Mystery", "x", "h", domain=MICROSOFT)],
}


@pytest.mark.parametrize("kind", OF_UNKNOWN_SIGN)
def test_behind_what_is_no_layer_it_is_left_alone(kind: str) -> None:
    assert verdicts(quantized(*OF_UNKNOWN_SIGN[kind]))["quantize"] == UNKNOWN


NEVER_NEGATIVE = {
    "Relu": [node("Relu", "x", "h")],
    "Sigmoid": [node("Sigmoid", "x", "h")],
    "Clip": [node("Clip", "x scale", "h")],
    "a chain": [node("Sigmoid", "x", "s"), node("Reshape", "s four", "r"), node("MaxPool", "r", "h", kernel_shape=[1])],
    "a sum": [node("Sigmoid", "x", "s"), node("Relu", "x", "r"), node("Add", "s r", "t"), node("Add", "t one", "h")],
    "a square": [node("Mul", "x x", "h")],
    "a constant that is repeated": [
        node("ConstantOfShape", "four", "c"),
        node("Abs", "x", "a"),
        node("Add", "a c", "h"),
    ],
    "a dequantizer from 0": [
        node("QuantizeLinear", "x scale byte", "q"),
        node("DequantizeLinear", "q scale byte", "d"),
        node("Resize", "d - - four", "h", mode="linear"),
    ],
    "a dequantizer without a zero point": [
        node("QuantizeLinear", "x scale", "q"),
        node("DequantizeLinear", "q scale", "h"),
    ],
    "FusedConv with Relu": [node("FusedConv", "x w", "h", domain=MICROSOFT, activation="Relu")],
    "JumpReLU": [node("JumpReLU", "x scale", "h", domain="jr_onnx")],
    "the gate of a hard sigmoid": [
        node("Relu", "x", "r"),
        node("HardSigmoid", "r", "g"),
        node("Mul", "r g", "h"),
    ],
}


@pytest.mark.parametrize("kind", NEVER_NEGATIVE)
def test_behind_what_is_never_negative_it_folds_none(kind: str) -> None:
    assert "quantize" not in verdicts(quantized(*NEVER_NEGATIVE[kind]))


FROM_AN_INPUT = {
    "itself": [node("Identity", "x", "h")],
    "reshaped": [node("Reshape", "x four", "r"), node("Transpose", "r", "h")],
    "scaled": [node("Mul", "x scale", "h")],
    "quantized from the middle": [
        node("QuantizeLinear", "x scale middle", "q"),
        node("DequantizeLinear", "q scale middle", "d"),
        node("MaxPool", "d", "h", kernel_shape=[1]),
    ],
}


def test_a_constant_is_no_site() -> None:
    """Weights are quantized too."""
    model = quantized(node("Mul", "x one", "h"))
    model.graph.node[-1].input[0] = "minus"
    assert not verdicts(model)


@pytest.mark.parametrize("kind", FROM_AN_INPUT)
def test_an_input_of_the_model_is_no_site(kind: str) -> None:
    assert not verdicts(quantized(*FROM_AN_INPUT[kind]))


@pytest.mark.parametrize("first", [node("MatMul", "x w", "v0"), node("Relu", "x", "v0")])
def test_many_quantizers_behind_a_long_chain_are_no_matter_of_minutes(first: onnx.NodeProto) -> None:
    """Following the chain anew from each value on it takes minutes, and 3 seconds otherwise."""
    chain = [node("Identity", f"v{i}", f"v{i + 1}") for i in range(900)]
    many = [node("QuantizeLinear", "v900 scale zp", f"q{i}", f"q{i}") for i in range(2000)]
    model = quantized(first, *chain, *many, node("Identity", "v900", "h"))
    started = time.process_time()
    assert len(verdicts(model)) >= 2001
    assert time.process_time() - started < 20


def test_a_chain_of_any_length_that_is_followed_ends_at_its_relu() -> None:
    chain = [node("Identity", f"v{i}", f"v{i + 1}") for i in range(200)]
    assert "quantize" not in verdicts(quantized(node("Relu", "x", "v0"), *chain, node("Identity", "v200", "h")))


MATMUL = node("MatMul", "x w", "h")


@pytest.mark.parametrize(
    ("zero_point", "verdict"),
    [
        (np.uint8(0), SITE),
        (np.int8(-128), SITE),
        (np.uint16(0), SITE),
        (np.int16(-32768), SITE),
        (np.zeros(1, np.uint8), SITE),
        (np.zeros(4, np.uint8), CHANNELS),
        (None, SITE),
        (np.uint8(128), ""),
        (np.int8(0), ""),
        (np.int16(0), ""),
        (np.array([0, 0, 0, 1], np.uint8), ""),
    ],
    ids=repr,
)
@pytest.mark.parametrize("domain", ["", MICROSOFT])
def test_which_zero_points_start_at_0(domain: str, zero_point: Any, verdict: str) -> None:
    model = quantized(MATMUL, zero_point=zero_point)
    model.graph.node[-1].domain = domain
    assert verdicts(model) == ({"quantize": verdict} if verdict else {})


@pytest.mark.parametrize(
    ("output_dtype", "folds"), [("UINT8", True), ("UINT16", True), ("INT8", False), ("INT16", False)]
)
def test_without_a_zero_point_the_output_type_tells(output_dtype: str, folds: bool) -> None:
    element_type = onnx.TensorProto.DataType.Value(output_dtype)
    model = quantized(MATMUL, zero_point=None, opset=21, output_dtype=element_type)
    assert verdicts(model) == ({"quantize": SITE} if folds else {})


def test_a_zero_point_that_is_computed_from_constants_is_seen() -> None:
    model = quantized(node("Cast", "byte", "zero", to=int(onnx.TensorProto.INT32)), MATMUL)
    model.graph.node.insert(1, node("Cast", "zero", "again", to=int(onnx.TensorProto.UINT8)))
    model.graph.node[-1].input[2] = "again"
    assert verdicts(model) == {"quantize": SITE}


BIAS = (
    "a Relu may be folded into its zero point, but a constant is added behind it, its bias, and a Relu comes after that"
)


@pytest.mark.parametrize(
    ("behind", "verdict"),
    [
        ([node("Add", "d one", "z")], BIAS),
        ([node("DequantizeLinear", "middle scale middle", "c"), node("Add", "c d", "z")], BIAS),
        ([node("Add", "d d", "z")], SITE),
        ([node("Add", "d x", "z")], SITE),
        ([node("Mul", "d one", "z")], SITE),
        ([node("Add", "d one", "z"), node("Exp", "d", "e")], SITE),
        ([], SITE),
    ],
)
def test_a_layer_in_front_of_its_bias_has_no_relu(behind: list[onnx.NodeProto], verdict: str) -> None:
    """All of its values may have been positive in the calibration."""
    model = quantized(MATMUL)
    model.graph.node.append(node("DequantizeLinear", "y scale zp", "d"))
    model.graph.node.extend(behind)
    model.graph.output[0].name = behind[0].output[0] if behind else "d"
    assert verdicts(model) == {"quantize": verdict}


OPERATORS = {
    "QLinearConv": ("x s x_zp w s w_zp s y_zp", ""),
    "com.microsoft.QLinearConv": ("x s x_zp w s w_zp s y_zp", MICROSOFT),
    "QLinearMatMul": ("x s x_zp w s w_zp s y_zp", ""),
    "QGemm": ("x s x_zp w s w_zp - s y_zp", MICROSOFT),
    "QLinearAdd": ("x s x_zp x s x_zp s y_zp", MICROSOFT),
    "QLinearMul": ("x s x_zp x s x_zp s y_zp", MICROSOFT),
    "QLinearAveragePool": ("x s x_zp s y_zp", MICROSOFT),
    "QLinearGlobalAveragePool": ("x s x_zp s y_zp", MICROSOFT),
    "QLinearConcat": ("s y_zp x s x_zp x s x_zp", MICROSOFT),
}


def on_integers(operator: str, before: int, after: int) -> onnx.ModelProto:
    """A convolution and one operator on integers, with these zero points of its inputs and its output."""
    inputs, domain = OPERATORS[operator]
    uint8 = onnx.TensorProto.UINT8
    tensors = {"s": np.float32(0.1), "x_zp": np.uint8(before), "w_zp": np.uint8(7), "y_zp": np.uint8(after)}
    tensors["w"] = np.ones((1, 1), np.uint8)
    ops = [
        node("QLinearConv", "image s x_zp kernel s w_zp s x_zp", "x", "first"),
        node(operator.split(".")[-1], inputs, "y", "op", domain=domain),
    ]
    tensors["kernel"] = np.ones((1, 1, 1, 1), np.uint8)
    ends = [value("image", uint8, [1, 1, 4, 4])], [value("y", uint8)]
    return make_model(ops, *ends, initializers=tensors, domains=[MICROSOFT])


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_on_integers_that_starts_at_0_folds_a_relu(operator: str) -> None:
    assert verdicts(on_integers(operator, 128, 0)) == {"op": SITE}
    assert not verdicts(on_integers(operator, 128, 100))
    has_weights = "w_zp" in OPERATORS[operator][0]
    assert verdicts(on_integers(operator, 0, 0)) == {"first": SITE, **({"op": SITE} if has_weights else {})}


def test_the_model_that_onnxruntimes_quantizer_writes(tmp_path: Any) -> None:
    """Relu behind InstanceNormalization and behind a residual Add: both are gone from the file, and both are sites."""
    quantization = pytest.importorskip(
        "onnxruntime.quantization", reason="onnxruntime's quantizer needs onnx and sympy"
    )
    nodes = [
        node("Conv", "x w", "a", "conv"),
        node("InstanceNormalization", "a g b", "n", "norm"),
        node("Relu", "n", "r", "relu1"),
        node("Add", "r x", "s", "add"),
        node("Relu", "s", "t", "relu2"),
        node("Conv", "t w", "y", "conv2"),
    ]
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(size=(4, 4, 1, 1)).astype(np.float32),
        "g": np.ones(4, np.float32),
        "b": np.zeros(4, np.float32),
    }
    ends = [value("x", FLOAT, [1, 4, 8, 8])], [value("y", FLOAT, [1, 4, 8, 8])]
    onnx.save(make_model(nodes, *ends, initializers=constants), tmp_path / "float.onnx")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self.left = [{"x": rng.normal(size=(1, 4, 8, 8)).astype(np.float32)} for _ in range(4)]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    quantization.quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", Reader())
    model = onnx.load(tmp_path / "int8.onnx")
    kept = sum(op.op_type == "Relu" for op in model.graph.node)
    assert kept < 2
    assert list(verdicts(model).values()) == [SITE] * 2
