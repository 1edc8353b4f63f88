"""Models that onnxruntime itself saved: the Relu is inside FusedConv, FusedGemm and nchwc.Conv."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from support import (
    BASIC,
    EACH_TARGET,
    FLOAT,
    NONE,
    TARGETS,
    Array,
    evaluate,
    hardened,
    make_model,
    node,
    report_of,
    run,
    value,
    with_oracle,
)

from jr_onnx import ModelError, OptionError, find_sites, inspect
from jr_onnx.conversion.sites.matchers import SiteKind

LEVELS = {
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

EACH_LEVEL = pytest.mark.parametrize("level", LEVELS)

JUMP = 0.25

X, Y = value("x", FLOAT, [2, 4]), value("y", FLOAT, [2, 4])

#: Convolutions may add up in another order once they are fused or blocked; the numbers are of the size of 1.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@cache
def network(activation: str = "Relu", channels: int = 16) -> onnx.ModelProto:
    """Convolutions, one of them with a residual behind it, a pool, and two matrix products."""
    generator = np.random.default_rng(11)
    tensors: dict[str, Array] = {"low": np.float32(0), "high": np.float32(1)}

    def draw(name: str, *shape: int) -> None:
        scale = 1.0 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.25
        tensors[name] = (generator.normal(0, 1, shape) * scale).astype(np.float32)

    for name, before in (("1", 3), ("2", channels), ("3", channels)):
        draw(f"w{name}", channels, before, 3, 3)
        draw(f"b{name}", channels)
    draw("w4", 24, channels)
    draw("b4", 24)
    draw("w5", 4, 24)
    draw("b5", 4)

    def act(x: str, y: str, name: str) -> onnx.NodeProto:
        return node("Relu", x, y, name) if activation == "Relu" else node("Clip", f"{x} low high", y, name)

    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", "x w1 b1", "c1", "conv1", **same),
        act("c1", "r1", "relu1"),
        node("Conv", "r1 w2 b2", "c2", "conv2", **same),
        act("c2", "r2", "relu2"),
        node("Conv", "r2 w3 b3", "c3", "conv3", **same),
        node("Add", "c3 r1", "sum", "add"),
        act("sum", "r3", "relu3"),
        node("MaxPool", "r3", "pooled", "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", "pooled", "mean", "mean"),
        node("Flatten", "mean", "flat", "flatten"),
        node("Gemm", "flat w4 b4", "h", "fc1", transB=1),
        act("h", "r4", "relu4"),
        node("Gemm", "r4 w5 b5", "y", "fc2", transB=1),
    ]
    x, y = value("x", FLOAT, [1, 3, 16, 16]), value("y", FLOAT, [1, 4])
    return make_model(nodes, [x], [y], opset=13, initializers=tensors)


@pytest.fixture(scope="session")
def optimized(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(level, activation, channels) -> the network as onnxruntime saves it."""
    folder: Path = tmp_path_factory.mktemp("optimized")

    @cache
    def save(level: str, activation: str = "Relu", channels: int = 16) -> onnx.ModelProto:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = LEVELS[level]
        options.optimized_model_filepath = str(folder / f"{level}.{activation}.{channels}.onnx")
        options.log_severity_level = 3  # that a model for this machine alone is saved is what is wanted here
        serialized = network(activation, channels).SerializeToString()
        onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)

    return save


def picture() -> Array:
    """An input."""
    return np.random.default_rng(5).normal(0, 1, (1, 3, 16, 16)).astype(np.float32)


def expected(jump: float, activation: str = "Relu", channels: int = 16) -> Array:
    """What the unfused network gives with the NumPy definition for each Relu; behind each Clip."""
    model = network(activation, channels)
    if activation == "Clip":
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        del copy.graph.node[:]
        for item in model.graph.node:
            if item.op_type == "Clip":
                inner = f"{item.output[0]}/clipped"
                copy.graph.node.extend([node("Clip", " ".join(item.input), inner), node("Relu", inner, item.output[0])])
            else:
                copy.graph.node.append(item)
        model = copy
    (y,) = evaluate(with_oracle(model, lambda _: np.float32(jump)), {"x": picture()})
    return y


