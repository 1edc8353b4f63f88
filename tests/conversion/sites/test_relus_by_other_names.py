"""What is exactly a Relu though it is called otherwise, what is none though it is called like one, and Relus inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support import (
    DOUBLE,
    FLOAT,
    FLOAT16,
    INT64,
    TARGETS,
    Array,
    assert_same_but_for_the_sign_of_zero,
    branch,
    check,
    function,
    hardened,
    make_model,
    node,
    report_of,
    run,
    value,
)

from jr_onnx import ModelError, find_sites, inspect
from jr_onnx.cli.main import main
from jr_onnx.reference import jump_relu

X, Y = value("x", FLOAT, ["N", 4]), value("y", FLOAT, ["N", 4])
VALUES = np.array([[-1, 0.25, 0.5, 2], [-0.0, 0, np.inf, np.nan]], np.float32)

#: What is exactly a Relu -> its node, and the constants that it takes.
RELUS: dict[str, tuple[onnx.NodeProto, dict[str, Array]]] = {
    "LeakyRelu": (node("LeakyRelu", "x", "y", "relu", alpha=0.0), {}),
    "LeakyRelu(-0)": (node("LeakyRelu", "x", "y", "relu", alpha=-0.0), {}),
    "PRelu": (node("PRelu", "x slope", "y", "relu"), {"slope": np.zeros(1, np.float32)}),
    "PRelu by channel": (node("PRelu", "x slope", "y", "relu"), {"slope": np.zeros(4, np.float32)}),
    "Max(x, 0)": (node("Max", "x zero", "y", "relu"), {"zero": np.float32(0)}),
    "Max(0, x)": (node("Max", "zero x", "y", "relu"), {"zero": np.float32(0)}),
    "Max(x, -0)": (node("Max", "x zero", "y", "relu"), {"zero": np.float32(-0.0)}),
    "Max(x, [[0]])": (node("Max", "x zero", "y", "relu"), {"zero": np.zeros((1, 1), np.float32)}),
    "Elu": (node("Elu", "x", "y", "relu", alpha=0.0), {}),
    "Selu": (node("Selu", "x", "y", "relu", alpha=0.0, gamma=1.0), {}),
    "Max(x, [0, 0, 0, 0])": (node("Max", "x zero", "y", "relu"), {"zero": np.zeros(4, np.float32)}),
}


def relu_by(name: str, element_type: int = FLOAT, **options: Any) -> onnx.ModelProto:
    """A model of that one node."""
    op, constants = RELUS[name]
    dtype = helper.tensor_dtype_to_np_dtype(element_type)
    x, y = value("x", element_type, ["N", 4]), value("y", element_type, ["N", 4])
    return make_model([op], [x], [y], initializers={k: np.asarray(v, dtype) for k, v in constants.items()}, **options)


@pytest.mark.parametrize("jump", [0.0, 0.5])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", RELUS)
def test_what_is_exactly_a_relu_is_converted(name: str, target: str, jump: float) -> None:
    model = relu_by(name)
    assert [(site.path, site.problem) for site in find_sites(model)] == [("relu", "")]
    result = hardened(model, jump, **TARGETS[target])
    check(result)
    x = VALUES if target in ("custom-op", "inline") else VALUES[:, :2]  # elsewhere NaN becomes 0
    x = np.ascontiguousarray(np.resize(x, (len(x), 4)))
    (found,) = run(result, {"x": x})
    assert_same_but_for_the_sign_of_zero(found, jump_relu(x, jump))
    if jump == 0:
        assert_same_but_for_the_sign_of_zero(found, run(model, {"x": x})[0])


@pytest.mark.parametrize("element_type", [FLOAT16, DOUBLE])
@pytest.mark.parametrize("name", ["LeakyRelu", "Elu", "PRelu", "Max(x, 0)"])
def test_it_is_converted_in_other_types(name: str, element_type: int) -> None:
    x = VALUES.astype(helper.tensor_dtype_to_np_dtype(element_type))
    (found,) = run(hardened(relu_by(name, element_type), 0.5), {"x": x})
    assert_same_but_for_the_sign_of_zero(found, jump_relu(x, 0.5))


@pytest.mark.parametrize(("name", "gives"), [("LeakyRelu", np.nan), ("PRelu", np.nan), ("Max(x, 0)", 0.0)])
def test_what_onnxruntime_gives_for_minus_infinity(name: str, gives: float) -> None:
    """0 * -inf is NaN: the one value at which a slope of 0 is no Relu. The README says so."""
    x = np.full((1, 4), -np.inf, np.float32)
    np.testing.assert_array_equal(run(relu_by(name), {"x": x})[0], np.full((1, 4), gives, np.float32))
    np.testing.assert_array_equal(run(hardened(relu_by(name), 0.0), {"x": x})[0], np.zeros((1, 4), np.float32))


@pytest.mark.parametrize("name", ["LeakyRelu", "PRelu by channel", "Elu", "Max(0, x)"])
def test_check_calls_them_clean(name: str, tmp_path: Path) -> None:
    original, result = tmp_path / "original.onnx", tmp_path / "hardened.onnx"
    onnx.save(relu_by(name), original)
    assert main(["convert", str(original), "--jump", "0.5", "-o", str(result)]) == 0
    assert main(["check", str(original), str(result)]) == 0
    assert main(["check", str(result)]) == 0


TENSOR = numpy_helper.from_array

#: Nodes that give "zero", which is 0, in one of many ways.
ZEROS = {
    "value": [node("Constant", "", "zero", value=TENSOR(np.zeros(1, np.float32)))],
    "value_float": [node("Constant", "", "zero", value_float=0.0)],
    "value_floats": [node("Constant", "", "zero", value_floats=[0.0] * 4)],
    "Cast": [node("Constant", "", "d", value=TENSOR(np.zeros(1))), node("Cast", "d", "zero", to=int(FLOAT))],
    "Cast of an integer": [node("Constant", "", "i", value_int=0), node("Cast", "i", "zero", to=int(FLOAT))],
    "Identity": [node("Constant", "", "c", value_float=0.0), node("Identity", "c", "zero")],
    "ConstantOfShape": [node("Constant", "", "s", value_ints=[4]), node("ConstantOfShape", "s", "zero")],
    "zeros_like": [node("Shape", "x", "like"), node("ConstantOfShape", "like", "zero")],
    "Expand": [
        node("Constant", "", "number", value_float=0.0),
        node("Shape", "x", "like"),
        node("Expand", "number like", "zero"),
    ],
}


@pytest.mark.parametrize("kind", ZEROS)
def test_the_zero_of_a_maximum_is_seen_wherever_it_comes_from(kind: str) -> None:
    model = make_model([*ZEROS[kind], node("Max", "x zero", "y", "relu")], [X], [Y])
    (found,) = run(hardened(model, 0.5), {"x": VALUES})
    assert_same_but_for_the_sign_of_zero(found, jump_relu(VALUES, 0.5))


def test_a_zero_outside_of_a_branch_is_seen_and_one_that_is_hidden_there_is_not() -> None:
    then = branch([node("Max", "x zero", "t", "seen")], "t")
    other = branch([node("Neg", "x", "zero"), node("Max", "x zero", "e", "hidden")], "e")
    choose = node("If", "c", "y", "if", then_branch=then, else_branch=other)
    inputs = [X, value("c", onnx.TensorProto.BOOL, [])]
    model = make_model([choose], inputs, [Y], initializers={"zero": np.float32(0)})
    assert [site.path for site in find_sites(model)] == ["if/then_branch/seen"]


ANOTHER_SHAPE = "a Relu written as Max, whose 0 may have another shape than x; write it as Relu"


@pytest.mark.parametrize(
    ("shape", "zero"), [(["N", 4], (3, 4)), (["N", 4], (1, 1, 1)), ([1, 4], (5, 4)), (None, (1,)), ([], (1,))]
)
@pytest.mark.parametrize("op_type", ["Max", "PRelu"])
def test_a_zero_that_may_widen_the_input_is_reported(op_type: str, shape: Any, zero: tuple[int, ...]) -> None:
    constants = {"zero": np.zeros(zero, np.float32)}
    model = make_model(
        [node(op_type, "x zero", "y", "node")], [value("x", FLOAT, shape)], [value("y")], initializers=constants
    )
    report = report_of(model, allow_empty=True)
    assert [(left.path, left.reason) for left in report.left_alone] == [("node", ANOTHER_SHAPE.replace("Max", op_type))]


def test_a_zero_of_a_computed_shape_is_reported() -> None:
    nodes = [node("Shape", "other", "s"), node("ConstantOfShape", "s", "zero"), node("Max", "x zero", "y", "max")]
    model = make_model(nodes, [X, value("other", FLOAT, ["M", 4])], [value("y")])
    assert [left.reason for left in report_of(model, allow_empty=True).left_alone] == [ANOTHER_SHAPE]


def test_a_constant_that_is_too_large_to_be_read_is_reported() -> None:
    constants = {"zero": np.zeros((1, 5000), np.float32)}
    ends = [value("x", FLOAT, [1, 5000])], [value("y", FLOAT, [1, 5000])]
    model = make_model([node("Max", "x zero", "y", "max")], *ends, initializers=constants)
    (left,) = report_of(model, allow_empty=True).left_alone
    assert left.reason == "Max with a constant that is too large to be read, or damaged; where it is 0, this is a Relu"


def test_an_integer_maximum_is_left_alone() -> None:
    ends = [value("x", INT64, [4])], [value("y", INT64, [4])]
    model = make_model([node("Max", "x zero", "y", "max")], *ends, initializers={"zero": np.int64(0)})
    assert [left.reason for left in report_of(model, allow_empty=True).left_alone] == ["int64 is not floating point"]


# --- what is no ReLU --------------------------------------------------------------------------------------------------

OTHERS = {
    "LeakyRelu": (node("LeakyRelu", "x", "y", "act", alpha=0.25), {}, "it gives 0.25 x below 0"),
    "LeakyRelu by default": (node("LeakyRelu", "x", "y", "act"), {}, "it gives 0.01 x below 0"),
    "PRelu": (
        node("PRelu", "x s", "y", "act"),
        {"s": np.float32([0, 0.5, 0, 0.25])},
        "it gives 0 to 0.5 times x below 0",
    ),
    "PRelu computed": (
        node("PRelu", "x x", "y", "act"),
        {},
        "its slopes below 0 are no constants",
    ),
    "HardSwish": (node("HardSwish", "x", "y", "act"), {}, "its values below 0 are not 0"),
    "Elu": (node("Elu", "x", "y", "act"), {}, "its values below 0 are not 0"),
    "Selu": (node("Selu", "x", "y", "act"), {}, "its values below 0 are not 0"),
    # It divides by alpha: from 0 on this one gives NaN.
    "Celu(0)": (node("Celu", "x", "y", "act", alpha=0.0), {}, "its values below 0 are not 0"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_inspect_says_that_an_activation_is_no_relu(name: str) -> None:
    op, constants, what = OTHERS[name]
    model = make_model([op], [X], [Y], initializers=constants)
    assert [(n.path, n.converted, n.how) for n in inspect(model).nodes] == [("act", False, f"no ReLU: {what}")]
    assert not find_sites(model)
    assert not report_of(model, allow_empty=True).left_alone
    with pytest.raises(ModelError, match=f"no Relu in this model, but 1 {op.op_type}; `allow_empty=True`"):
        report_of(model)


def test_what_inspect_lists_can_be_excluded() -> None:
    nodes = [node("HardSwish", "x", "h", "act"), node("Relu", "h", "y", "relu")]
    assert len(report_of(make_model(nodes, [X], [Y]), exclude=["act"]).sites) == 1


def test_a_slope_that_the_call_of_a_function_sets_is_reported() -> None:
    leaky = node("LeakyRelu", "a", "b", "leaky")
    leaky.attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT).ref_attr_name = "slope"
    body = [node("Constant", "", "k"), node("Max", "a k", "m", "max"), leaky]
    body[0].attribute.add(name="value_float", type=onnx.AttributeProto.FLOAT).ref_attr_name = "slope"
    inner = function("F", "a", "b", body, attributes=["slope"])
    model = make_model([node("F", "x", "y", domain="f", slope=0.5)], [X], [Y], functions=[inner], domains=["f"])
    found = {left.path: left.reason for left in report_of(model, allow_empty=True).left_alone}
    assert found == {"f::F/leaky": "its slope is whatever the call of its function says"}


def test_a_selu_that_is_a_scaled_relu_is_reported() -> None:
    model = make_model([node("Selu", "x", "y", "act", alpha=0.0)], [X], [Y])
    assert [left.reason for left in report_of(model, allow_empty=True).left_alone] == [
        "a Relu times gamma, written as Selu with alpha 0; write it as Relu and Mul"
    ]


def test_a_relu_of_integers_by_its_slope_is_reported() -> None:
    inputs = [value("x", onnx.TensorProto.UINT8, [4])]
    leaky = node("QLinearLeakyRelu", "x s z s z", "y", "act", domain="com.microsoft", alpha=0.0)
    tensors = {"s": np.float32(0.1), "z": np.uint8(128)}
    ends = inputs, [value("y", onnx.TensorProto.UINT8, [4])]
    model = make_model([leaky], *ends, initializers=tensors, domains=["com.microsoft"])
    assert [left.reason for left in report_of(model, allow_empty=True).left_alone] == ["a Relu of integers"]


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
@pytest.mark.parametrize("op_type", ["Relu", "Clip"])
def test_a_function_with_the_name_of_onnxs_operator_is_reported(op_type: str, domain: str) -> None:
    """ONNX leaves it to the runtime whether such a function or the operator is meant."""
    own = helper.make_function(
        domain, op_type, ["a", "k"], ["b"], [node("Neg", "a", "b")], [helper.make_opsetid("", 18)]
    )
    ops = [node(op_type, "x zero" if op_type == "Clip" else "x", "y", "own")]
    model = make_model(ops, [X], [Y], functions=[own], initializers={"zero": np.float32(0)})
    (left,) = report_of(model, allow_empty=True, clip=True).left_alone
    assert left.path == "own"
    assert left.reason == (
        "the model has a function of this name in ONNX's domain, and runtimes choose which is meant; rename it"
    )


# --- activations inside of operators ----------------------------------------------------------------------------------

INSIDE = "a Relu inside of the operator, where no JumpReLU can be put"


@pytest.mark.parametrize(
    ("op_type", "attributes", "listed"),
    [
        ("MoE", {}, True),
        ("MoE", {"activation_type": "relu"}, True),
        ("MoE", {"activation_type": "silu"}, False),
        ("QMoE", {}, True),
        ("MatMulPacked", {"activation_type": "relu2"}, True),
        ("GemmFloat8", {"activation": "RELU"}, True),
        ("AttnLSTM", {"activations": ["Sigmoid", "Relu", "Tanh"]}, True),
        ("AttnLSTM", {"activations": ["Sigmoid", "Tanh", "Tanh"]}, False),
    ],
)
def test_a_relu_inside_of_an_operator_is_reported(op_type: str, attributes: dict[str, Any], listed: bool) -> None:
    op = node(op_type, "x x x", "y", "inside", domain="com.microsoft", **attributes)
    model = make_model([op], [X], [Y], domains=["com.microsoft"])
    reasons = [left.reason for left in report_of(model, allow_empty=True).left_alone]
    assert reasons == ([INSIDE] if listed else [])
    assert [n.how for n in inspect(model).nodes] == reasons


def test_a_function_of_the_model_is_judged_by_its_body() -> None:
    moe = helper.make_function(
        "com.microsoft", "MoE", ["a"], ["b"], [node("Relu", "a", "b", "r")], [helper.make_opsetid("", 18)]
    )
    ops = [node("MoE", "x", "y", "call", domain="com.microsoft")]
    model = make_model(ops, [X], [Y], functions=[moe], domains=["com.microsoft"])
    assert [n.path for n in inspect(model).nodes] == ["com.microsoft::MoE/r"]


HIDDEN, FEATURES = 4, 3


def quantized_lstm(activations: list[str]) -> onnx.ModelProto:
    """Keras' LSTM(activation="relu") after onnxruntime's quantize_dynamic, for one step; its weights are exact."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-3, 4, (1, FEATURES, 4 * HIDDEN)).astype(np.int8)
    constants = {
        "W": weights,
        "R": np.zeros((1, HIDDEN, 4 * HIDDEN), np.int8),
        "B": np.zeros((1, 8 * HIDDEN), np.float32),
        "scale": np.full(1, 0.25, np.float32),
        "zp": np.zeros(1, np.int8),
    }
    attributes = {"hidden_size": HIDDEN, "activations": activations, "domain": "com.microsoft"}
    lstm = node("DynamicQuantizeLSTM", "x W R B - - - - scale zp scale zp", "y", "lstm", **attributes)
    ends = [value("x", FLOAT, [1, "N", FEATURES])], [value("y", FLOAT, [1, 1, "N", HIDDEN])]
    return make_model([lstm], *ends, initializers=constants, domains=["com.microsoft"], opset=14)


