"""The exported torch networks of models/ against torch itself with JumpReLU modules in place of its Relu."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from support import EACH_TARGET, MODELS, SHIPPED, TARGETS, Array, check, report_of, run

torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare the exported networks with")
nn: Any = torch.nn

sys.path.append(str(MODELS))
from networks import NETWORKS, DigitsNet  # noqa: E402 - behind the check that torch is there

#: Every file -> how many sites it has. The RNN of torchscript is one of its two.
FILES = {
    "mlp.dynamo": 2,
    "mlp.torchscript": 2,
    "residual.dynamo": 5,
    "residual.torchscript": 5,
    "controlflow.dynamo": 4,
    "controlflow.torchscript": 4,
    "nested.torchscript": 4,
    "scan.dynamo": 1,
    "functions.dynamo": 2,
    "functions.torchscript": 2,
    "half.dynamo": 2,
    "half.torchscript": 2,
    "rnn.dynamo": 6,
    "rnn.torchscript": 2,
    "relu6.dynamo": 1,
    "relu6.torchscript": 1,
}

EACH_FILE = pytest.mark.parametrize("file", FILES)


class JumpReLU(nn.Module):  # type: ignore[misc] # torch has no types where it is not installed
    """JumpReLU, which remembers how near to the jump the values came that it saw."""

    def __init__(self, jump: float) -> None:
        super().__init__()
        self.jump = jump
        self.margin = np.inf
        self.changed = 0

    def forward(self, x: Any) -> Any:
        self.margin = min(self.margin, float((x.double() - self.jump).abs().min()))
        self.changed += int(((x > 0) & (x <= self.jump)).sum())
        return torch.where(x <= self.jump, torch.zeros_like(x), x)


class LoopedRnn(nn.Module):  # type: ignore[misc]
    """nn.RNN with one layer, written out, since the Relu in it is no module."""

    def __init__(self, rnn: Any, relu: JumpReLU) -> None:
        super().__init__()
        self.rnn, self.relu = rnn, relu

    def forward(self, x: Any) -> Any:
        rnn = self.rnn
        h = torch.zeros(x.shape[1], rnn.hidden_size)
        states = []
        for step in x:
            entered = step @ rnn.weight_ih_l0.T + rnn.bias_ih_l0
            h = self.relu(entered + h @ rnn.weight_hh_l0.T + rnn.bias_hh_l0)
            states.append(h)
        return torch.stack(states), h


def with_jump(model: Any, jump: float, *, clip: bool = False) -> Any:
    """The network with JumpReLU for each ReLU, and, if asked for, behind each ReLU6."""
    for name, child in model.named_children():
        if isinstance(child, nn.ReLU):
            setattr(model, name, JumpReLU(jump))
        elif isinstance(child, nn.ReLU6) and clip:
            setattr(model, name, nn.Sequential(child, JumpReLU(jump)))
        elif isinstance(child, nn.RNN):
            setattr(model, name, LoopedRnn(child, JumpReLU(jump)))
        else:
            with_jump(child, jump, clip=clip)
    return model


def evaluate(build: Callable[[], Any], inputs: tuple[Any, ...], jump: float, clip: bool) -> tuple[Array, float, int]:
    """What torch gives; how near any value came to the jump; how many values are other than a Relu's."""
    model = with_jump(build(), jump, clip=clip)
    with torch.no_grad():
        y = model(*inputs).numpy()
    jumps = [module for module in model.modules() if isinstance(module, JumpReLU)]
    return y, min(module.margin for module in jumps), sum(module.changed for module in jumps)


def safe_jump(
    build: Callable[[], Any], inputs: tuple[Any, ...], *, dtype: Any = np.float32, clip: bool = False
) -> tuple[float, Array]:
    """A jump from which every value keeps away, and what torch gives for it.

    onnxruntime and torch add up in different orders, so that a value within a rounding error of the jump may be on
    either side of it. Of many jumps this takes the one whose nearest value is the farthest away.
    """
    candidates = [float(dtype(jump)) for jump in np.linspace(0.1, 0.5, 41)]
    results = {jump: evaluate(build, inputs, jump, clip) for jump in candidates}
    best = max(candidates, key=lambda jump: results[jump][1])
    y, margin, changed = results[best]
    assert margin > (2e-3 if dtype is np.float16 else 2e-5)
    assert changed, "the jump must matter"
    return best, y