def test_onnxruntime_fuses_the_relu_as_these_tests_suppose(optimized: Any) -> None:
    extended = {(n.domain, n.op_type) for n in optimized("extended").graph.node}
    assert {("com.microsoft", "FusedConv"), ("com.microsoft", "FusedGemm")} <= extended
    blocked = {(n.domain, n.op_type) for n in optimized("all").graph.node}
    if ("com.microsoft.nchwc", "Conv") not in blocked:
        pytest.skip("onnxruntime has no blocked convolution for this processor")


@EACH_TARGET
@EACH_LEVEL
@pytest.mark.parametrize("run_level", [NONE, BASIC, None], ids=["none", "basic", "everything"])
def test_jump_relu_goes_behind_fused_operators(optimized: Any, level: str, target: str, run_level: Any) -> None:
    result = hardened(optimized(level), JUMP, **TARGETS[target])
    want = expected(JUMP)
    assert np.abs(want - expected(0)).max() > 0.01  # the jump matters
    np.testing.assert_allclose(run(result, {"x": picture()}, run_level)[0], want, **CLOSE)


@EACH_TARGET
@EACH_LEVEL
def test_jump_zero_gives_what_the_original_gives(optimized: Any, level: str, target: str) -> None:
    result = hardened(optimized(level), 0.0, **TARGETS[target])
    (want,) = run(network(), {"x": picture()})
    np.testing.assert_allclose(run(result, {"x": picture()}, BASIC)[0], want, **CLOSE)


@EACH_TARGET
def test_channels_that_do_not_fill_a_block_are_no_obstacle(optimized: Any, target: str) -> None:
    # onnxruntime pads the blocks with zeros, and a jump keeps zeros.
    result = hardened(optimized("all", "Relu", 12), JUMP, **TARGETS[target])
    np.testing.assert_allclose(run(result, {"x": picture()}, BASIC)[0], expected(JUMP, "Relu", 12), **CLOSE)


@EACH_TARGET
@EACH_LEVEL
def test_a_clip_inside_a_fused_operator_is_converted_if_asked_for(optimized: Any, level: str, target: str) -> None:
    model = optimized(level, "Clip")
    assert {site.kind for site in find_sites(model)} == {SiteKind.CLIP}
    result = hardened(model, JUMP, clip=True, **TARGETS[target])
    want = expected(JUMP, "Clip")
    assert np.abs(want - run(model, {"x": picture()}, BASIC)[0]).max() > 0.01
    np.testing.assert_allclose(run(result, {"x": picture()}, BASIC)[0], want, **CLOSE)


@EACH_LEVEL
def test_a_clip_inside_a_fused_operator_is_left_alone_otherwise(optimized: Any, level: str) -> None:
    report = report_of(optimized(level, "Clip"), JUMP, allow_empty=True)
    assert not report.sites
    assert {left.reason for left in report.left_alone} == {"a Clip is converted with `clip=True` only"}


@EACH_TARGET
@EACH_LEVEL
def test_converting_again_replaces_the_jump_behind_fused_operators(optimized: Any, level: str, target: str) -> None:
    once = hardened(optimized(level), 0.75, **TARGETS[target])
    report = report_of(once, JUMP, **TARGETS[target])
    assert report.model is not None
    assert len(report.sites) == 4
    assert not report.left_alone
    assert len(report.model.graph.node) == len(once.graph.node)
    np.testing.assert_allclose(run(report.model, {"x": picture()}, BASIC)[0], expected(JUMP), **CLOSE)


def test_what_stands_behind_a_fused_relu_needs_no_relu_of_its_own(optimized: Any) -> None:
    result = hardened(optimized("all"), JUMP, target="subgraph")
    assert "Relu" not in [item.op_type for item in result.graph.node if item.domain == ""]