def lstm_step(model: onnx.ModelProto, x: Array, jump: float) -> Array:
    """One step from nothing: the gates i, o, f, c in ONNX's order, with JumpReLU in place of Relu."""
    weights = numpy_helper.to_array(model.graph.initializer[0])[0].astype(np.float64) * 0.25
    i, o, _, c = np.split(x[0].astype(np.float64) @ weights, 4, axis=1)
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    cell = sigmoid(i) * jump_relu(c, jump)
    return np.asarray((sigmoid(o) * jump_relu(cell, jump))[None, None])


@pytest.mark.parametrize("jump", [0.0, 0.4])
def test_a_quantized_lstm_is_converted_like_an_lstm(jump: float) -> None:
    model = quantized_lstm(["Sigmoid", "Relu", "Relu"])
    x = np.array([[[0, 1, 0], [1, 1, 1], [1, 0, 0]]], np.float32)
    (found,) = run(hardened(model, jump), {"x": x})
    np.testing.assert_allclose(found, lstm_step(model, x, jump), rtol=1e-5, atol=1e-6)
    (original,) = run(model, {"x": x})
    assert np.array_equal(found, original) == (jump == 0)


def test_a_quantized_lstm_that_was_hardened_gets_its_new_jump() -> None:
    once = hardened(quantized_lstm(["Sigmoid", "Relu", "Relu"]), 0.5)
    again = hardened(once, 0.25)
    assert [a.floats for a in again.graph.node[0].attribute if a.name == "activation_alpha"] == [[0.25, 0.25]]


def test_a_quantized_lstm_without_a_relu_is_no_site() -> None:
    assert not inspect(quantized_lstm(["Sigmoid", "Tanh", "Tanh"])).nodes