def feeds_for(model: onnx.ModelProto, inputs: tuple[Any, ...]) -> dict[str, Array]:
    return {given.name: tensor.numpy() for given, tensor in zip(model.graph.input, inputs, strict=True)}


@cache
def torch_result(name: str, clip: bool) -> tuple[tuple[Any, ...], float, Array]:
    """Inputs for a network of models/, a jump for it, and what torch gives."""
    network = NETWORKS[name]
    inputs = network.inputs(batch=2, seed=5)
    dtype = np.float16 if network.dtype == torch.float16 else np.float32
    return (inputs, *safe_jump(network.build, inputs, dtype=dtype, clip=clip))


def compare(file: str, target: str, *, clip: bool) -> None:
    """Compare a hardened file of models/ with torch."""
    name = file.split(".")[0]
    inputs, jump, want = torch_result(name, clip)
    model = onnx.load(MODELS / f"{file}.onnx")
    report = report_of(model, jump, clip=clip, **TARGETS[target])
    assert report.model is not None
    assert len(report.sites) == FILES[file] + 2 * clip
    check(report.model)
    (got,) = run(report.model, feeds_for(model, inputs))
    np.testing.assert_allclose(got, want, rtol=NETWORKS[name].atol, atol=NETWORKS[name].atol)


@EACH_FILE
@EACH_TARGET
def test_a_hardened_network_gives_what_torch_gives_with_jump_relu_modules(file: str, target: str) -> None:
    compare(file, target, clip=False)


@pytest.mark.parametrize("file", ["relu6.dynamo", "relu6.torchscript"])
@EACH_TARGET
def test_relu6_is_converted_if_asked_for(file: str, target: str) -> None:
    compare(file, target, clip=True)


@EACH_FILE
@EACH_TARGET
def test_jump_zero_gives_what_the_original_gives(file: str, target: str) -> None:
    network = NETWORKS[file.split(".")[0]]
    model = onnx.load(MODELS / f"{file}.onnx")
    feeds = feeds_for(model, network.inputs(batch=3, seed=1))
    report = report_of(model, 0.0, clip=True, **TARGETS[target])
    assert report.model is not None
    for got, want in zip(run(report.model, feeds), run(model, feeds), strict=True):
        np.testing.assert_allclose(got, want, rtol=network.atol, atol=network.atol)


def test_every_file_of_models_is_tested() -> None:
    assert {path.name.removesuffix(".onnx") for path in SHIPPED} == {*FILES, "digits", "digits_robust"}


# --- the trained one --------------------------------------------------------------------------------------------------


def digits() -> tuple[onnx.ModelProto, Array, Array]:
    """The model, the images that it was not trained on, and what they show."""
    data = np.load(MODELS / "digits_test.npz")
    return onnx.load(MODELS / "digits.onnx"), data["x"], data["y"]


def digits_network() -> Any:
    """The torch network with the weights of the file."""
    model, _, _ = digits()
    weights = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    network = DigitsNet().eval()
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network


@cache
def safe_digits_jump() -> tuple[float, Array]:
    """A jump for the first images, and what torch gives for them."""
    _, x, _ = digits()
    return safe_jump(digits_network, (torch.from_numpy(x[:4]),))


@EACH_TARGET
def test_the_hardened_digits_network_gives_what_torch_gives(target: str) -> None:
    model, x, _ = digits()
    jump, want = safe_digits_jump()
    report = report_of(model, jump, **TARGETS[target])
    assert report.model is not None
    assert len(report.sites) == 4
    (got,) = run(report.model, {"image": x[:4]})
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def accuracy(model: onnx.ModelProto) -> float:
    _, x, y = digits()
    return float((run(model, {"image": x})[0].argmax(1) == y).mean())


@EACH_TARGET
def test_a_small_jump_costs_the_digits_network_little_and_a_large_one_costs_all(target: str) -> None:
    model, _, _ = digits()
    original = accuracy(model)
    assert original > 0.97
    by_jump = {}
    for jump in (0.0, 0.25, 100.0):
        report = report_of(model, jump, **TARGETS[target])
        assert report.model is not None
        by_jump[jump] = accuracy(report.model)
    assert by_jump[0.0] == original
    assert by_jump[0.25] > original - 0.05
    assert by_jump[100.0] < 0.2