def test_the_fused_node_keeps_its_name_and_gives_a_new_value(optimized: Any) -> None:
    before = optimized("extended").graph
    after = hardened(optimized("extended"), JUMP).graph
    fused_before = [n for n in before.node if n.op_type == "FusedConv"]
    fused_after = [n for n in after.node if n.op_type == "FusedConv"]
    assert [n.name for n in fused_after] == [n.name for n in fused_before]
    assert [n.attribute for n in fused_after] == [n.attribute for n in fused_before]
    consumed = {n.output[0] for n in after.node if n.op_type == "JumpReLU"}
    assert {n.output[0] for n in fused_before} <= consumed
    assert not {n.output[0] for n in fused_after} & consumed


def test_one_jump_a_channel_fits_a_fused_convolution(optimized: Any) -> None:
    model = optimized("extended")
    jumps = tuple(np.linspace(0, 1, 16))
    first = next(n.name for n in model.graph.node if n.op_type == "FusedConv")
    result = hardened(model, jumps, include=[first])
    tensors = {"r1": np.asarray(jumps, np.float32).reshape(16, 1, 1)}
    (want,) = evaluate(with_oracle(network(), tensors.get), {"x": picture()})
    np.testing.assert_allclose(run(result, {"x": picture()}, BASIC)[0], want, **CLOSE)


def test_one_jump_a_channel_does_not_fit_a_blocked_layout(optimized: Any) -> None:
    model = optimized("all")
    blocked = [n.name for n in model.graph.node if n.domain == "com.microsoft.nchwc" and n.op_type == "Conv"]
    if not blocked:
        pytest.skip("onnxruntime has no blocked convolution for this processor")
    with pytest.raises(OptionError, match="blocked layout"):
        report_of(model, tuple(np.linspace(0, 1, 16)), include=blocked[:1])


def test_a_fused_operator_with_another_activation_is_no_site() -> None:
    fused = node("FusedGemm", "x w", "y", domain="com.microsoft", activation="LeakyRelu", activation_alpha=0.1)
    model = make_model(
        [fused],
        [value("x", FLOAT, [2, 3])],
        [value("y", FLOAT, [2, 5])],
        initializers={"w": np.ones((3, 5), np.float32)},
        domains=["com.microsoft"],
    )
    assert not find_sites(model)


def test_a_fused_threshold_is_listed() -> None:
    """onnxruntime fuses ThresholdedRelu into a Gemm before it, so a hardened model may have one."""
    gemm = node("FusedGemm", "x w", "y", domain="com.microsoft", activation="ThresholdedRelu", activation_alpha=0.5)
    tensors = {"w": np.eye(4, dtype=np.float32)}
    model = make_model([gemm], [X], [Y], domains=["com.microsoft"], initializers=tensors)
    (found,) = inspect(model).nodes
    assert not found.converted
    assert "a fused ThresholdedRelu" in found.how


def test_a_model_in_which_a_jump_relu_was_fused_is_not_converted_again(tmp_path: Path) -> None:
    """onnxruntime puts the ThresholdedRelu behind a Gemm into it: that one would keep the old jump."""
    nodes = [node("Gemm", "x w", "h"), node("Relu", "h", "r"), node("Add", "r b", "s"), node("Relu", "s", "y")]
    tensors = {"w": np.eye(4, dtype=np.float32), "b": np.ones(4, np.float32)}
    once = hardened(make_model(nodes, [X], [Y], initializers=tensors), target="standard")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS["extended"]
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(once.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fused = onnx.load(options.optimized_model_filepath)
    assert [item.op_type for item in fused.graph.node] == ["FusedGemm", "Add", "ThresholdedRelu"]
    text = r"hardened \(2 sites\), but only 1 of the JumpReLUs can be found in it"
    with pytest.raises(ModelError, match=text):
        report_of(fused, JUMP, target="standard")
    assert not any(found.converted for found in inspect(fused).nodes)
