"""Gradients of classifiers: of every form of JumpReLU, of what exporters write, and against finite differences."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import EACH_TARGET, FLOAT, MODELS, TARGETS, Array, function, make_model, node, run, value

pytest.importorskip("onnx_ad", reason="gradients need onnx-ad, from the extra [attack]")

from gradient_of import assert_close, scores_and_slope

from jr_onnx import JumpReluPolicy, ModelError, PolicyRule, convert, find_sites
from jr_onnx.robustness.gradients.backward import RELU, TRUE, Backward, smooth
from jr_onnx.robustness.gradients.errors import NoGradientError
from jr_onnx.robustness.gradients.gradients import Gradients, gradient_model

DIGITS = MODELS / "digits.onnx"
IMAGES = np.load(MODELS / "digits_test.npz")["x"][:16]
EACH_BACKWARD = pytest.mark.parametrize("backward", [TRUE, RELU, smooth(0.1), smooth(0.5)])


def hardened(jump: float | None = None, **options: Any) -> onnx.ModelProto:
    """The digits model with JumpReLU in it."""
    model = convert(onnx.load(DIGITS), jump=jump, **options).model
    assert model is not None
    return model


def site(shape: list[int | str], jump: Array | float, **options: Any) -> onnx.ModelProto:
    """One JumpReLU of x [N, 4]."""
    model = make_model([node("Relu", "x", "y")], [value("x", shape=shape)], [value("y", shape=shape)])
    made = convert(model, jump=jump, **options).model
    assert made is not None
    return made


# --- JumpReLU ---------------------------------------------------------------------------------------------------------


@EACH_TARGET
@pytest.mark.parametrize("jump", [0.0, 0.3, 1.0])
def test_the_scores_are_those_of_the_file_in_every_form(target: str, jump: float) -> None:
    model = hardened(jump, **TARGETS[target])
    np.testing.assert_allclose(scores_and_slope(model, IMAGES)[0], run(model, {"image": IMAGES})[0], 1e-4, 1e-5)


@EACH_TARGET
@EACH_BACKWARD
def test_every_form_has_the_same_gradient(target: str, backward: Backward) -> None:
    expected = scores_and_slope(hardened(0.3), IMAGES, backward)
    found = scores_and_slope(hardened(0.3, **TARGETS[target]), IMAGES, backward)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("target", ["inline", "subgraph", "standard"])
def test_a_form_is_known_without_its_mark(target: str) -> None:
    """Other tools drop the metadata of nodes, and a mask that nobody marked masks gradients too."""
    model = hardened(0.3, **TARGETS[target])
    expected = scores_and_slope(model, IMAGES, smooth(0.25))[1]
    for one in model.graph.node:
        del one.metadata_props[:]
    assert_close(scores_and_slope(model, IMAGES, smooth(0.25))[1], expected)


def test_a_lower_bound_is_no_jump_relu() -> None:
    """Where(x <= k, k, x) is Max(x, k), whatever the backward."""
    nodes = [node("LessOrEqual", "x k", "m"), node("Where", "m k x", "y")]
    x = value("x", shape=["N", 3])
    model = make_model(nodes, [x], [value("y", shape=["N", 3])], initializers={"k": np.asarray(0.5, np.float32)})
    scores, slope = scores_and_slope(model, np.asarray([[0.0, 0.4, 1.0]], np.float32), RELU)
    np.testing.assert_array_equal(scores, np.asarray([[0.5, 0.5, 1.0]], np.float32))
    assert slope.tolist() == [[0, 0, 2]]


POINTS = np.asarray([[-1.0, 0.0, 0.3, 0.5, 0.5000001, 0.7, 2.0, 9.0]], np.float32)


def slope_at(jump: float, backward: Backward) -> Array:
    """dJumpReLU/dx at each of `POINTS`."""
    gradients = Gradients(site(["N", 8], jump), (8,))
    slope: Array = gradients(POINTS, np.ones((1, 8, 1), np.float32), backward=backward)[1][0, 0]
    return slope


def test_the_true_gradient_is_one_above_the_jump() -> None:
    assert slope_at(0.5, TRUE).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_the_gradient_of_relu_is_one_above_zero() -> None:
    assert slope_at(0.5, RELU).tolist() == [0, 0, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("width", [0.1, 0.25, 0.5])
def test_the_smooth_gradient_is_that_of_the_smooth_step(width: float) -> None:
    x, small = POINTS[0].astype(np.float64), 1e-6
    before, behind = (at / (1 + np.exp(-(at - 0.5) / (0.5 * width))) for at in (x - small, x + small))
    np.testing.assert_allclose(slope_at(0.5, smooth(width)), (behind - before) / (2 * small), rtol=1e-4, atol=1e-6)


def test_where_the_jump_is_zero_the_smooth_gradient_is_the_true_one() -> None:
    assert slope_at(0.0, smooth(0.1)).tolist() == slope_at(0.0, TRUE).tolist()


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_a_width_is_a_positive_number(width: float) -> None:
    with pytest.raises(ValueError, match="must be a finite number > 0"):
        smooth(width)


def test_a_jump_for_each_channel_and_one_that_is_an_input() -> None:
    first = next(iter(find_sites(DIGITS))).path
    jumps = tuple(np.linspace(0, 1.5, 16).tolist())
    each = hardened(policy=JumpReluPolicy(rules=(PolicyRule(first, jumps),)))
    np.testing.assert_allclose(scores_and_slope(each, IMAGES)[0], run(each, {"image": IMAGES})[0], 1e-4, 1e-5)
    given = scores_and_slope(hardened(0.4, jump_input="jump"), IMAGES, smooth(0.25))
    for one, other in zip(given, scores_and_slope(hardened(0.4), IMAGES, smooth(0.25)), strict=True):
        assert_close(one, other)


def test_functions_are_seen_through() -> None:
    inner = function("Inner", "a", "b", [node("Relu", "a", "b", "r")])
    outer = function("Outer", "a", "b", [node("Inner", "a", "c", domain="f"), node("Neg", "c", "b")], calls=True)
    x, y = value("x", shape=["N", 2]), value("y", shape=["N", 2])
    model = make_model([node("Outer", "x", "y", domain="f")], [x], [y], functions=[inner, outer], domains=["f"])
    scores, slope = scores_and_slope(model, np.asarray([[-1.0, 3.0]], np.float32))
    assert (scores.tolist(), slope.tolist()) == ([[0, -3]], [[0, -1]])


# --- losses and batches -----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 3.0]))
def test_a_softmax_over_rivals_is_added_to_the_weights(seed: int, sharpness: float) -> None:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(3, 5)).astype(np.float32)
    rivals = generator.random((3, 5)) < 0.7
    weights = generator.normal(size=(3, 5, 1)).astype(np.float32)
    scores, (slope,) = IDENTITY(x, weights, rivals=rivals, sharpness=np.full(3, sharpness, np.float32))
    shares = np.where(rivals, np.exp(x * (sharpness or 1)), 0)
    expected = weights[:, :, 0] + shares / np.maximum(shares.sum(1, keepdims=True), 1e-30)
    np.testing.assert_array_equal(scores, x)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


IDENTITY = Gradients(
    make_model([node("Identity", "x", "y")], [value("x", shape=["N", 5])], [value("y", shape=["N", 5])]), (5,)
)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9, 33, 70])
def test_any_batch_is_cut_and_filled_up(count: int) -> None:
    gradients = Gradients(DIGITS, (1, 8, 8))
    images = np.resize(IMAGES, (count, 1, 8, 8))
    weights = np.random.default_rng(0).normal(size=(count, 10, 3)).astype(np.float32)
    scores, slopes = gradients(images, weights)
    assert (scores.shape, slopes.shape) == ((count, 10), (3, count, 1, 8, 8))
    for row in range(0, count, 8):
        one, (each, *_) = gradients(images[row : row + 1], weights[row : row + 1])
        assert_close(scores[row : row + 1], one)
        assert_close(slopes[0, row : row + 1], each)


@pytest.mark.parametrize("size", [1, 4])
def test_a_file_with_a_fixed_batch_takes_any_batch(size: int) -> None:
    model = onnx.load(DIGITS)
    for one in (*model.graph.input, *model.graph.output):
        one.type.tensor_type.shape.dim[0].dim_value = size
    for found, expected in zip(scores_and_slope(model, IMAGES), scores_and_slope(DIGITS, IMAGES), strict=True):
        assert_close(found, expected)


# --- what a model ends in ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tail",
    [
        [node("Softmax", "logits", "s", axis=-1)],
        [node("Softmax", "logits", "p"), node("Identity", "p", "s")],
        [node("Softmax", "logits", "p"), node("Cast", "p", "d", to=11), node("Cast", "d", "s", to=FLOAT)],
        [node("Softmax", "logits", "p"), node("Identity", "p", "q"), node("Log", "q", "l"), node("Flatten", "l", "s")],
    ],
    ids=lambda tail: "-".join(node.op_type for node in tail),
)
def test_a_softmax_at_the_end_is_left_out(tail: list[onnx.NodeProto]) -> None:
    """A saturated Softmax has no gradient to follow, and hides what a stronger attack would find."""
    model = onnx.load(DIGITS)
    model.graph.node.extend(tail)
    model.graph.output[0].name = "s"
    for found, expected in zip(scores_and_slope(model, IMAGES), scores_and_slope(DIGITS, IMAGES), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_softmax_over_planes_is_left_out() -> None:
    """[N, classes, 1, 1], Softmax over the classes, Flatten: as fully convolutional networks end."""
    nodes = [node("GlobalAveragePool", "x", "a"), node("Softmax", "a", "p", axis=1), node("Flatten", "p", "y")]
    model = make_model(nodes, [value("x", shape=["N", 3, 4, 4])], [value("y", shape=["N", 3])])
    x = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(scores_and_slope(model, x)[0], x.mean((2, 3)), rtol=1e-5, atol=1e-6)


# --- operators --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [9, 11, 13, 17])
def test_an_older_opset_is_brought_up_to_date(opset: int) -> None:
    axes = {"axes": [2, 3], "keepdims": 0}
    nodes = [node("Relu", "x", "r"), node("ReduceMean", "r", "y", **axes)]
    model = make_model(nodes, [value("x", shape=["N", 3, 4, 4])], [value("y", shape=["N", 3])], opset=opset)
    hard = convert(model, jump=0.5, target="subgraph").model
    x = np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype(np.float32)
    scores, slope = scores_and_slope(hard, x, RELU)
    np.testing.assert_allclose(scores, np.where(x > 0.5, x, 0).mean((2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slope, (x > 0) * np.arange(3).reshape(1, 3, 1, 1) / 16, rtol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "residual", "functions", "relu6", "half"])
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_an_exported_network_has_the_gradients_of_the_torch_network(name: str, exporter: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare the networks with")
    sys.path.append(str(MODELS))
    from networks import NETWORKS

    network = NETWORKS[name].build().float()
    (x,) = NETWORKS[name].inputs(batch=4, seed=3)
    x = x.float().requires_grad_()
    expected = network(x)
    (slope,) = torch.autograd.grad((expected * torch.arange(expected.shape[1])).sum(), x)
    found = scores_and_slope(MODELS / f"{name}.{exporter}.onnx", x.detach().numpy())
    assert_close(found[0], expected.detach().numpy(), 1e-4)
    assert_close(found[1], slope.numpy(), 1e-3 if name == "half" else 1e-5)


@pytest.mark.parametrize("per_channel", [True, False])
def test_rounding_passes_the_gradient_straight_through(per_channel: bool, tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization", reason="this onnxruntime cannot quantize")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"image": IMAGES}])

        def get_next(self) -> dict[str, Array] | None:
            return next(self.batches, None)

    # Seven bits: with eight, onnxruntime's kernels for processors without VNNI saturate, and give other values.
    path = tmp_path / "q.onnx"
    quantization.quantize_static(DIGITS, path, Reader(), per_channel=per_channel, reduce_range=True)
    model = onnx.load(path)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    scores, slope = scores_and_slope(model, IMAGES)
    expected = run(model, {"image": IMAGES})[0]
    step = np.abs(expected).max() / 128  # a value halfway between two integers may be rounded to either
    np.testing.assert_allclose(scores, expected, 0, 1.01 * step)
    exact = scores_and_slope(DIGITS, IMAGES)[1].reshape(16, -1)
    likeness = (slope.reshape(16, -1) * exact).sum(1) / np.linalg.norm(slope.reshape(16, -1), axis=1)
    assert (likeness / np.linalg.norm(exact, axis=1) > 0.9).mean() > 0.7


# --- what has no gradients --------------------------------------------------------------------------------------------


def test_two_inputs_and_two_outputs_are_refused() -> None:
    model = onnx.load(DIGITS)
    model.graph.output.append(onnx.helper.make_tensor_value_info(model.graph.node[0].output[0], 1, None))
    with pytest.raises(ModelError, match="2 outputs; a classifier has one"):
        Gradients(model, (1, 8, 8))
    model = onnx.load(DIGITS)
    model.graph.input.append(onnx.helper.make_tensor_value_info("other", 1, [1]))
    with pytest.raises(ModelError, match="2 inputs; a classifier has one"):
        Gradients(model, (1, 8, 8))


def test_an_operator_that_onnx_does_not_know_is_named() -> None:
    shape = [value("x", shape=["N", 3])], [value("y", shape=["N", 3])]
    model = make_model([node("Gelu", "x", "y", domain="com.microsoft")], *shape, domains=["com.microsoft"])
    with pytest.raises(NoGradientError, match=r"nothing is known of com\.microsoft\.Gelu; only black-box attacks"):
        Gradients(model, (3,))


def test_what_no_score_needs_may_be_anything() -> None:
    nodes = [node("Gelu", "x", "unused", domain="com.microsoft"), node("Neg", "x", "y")]
    shape = [value("x", shape=["N", 3])], [value("y", shape=["N", 3])]
    _, slope = scores_and_slope(make_model(nodes, *shape, domains=["com.microsoft"]), np.ones((1, 3), np.float32))
    assert slope.tolist() == [[0, -1, -2]]


def test_the_model_that_is_given_is_left_alone() -> None:
    model = onnx.load(MODELS / "functions.dynamo.onnx")
    before = model.SerializeToString()
    gradient_model(model, (2, *(size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[1:])))
    assert model.SerializeToString() == before


def test_external_data_are_read_and_missing_ones_named(tmp_path: Path) -> None:
    model, path = onnx.load(DIGITS), tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    for found, expected in zip(scores_and_slope(path, IMAGES), scores_and_slope(DIGITS, IMAGES), strict=True):
        np.testing.assert_array_equal(found, expected)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError, match=r"m\.onnx: .*w\.bin"):
        Gradients(path, (1, 8, 8))


def test_the_gradient_of_a_model_needs_no_torch() -> None:
    code = (
        "import sys; from jr_onnx.robustness.gradients.gradients import Gradients;"
        f"Gradients({str(DIGITS)!r}, (1, 8, 8)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
