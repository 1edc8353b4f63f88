"""A rectifier that stays one beside those that are hardened: neither takes the other's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optimized import CHANNELS, Net, images

import jr_onnx

CPU = ["CPUExecutionProvider"]
LEVELS = ("basic", "extended", "all")


def assert_same(original: Path, level: str, **options: Any) -> jr_onnx.OptimizationReport:
    """The optimised form gives what the hardened one gives; `options` are those of `jr_onnx.convert`."""
    hard, fast = original.with_suffix(".hard.onnx"), original.with_suffix(".fast.onnx")
    jr_onnx.convert(original, output=hard, **options)
    report = jr_onnx.optimize(hard, output=fast, level=level)  # type: ignore[arg-type]
    slow, quick = (jr_onnx.session(path, providers=CPU).run(None, {"x": images()}) for path in (hard, fast))
    for expected, got in zip(slow, quick, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)
    return report


def scale(net: Net, x: str, shape: tuple[int, ...] = (1, CHANNELS, 1, 1)) -> str:
    return net.node("Mul", x, net.constant(np.full(shape, 0.7)))


def clip(net: Net, x: str) -> str:
    return net.node("Clip", x, net.constant(0.0), net.constant(6.0))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("plain", [0, 1])
def test_two_relus_of_one_value_of_which_one_stays(tmp_path: Path, level: str, plain: int) -> None:
    net = Net()
    c = net.conv("x")
    relus = [net.relu(c), net.relu(c)]
    path = net.save(tmp_path / "net.onnx", net.node("Sub", net.conv(relus[0]), net.conv(relus[1])))
    assert_same(path, level, jump=0.5, exclude=[f"node_{relus[plain]}"])


@pytest.mark.parametrize("level", LEVELS)
def test_two_convolutions_of_the_same_weights_and_input(tmp_path: Path, level: str) -> None:
    net = Net()
    convs = [net.conv("x")]
    convs.append(net.node("Conv", *net.nodes[0].input, pads=[1, 1, 1, 1]))
    relus = [net.relu(c) for c in convs]
    path = net.save(tmp_path / "net.onnx", net.node("Sub", net.conv(relus[0]), net.conv(relus[1])))
    assert_same(path, level, jump=0.5, exclude=[f"node_{relus[0]}"])


@pytest.mark.parametrize("target", ["subgraph", "standard", "hard-sigmoid", "custom-op"])
@pytest.mark.parametrize("per_channel", [0, 1])
def test_one_jump_a_channel_beside_one_jump_for_all(tmp_path: Path, target: str, per_channel: int) -> None:
    net = Net()
    c = net.conv("x")
    relus = [net.relu(c), net.relu(c)]
    path = net.save(tmp_path / "net.onnx", net.node("Sub", net.conv(relus[0]), net.conv(relus[1])))
    jumps: list[Any] = [0.4, 0.4]
    jumps[per_channel] = tuple(np.linspace(0.2, 1, CHANNELS))
    rules = tuple(jr_onnx.PolicyRule(f"node_{name}", jump) for name, jump in zip(relus, jumps, strict=True))
    assert_same(path, "all", policy=jr_onnx.JumpReluPolicy(default=None, rules=rules), target=target)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("first", ["clip", "relu"])
@pytest.mark.parametrize("shape", [(1, CHANNELS, 1, 1), (CHANNELS, 1, 1), ()])
def test_a_rectifier_that_stays_is_not_led_through(
    tmp_path: Path, level: str, first: str, shape: tuple[int, ...]
) -> None:
    net = Net()
    plain = clip(net, net.conv("x")) if first == "clip" else net.relu(net.conv("x"))
    path = net.save(tmp_path / "net.onnx", net.conv(net.relu(scale(net, plain, shape))))
    assert_same(path, level, jump=0.5, exclude=[f"node_{plain}"])


@pytest.mark.parametrize("level", LEVELS)
def test_a_relu_that_is_folded_into_a_clip_behind_it(tmp_path: Path, level: str) -> None:
    net = Net()
    total = net.node("Add", clip(net, net.conv("x")), net.constant(np.full((1, CHANNELS, 1, 1), -0.3)))
    path = net.save(tmp_path / "net.onnx", net.conv(clip(net, net.relu(total))))
    assert_same(path, level, jump=0.5)


def test_values_whose_names_look_like_those_that_onnxruntime_makes(tmp_path: Path) -> None:
    net = Net()
    constant = net.constant(np.random.default_rng(1).standard_normal((1, CHANNELS, 12, 12)))
    h = net.conv(constant)
    folded = net.relu(h)
    plain = net.relu(net.conv("x"))
    y = net.conv(net.node("Add", plain, folded))
    for node in net.nodes:
        for names in (node.input, node.output):
            names[:] = [{h: "h", plain: "h_bn"}.get(name, name) for name in names]
    assert_same(net.save(tmp_path / "net.onnx", y), "all", jump=0.5, exclude=[f"node_{plain}"])
