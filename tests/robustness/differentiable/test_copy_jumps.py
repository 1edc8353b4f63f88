"""Where the copy has a JumpReLU, what its jump is, and what its gradient is taken to be."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import EACH_TARGET, FLOAT, MODELS, TARGETS, assert_same_bits, function, make_model, node, run, value

from jr_onnx import JumpReluPolicy, OptionError, PolicyRule, convert, find_sites
from jr_onnx.reference import jump_relu as reference

torch = pytest.importorskip("torch", reason="torch is not installed: there is no differentiable copy without it")

from jr_onnx.robustness.gradients.backward import RELU, TRUE, Backward, smooth  # noqa: E402 - behind the check that torch is there
from jr_onnx.robustness.differentiable.jump_relu import jump_relu  # noqa: E402
from jr_onnx.robustness.differentiable.model import DifferentiableModel  # noqa: E402

DIGITS = MODELS / "digits.onnx"
IMAGES = np.load(MODELS / "digits_test.npz")["x"][:16]


def hardened(jump: float | None = None, **options: Any) -> onnx.ModelProto:
    """The digits model with JumpReLU in it."""
    model = convert(onnx.load(DIGITS), jump=jump, **options).model
    assert model is not None
    return model


def input_gradient(copy: DifferentiableModel, **options: Any) -> Any:
    """The logits of the digits, and the gradient of their weighted sum."""
    x = torch.from_numpy(IMAGES).requires_grad_()
    logits = copy(x, **options)
    (slope,) = torch.autograd.grad((logits * torch.arange(10)).sum(), x)
    return logits.detach(), slope


@EACH_TARGET
@pytest.mark.parametrize("jump", [0.0, 0.3, 1.0])
def test_a_hardened_model_has_the_outputs_of_onnxruntime_in_every_form(target: str, jump: float) -> None:
    model = hardened(jump, **TARGETS[target])
    copy = DifferentiableModel.from_onnx(model)
    assert len(copy.sites) == 4
    with torch.no_grad():
        found = copy(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(found, run(model, {"image": IMAGES})[0], 1e-4, 1e-5)


@EACH_TARGET
@pytest.mark.parametrize("backward", [TRUE, RELU, smooth(0.1), smooth(0.5)])
def test_every_form_has_the_same_gradient(target: str, backward: Backward) -> None:
    expected = input_gradient(DifferentiableModel.from_onnx(DIGITS), jumps=0.3, backward=backward)
    found = input_gradient(DifferentiableModel.from_onnx(hardened(0.3, **TARGETS[target])), backward=backward)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", ["inline", "subgraph", "standard"])
def test_a_form_is_known_without_its_mark(target: str) -> None:
    """Other tools drop the metadata of nodes, and a mask that nobody marked masks gradients too."""
    model = hardened(0.3, **TARGETS[target])
    for one in model.graph.node:
        del one.metadata_props[:]
    copy = DifferentiableModel.from_onnx(model)
    assert len(copy.sites) == 4
    expected = input_gradient(DifferentiableModel.from_onnx(DIGITS), jumps=0.3, backward=smooth(0.25))
    torch.testing.assert_close(input_gradient(copy, backward=smooth(0.25)), expected, rtol=1e-5, atol=1e-5)


def test_a_lower_bound_is_no_jump_relu() -> None:
    """Where(x <= k, k, x) is Max(x, k)."""
    x = value("x", shape=[3])
    nodes = [node("LessOrEqual", "x k", "m"), node("Where", "m k x", "y")]
    model = make_model(nodes, [x], [value("y", shape=[3])], initializers={"k": np.asarray(0.5, np.float32)})
    copy = DifferentiableModel.from_onnx(model)
    assert copy.sites == ()
    assert copy(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0.5, 0.5, 1.0]


def test_sites_are_called_as_inspect_calls_them() -> None:
    for path in (DIGITS, MODELS / "residual.torchscript.onnx", MODELS / "functions.torchscript.onnx"):
        assert set(DifferentiableModel.from_onnx(path).sites) == {site.path for site in find_sites(path)}


def test_a_function_that_is_called_twice_has_its_site_twice() -> None:
    copy = DifferentiableModel.from_onnx(MODELS / "functions.dynamo.onnx")
    in_function = [path for path in copy.sites if "::" in path]
    assert len(in_function) == 2
    assert len(set(in_function)) == 1


def test_a_function_around_a_function_is_seen_through() -> None:
    inner = function("Inner", "a", "b", [node("Relu", "a", "b", "r")])
    outer = function("Outer", "a", "b", [node("Inner", "a", "c", domain="f"), node("Neg", "c", "b")], calls=True)
    x = value("x", shape=[2])
    model = make_model(
        [node("Outer", "x", "y", domain="f")], [x], [value("y", shape=[2])], functions=[inner, outer], domains=["f"]
    )
    copy = DifferentiableModel.from_onnx(model)
    assert copy.sites == ("f::Inner/r",)
    assert copy(torch.tensor([1.0, 3.0]), jumps={"f::Inner/r": 2.0}).tolist() == [0.0, -3.0]


def test_jumps_are_given_for_all_sites_or_by_path() -> None:
    copy = DifferentiableModel.from_onnx(DIGITS)
    x = torch.from_numpy(IMAGES)
    first, *others = copy.sites
    policy = JumpReluPolicy(rules=(PolicyRule(first, 0.5),))
    given = run(hardened(policy=policy), {"image": IMAGES})[0]
    np.testing.assert_allclose(copy(x, jumps={first: 0.5}).detach().numpy(), given, 1e-4, 1e-5)
    torch.testing.assert_close(copy(x, jumps=0.5), copy(x, jumps=dict.fromkeys([first, *others], 0.5)))


def test_jumps_replace_those_of_the_file() -> None:
    copy = DifferentiableModel.from_onnx(hardened(0.5, target="standard"))
    original = DifferentiableModel.from_onnx(DIGITS)
    x = torch.from_numpy(IMAGES)
    torch.testing.assert_close(copy(x, jumps=0.0), original(x))
    torch.testing.assert_close(copy(x, jumps=0.2), original(x, jumps=0.2))


def test_a_jump_for_a_site_that_is_not_there_is_refused() -> None:
    with pytest.raises(OptionError, match="no Relu or JumpReLU is called 'node_rel'"):
        DifferentiableModel.from_onnx(DIGITS)(torch.zeros(1, 1, 8, 8), jumps={"node_rel": 1.0})


def test_a_jump_that_is_an_input_has_its_default() -> None:
    copy = DifferentiableModel.from_onnx(hardened(0.4, jump_input="jump"))
    x = torch.from_numpy(IMAGES)
    torch.testing.assert_close(copy(x), DifferentiableModel.from_onnx(DIGITS)(x, jumps=0.4))


def test_a_jump_by_channel_is_by_channel() -> None:
    first = DifferentiableModel.from_onnx(DIGITS).sites[0]
    jumps = tuple(np.linspace(0, 1.5, 16).tolist())
    model = hardened(policy=JumpReluPolicy(rules=(PolicyRule(first, jumps),)))
    copy = DifferentiableModel.from_onnx(model)
    np.testing.assert_allclose(
        copy(torch.from_numpy(IMAGES)).detach().numpy(), run(model, {"image": IMAGES})[0], 1e-4, 1e-5
    )


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=8),
    st.floats(0, 1e3, width=32),
    st.sampled_from([TRUE, RELU, smooth(0.1)]),
)
def test_the_forward_is_the_definition_bit_for_bit_whatever_the_backward(
    x: list[float], jump: float, backward: Backward
) -> None:
    array = np.asarray(x, np.float32)
    found = jump_relu(torch.from_numpy(array), torch.tensor(jump), backward).numpy()
    assert_same_bits(found, reference(array, np.float32(jump)))


def slope_at(x: Any, jump: float, backward: Backward) -> Any:
    """dJumpReLU/dx at each x, float64."""
    x = torch.as_tensor(x, dtype=torch.float64).requires_grad_()
    return torch.autograd.grad(jump_relu(x, torch.tensor(jump, dtype=torch.float64), backward).sum(), x)[0]


POINTS = [-1.0, 0.0, 0.3, 0.5, 0.5000001, 0.7, 2.0]


def test_the_true_gradient_is_one_above_the_jump() -> None:
    assert slope_at(POINTS, 0.5, TRUE).tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_the_gradient_of_relu_is_one_above_zero() -> None:
    assert slope_at(POINTS, 0.5, RELU).tolist() == [0, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("temperature", [0.1, 0.25, 0.5])
def test_the_smooth_gradient_is_that_of_the_smooth_step(temperature: float) -> None:
    x = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    surrogate = x * torch.sigmoid((x - 0.5) / (0.5 * temperature))
    (expected,) = torch.autograd.grad(surrogate.sum(), x)
    torch.testing.assert_close(slope_at(POINTS, 0.5, smooth(temperature)), expected, rtol=1e-12, atol=1e-15)


def test_where_the_jump_is_zero_the_smooth_gradient_is_the_true_one() -> None:
    assert slope_at(POINTS, 0.0, smooth(0.1)).tolist() == slope_at(POINTS, 0.0, TRUE).tolist()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_a_positive_number(temperature: float) -> None:
    with pytest.raises(ValueError, match="must be a finite number > 0"):
        smooth(temperature)


def test_the_gradient_of_a_whole_model_is_that_of_finite_differences() -> None:
    copy = DifferentiableModel.from_onnx(DIGITS, dtype=torch.float64)
    x = torch.from_numpy(IMAGES[:2]).double() + 0.001  # no pixel on a Relu's corner
    assert torch.autograd.gradcheck(
        lambda x: copy(x, jumps=0.1)[:, :2], x.requires_grad_(), eps=1e-7, atol=1e-4, nondet_tol=0.0
    )


def test_element_types_become_the_one_that_is_computed_in() -> None:
    model = make_model([node("Relu", "x", "y")], [value("x", FLOAT, [2])], [value("y", FLOAT, [2])])
    assert DifferentiableModel.from_onnx(model, dtype=torch.float64)(torch.ones(2)).dtype == torch.float64


@pytest.mark.parametrize(
    "behind",
    [
        [],
        [node("Identity", "p", "shares")],
        [node("Flatten", "p", "shares")],
        [node("Cast", "p", "c", to=onnx.TensorProto.DOUBLE), node("Cast", "c", "shares", to=FLOAT)],
        [node("Unsqueeze", "p last", "u"), node("Dropout", "u", "d"), node("Squeeze", "d last", "shares")],
        [node("Reshape", "p size", "r"), node("Identity", "r", "shares")],
    ],
    ids=lambda behind: "-".join(node.op_type for node in behind) or "nothing",
)
def test_what_goes_into_a_softmax_at_the_end_is_what_forward_gives(behind: list[onnx.NodeProto]) -> None:
    """A saturated Softmax has no gradient to follow, and hides what a stronger attack would find."""
    model = onnx.load(DIGITS)
    constants = {"last": np.asarray([2]), "size": np.asarray([-1, 10])}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    model.graph.node.extend([node("Softmax", "logits", "p" if behind else "shares", axis=-1), *behind])
    model.graph.output[0].name = "shares"
    copy, plain = DifferentiableModel.from_onnx(model), DifferentiableModel.from_onnx(DIGITS)
    assert copy.softmax
    assert not plain.softmax
    x = torch.from_numpy(IMAGES)
    torch.testing.assert_close(copy(x), plain(x))
    torch.testing.assert_close(copy.outputs(x), torch.softmax(plain(x), -1))
    np.testing.assert_allclose(copy.outputs(x).detach().numpy(), run(model, {"image": IMAGES})[0], 1e-4, 1e-6)


def test_the_logarithm_of_a_softmax_at_the_end_is_left_out_too() -> None:
    model = onnx.load(DIGITS)
    tail = [
        node("Softmax", "logits", "p"),
        node("Identity", "p", "q"),
        node("Log", "q", "l"),
        node("Flatten", "l", "s"),
    ]
    model.graph.node.extend(tail)
    model.graph.output[0].name = "s"
    copy, plain, x = (
        DifferentiableModel.from_onnx(model),
        DifferentiableModel.from_onnx(DIGITS),
        torch.from_numpy(IMAGES),
    )
    torch.testing.assert_close(copy(x), plain(x))
    torch.testing.assert_close(copy.outputs(x), torch.log_softmax(plain(x), -1), rtol=1e-4, atol=1e-4)


def test_a_softmax_over_planes_is_left_out_and_its_axis_is_kept_in_the_outputs() -> None:
    """[N, classes, 1, 1], Softmax over the classes, Flatten: as fully convolutional networks end."""
    nodes = [node("GlobalAveragePool", "x", "a"), node("Softmax", "a", "p", axis=1), node("Flatten", "p", "y")]
    model = make_model(nodes, [value("x", shape=["N", 3, 4, 4])], [value("y", shape=["N", 3])])
    x = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(np.float32)
    copy = DifferentiableModel.from_onnx(model)
    torch.testing.assert_close(copy(torch.from_numpy(x)), torch.from_numpy(x.mean((2, 3))))
    np.testing.assert_allclose(copy.outputs(torch.from_numpy(x)).numpy(), run(model, {"x": x})[0], 1e-5, 1e-6)
    assert copy(torch.from_numpy(x[:0])).shape == (0, 3)


def test_a_softmax_before_other_work_stays() -> None:
    """Attention, or a mixture: what is behind it is no copy of what goes into it."""
    nodes = [node("Softmax", "x", "p", axis=-1), node("Mul", "p p", "m"), node("Identity", "m", "y")]
    model = make_model(nodes, [value("x", shape=["N", 3])], [value("y", shape=["N", 3])])
    x = torch.randn(4, 3)
    torch.testing.assert_close(DifferentiableModel.from_onnx(model)(x), torch.softmax(x, -1) ** 2)
