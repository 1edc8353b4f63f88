"""JumpReLU of integers: what each form computes, bit for bit, and what onnxruntime still fuses around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized_models import (
    KINDS,
    LOWEST,
    MICROSOFT,
    all_integers,
    dequantized,
    fused,
    images,
    inputs_of,
    one_layer,
    quantized,
    run_with_kernels,
    saved,
)
from support import (
    EACH_TARGET,
    FLOAT,
    NONE,
    TARGETS,
    Array,
    assert_same_bits,
    check,
    evaluate,
    hardened,
    make_model,
    node,
    operators,
    report_of,
    run,
    value,
    without_the_way_back,
)

import jr_onnx
from jr_onnx import JumpReluPolicy, PolicyRule
from jr_onnx.conversion.quantization import INTEGER_TYPES, Quantization
from jr_onnx.errors import OptionError
from jr_onnx.reference import jump_relu, quantized_jump_relu

EACH_KIND = pytest.mark.parametrize(("activations", "form"), KINDS, ids=["-".join(kind) for kind in KINDS])
EACH_TYPE = pytest.mark.parametrize("dtype", LOWEST, ids=str)


def assert_jumps(model: onnx.ModelProto, x: Array, jump: Any) -> None:
    """Whether what comes out is JumpReLU of what goes in, in every way to run it."""
    wanted = jump_relu(x, np.asarray(jump, np.float32))
    runs = [run(model, {"x": x}), run(model, {"x": x}, NONE), run_with_kernels(model, {"x": x})]
    if model.opset_import[0].version >= 19:  # ONNX's evaluator knows no older DequantizeLinear, and no onnxruntime's
        runs.append(evaluate(model, {"x": x}))
    for (got,) in runs:
        assert_same_bits(got, wanted)


@EACH_TARGET
@EACH_TYPE
@pytest.mark.parametrize("opset", [17, 21])
def test_every_integer_becomes_what_its_number_does(dtype: Any, target: str, opset: int) -> None:
    scale, lowest = 0.03, LOWEST[dtype]
    model = one_layer(scale, dtype.type(lowest), (256, 1), opset)
    x = dequantized(all_integers(dtype), scale, lowest)
    x = np.concatenate([x[:128], x[-128:]]).reshape(256, 1)
    for jump in (0.0, 0.029, 0.03, 0.1, float(x[-2, 0]), float(x[-1, 0]), 1e30):
        hard = hardened(model, jump, **TARGETS[target])
        onnx.checker.check_model(hard)
        assert_jumps(hard, x, jump)


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(sorted(LOWEST, key=str)),
    scale=st.floats(2.0**-30, 2.0**20, width=32),
    jump=st.floats(0, 2.0**20),
    target=st.sampled_from(sorted(TARGETS)),
)
def test_whatever_the_scale_and_the_jump(dtype: Any, scale: float, jump: float, target: str) -> None:
    lowest = LOWEST[dtype]
    hard = hardened(one_layer(scale, dtype.type(lowest), (256, 1)), jump, **TARGETS[target])
    x = dequantized(np.linspace(lowest, np.iinfo(dtype).max, 256).round().astype(dtype), scale, lowest)
    (got,) = run(hard, {"x": x.reshape(256, 1)})
    assert_same_bits(got, jump_relu(x.reshape(256, 1), np.float32(jump)))


@settings(max_examples=200, deadline=None)
@given(
    element_type=st.sampled_from(sorted(INTEGER_TYPES)),
    scale=st.floats(2.0**-140, 2.0**100, width=32, exclude_min=True, allow_subnormal=True),
    zero=st.integers(0, 65535),
    jump=st.floats(0, 2.0**120, width=32, allow_subnormal=True),
)
def test_the_threshold_is_the_largest_integer_up_to_the_jump(
    element_type: int, scale: float, zero: int, jump: float
) -> None:
    """So that comparing integers gives the bits that comparing what they stand for does."""
    dtype = INTEGER_TYPES[element_type]
    zero_point = int(np.clip(zero + np.iinfo(dtype).min, np.iinfo(dtype).min, np.iinfo(dtype).max))
    quantization = Quantization(element_type, scale, zero_point, "s", "z", "")
    integers = all_integers(dtype)
    got = quantized_jump_relu(integers, quantization.threshold(jump), zero_point)
    with np.errstate(over="ignore"):
        numbers = [dequantized(one, scale, zero_point) for one in (integers, got)]
    assert_same_bits(numbers[1], jump_relu(numbers[0], np.float32(jump)))


@EACH_TARGET
@EACH_KIND
def test_what_onnxruntimes_quantizer_writes(activations: str, form: str, target: str) -> None:
    """Every site that the float network has, in every form the same bits, and hardened twice the same file."""
    model = quantized(activations, form)
    report = report_of(model, 0.1, **TARGETS[target])
    assert [site.path for site in report.sites] and len(report.sites) == 4
    hard = report.model
    assert hard is not None
    check(hard) if activations != "QUInt16" and form == "QDQ" else onnx.checker.check_model(hard)
    feeds = {"x": images()}
    wanted = run(hardened(model, 0.1, target="standard"), feeds)
    for got in (run(hard, feeds), run_with_kernels(hard, feeds)):
        assert_same_bits(got[0], wanted[0])
    for other in TARGETS.values():
        again = hardened(hardened(model, 0.7, **other), 0.1, **TARGETS[target])
        assert jr_onnx.revert(again).model == jr_onnx.revert(hard).model == model
        assert without_the_way_back(again) == without_the_way_back(hard)


@EACH_KIND
def test_jump_0_changes_nothing(activations: str, form: str) -> None:
    model, feeds = quantized(activations, form), {"x": images()}
    for options in TARGETS.values():
        assert_same_bits(run(hardened(model, 0.0, **options), feeds)[0], run(model, feeds)[0])


@EACH_TARGET
@EACH_KIND
@pytest.mark.parametrize("kernels", [True, False])
def test_what_onnxruntime_saves_is_known_again(activations: str, form: str, target: str, kernels: bool) -> None:
    """It moves Transposes, renames values, drops marks, makes uint8 of int8, and inlines the function."""
    model = quantized(activations, form)
    wanted = run(hardened(model, 0.4, target="standard"), {"x": images()})
    rewritten = saved(hardened(model, 0.1, **TARGETS[target]), kernels=kernels)
    report = report_of(rewritten, 0.4, **TARGETS[target])
    assert [site.quantized is not None for site in report.sites] == [True] * 4
    assert report.model is not None
    assert_same_bits(run_with_kernels(report.model, {"x": images()})[0], wanted[0])


@EACH_KIND
def test_what_onnxruntime_saves_of_the_original_can_be_hardened(activations: str, form: str) -> None:
    """With channels last written into it, JumpReLU needs no Transposes."""
    model = quantized(activations, form)
    report = report_of(saved(model), 0.1)
    assert len(report.sites) == 4 and report.model is not None
    wanted = run(hardened(model, 0.1, target="standard"), {"x": images()})
    assert_same_bits(run_with_kernels(report.model, {"x": images()})[0], wanted[0])
    if (activations, form) != ("QInt8", "QDQ"):
        assert {site.lowering for site in report.sites} == {"QuantizedJumpReLU"}


#: What onnxruntime computes on integers in `network`: as many as of the original must be left.
INTEGER_OPERATORS = ("QLinearConv", "QLinearAdd", "QGemm", "QLinearMatMul", "QLinearGlobalAveragePool")


@EACH_TARGET
@EACH_KIND
def test_onnxruntime_fuses_what_it_fused_before(activations: str, form: str, target: str) -> None:
    model = quantized(activations, form)
    hard = hardened(model, 0.1, **TARGETS[target])
    before = fused(model)
    for kernels in (False, True):
        after = fused(hard, kernels=kernels)
        for op_type in INTEGER_OPERATORS:
            assert after[op_type] >= before[op_type], (op_type, before, after)
        if activations != "QUInt16":  # those of a 16-bit model are around float convolutions
            assert after["Transpose"] <= before["Transpose"], (before, after)


def test_the_kernel_runs_alone_between_what_is_fused() -> None:
    """No pass over the values but its own: the Transposes around it meet those of the convolutions."""
    model = quantized("QUInt8", "QDQ")
    before, after = fused(model), fused(hardened(model, 0.1), kernels=True)
    assert after - before == {"QuantizedJumpReLU": 4}


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("rank", [3, 4, 5])
def test_so_it_does_behind_convolutions_of_any_rank(rank: int, form: str) -> None:
    model, feeds = quantized("QUInt8", form, rank), {"x": inputs_of(rank)}
    hard = hardened(model, 0.1)
    assert fused(hard, kernels=True) - fused(model) == {"QuantizedJumpReLU": 2}
    assert_same_bits(run_with_kernels(hard, feeds)[0], run(hardened(model, 0.1, target="standard"), feeds)[0])
    jumps = (0.0, 0.1, 0.2, 0.3)
    each = hardened(model, jumps)
    plain = hardened(model, jumps, target="standard")
    assert_same_bits(run_with_kernels(each, feeds)[0], run(plain, feeds)[0])
    assert not jr_onnx.check(model, each, jump=jumps).findings


def test_of_int8_between_quantizers_the_pair_stays() -> None:
    """On x64 onnxruntime fuses it only with DequantizeLinear right behind QuantizeLinear."""
    report = report_of(quantized("QInt8", "QDQ"), 0.1)
    assert {site.lowering for site in report.sites} == {"ThresholdedRelu between DequantizeLinear and QuantizeLinear"}
    assert "right behind QuantizeLinear" in report.sites[0].reason
    report = report_of(quantized("QInt8", "QOperator"), 0.1)
    assert report.sites[0].lowering == "QuantizedJumpReLU, channels last"


def test_the_report_says_what_becomes_of_the_jump() -> None:
    """Jump 0.1 at scale 0.03 is 0.09."""
    (site,) = report_of(one_layer(0.03, np.uint8(0)), 0.1).sites
    assert site.element_type == "uint8" and site.jump == np.float32(0.1)
    assert site.quantized is not None
    assert (site.quantized.zero_point, site.quantized.threshold) == (0, 3)
    assert site.quantized.jump == float(np.float32(3) * np.float32(0.03))
    assert any("rounded before" in note for note in report_of(one_layer(0.03, np.uint8(0)), 0.1).notes)
    (node_before,) = jr_onnx.inspect(one_layer(0.03, np.int8(-128))).nodes
    assert node_before.quantized is not None and node_before.quantized.zero_point == -128
    assert node_before.quantized.threshold is None
    (node_after,) = jr_onnx.inspect(hardened(one_layer(0.03, np.uint8(0)), 0.1)).nodes
    assert node_after.jump == float(np.float32(3) * np.float32(0.03))
    assert node_after.quantized == site.quantized


@EACH_TARGET
@EACH_KIND
def test_the_jump_as_an_input(activations: str, form: str, target: str) -> None:
    model = quantized(activations, form)
    hard = hardened(model, 0.1, jump_input="jump", **TARGETS[target])
    feeds = {"x": images()}
    assert_same_bits(run(hard, feeds)[0], run(hardened(model, 0.1, target="standard"), feeds)[0])
    given = run(hard, {**feeds, "jump": np.asarray(0.4, np.float32)})
    assert_same_bits(given[0], run(hardened(model, 0.4, target="standard"), feeds)[0])


@EACH_TARGET
@EACH_KIND
def test_one_jump_a_channel(activations: str, form: str, target: str) -> None:
    jumps = tuple(np.linspace(0, 0.9, 16))
    model = quantized(activations, form)
    first = next(site.path for site in report_of(model, 0.1).sites)
    policy = JumpReluPolicy(0.1, (PolicyRule(first, jumps),))
    hard = hardened(model, None, policy=policy, **TARGETS[target])
    plain = hardened(model, 0.1, target="standard")
    quantizer = next(
        op for op in plain.graph.node if op.op_type in ("QuantizeLinear", "QLinearConv") and op.name == first
    )
    exposed = [onnx.ModelProto.FromString(one.SerializeToString()) for one in (plain, hard)]
    name = quantizer.output[0].removesuffix("/rectified")
    element_type = {"QUInt8": 2, "QInt8": 3, "QUInt16": 4}[activations]
    for one in exposed:
        one.graph.output.append(value(f"{name}/rectified", element_type))
        one.graph.output.append(value(name, element_type))
    _, before, _ = run(exposed[0], {"x": images()}, NONE)
    _, same, after = run(exposed[1], {"x": images()}, NONE)
    assert_same_bits(same, before)
    (site,) = (one for one in report_of(model, None, policy=policy, **TARGETS[target]).sites if one.path == first)
    assert site.quantized is not None and isinstance(site.quantized.threshold, tuple)
    thresholds = np.asarray(site.quantized.threshold, before.dtype).reshape(16, 1, 1)
    assert_same_bits(after, quantized_jump_relu(before, thresholds, site.quantized.zero_point))


def test_jumps_that_fit_no_channels_are_an_error() -> None:
    with pytest.raises(OptionError, match="3 jumps, but the value has 16 channels"):
        hardened(quantized("QUInt8", "QDQ"), (0.1, 0.2, 0.3))


def qat(zero_point: Any, *, clip: bool = False) -> onnx.ModelProto:
    """What training with quantization exports: the Relu, or Clip, is still there, between layer and quantizer."""
    dtype = np.asarray(zero_point).dtype.type
    activation = node("Clip", "c none six", "r", "relu") if clip else node("Relu", "c", "r", "relu")
    nodes = [
        node("QuantizeLinear", "x scale zero", "xq"),
        node("DequantizeLinear", "xq scale zero", "xd"),
        node("DequantizeLinear", "w scale w_zero", "wd"),
        node("Conv", "xd wd", "c", "conv"),
        activation,
        node("QuantizeLinear", "r scale zero", "q", "quantize"),
        node("DequantizeLinear", "q scale zero", "y"),
    ]
    tensors = {
        "w": np.full((2, 3, 1, 1), 9, np.int8),
        "w_zero": np.int8(0),
        "scale": np.float32(0.05),
        "zero": dtype(zero_point),
        "none": np.float32(0),
        "six": np.float32(6),
    }
    ends = [value("x", FLOAT, [1, 3, 8, 8])], [value("y", FLOAT, [1, 2, 8, 8])]
    return make_model(nodes, *ends, initializers=tensors, opset=17)


@EACH_TARGET
@pytest.mark.parametrize("zero_point", [np.uint8(0), np.int8(-128), np.int8(0), np.uint8(128)], ids=repr)
def test_a_relu_in_front_of_its_quantizer_keeps_its_name_and_its_place(zero_point: Any, target: str) -> None:
    model = qat(zero_point)
    report = report_of(model, 0.2, **TARGETS[target])
    (site,) = report.sites
    assert (site.path, site.op_type, site.element_type) == ("relu", "Relu", str(zero_point.dtype))
    hard = report.model
    assert hard is not None and "Relu" in operators(hard)[: operators(hard).index("QuantizeLinear") + 5]
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    (before,) = run(model, {"x": x}, NONE)
    assert_same_bits(run(hard, {"x": x}, NONE)[0], jump_relu(before, np.float32(0.2)))
    assert hardened(hardened(model, 0.7, **TARGETS[target]), 0.2, **TARGETS[target]) == hard
    assert fused(hard)["QLinearConv"] == fused(model)["QLinearConv"]


def test_a_clip_in_front_of_its_quantizer_is_converted_if_asked_for() -> None:
    model = qat(np.uint8(0), clip=True)
    assert not report_of(model, 0.2, allow_empty=True).sites
    (site,) = report_of(model, 0.2, clip=True).sites
    assert (site.path, site.element_type) == ("relu", "uint8")
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    got = run(hardened(model, 0.2, clip=True), {"x": x}, NONE)[0]
    assert_same_bits(got, jump_relu(run(model, {"x": x}, NONE)[0], np.float32(0.2)))


def test_a_relu_of_what_is_dequantized_is_one_of_numbers() -> None:
    nodes = [
        node("QuantizeLinear", "x scale zero", "q"),
        node("DequantizeLinear", "q scale zero", "d"),
        node("Relu", "d", "r", "relu"),
        node("QuantizeLinear", "r scale zero", "rq"),
        node("DequantizeLinear", "rq scale zero", "y"),
    ]
    tensors = {"scale": np.float32(0.1), "zero": np.uint8(128)}
    model = make_model(nodes, [value("x", FLOAT, [9])], [value("y", FLOAT, [9])], initializers=tensors)
    (site,) = report_of(model, 0.2).sites
    assert (site.path, site.element_type, site.quantized) == ("relu", "float", None)


def test_every_taker_of_a_shared_quantizer_gets_the_new_values() -> None:
    model = one_layer(0.05, np.uint8(0), (256, 1))
    model.graph.node.append(node("DequantizeLinear", "q scale zero", "z", "second"))
    model.graph.output.append(value("z", FLOAT, [256, 1]))
    model.graph.output.append(value("q", int(onnx.TensorProto.UINT8), [256, 1]))
    x = dequantized(all_integers(np.uint8), 0.05, 0).reshape(256, 1)
    for options in TARGETS.values():
        y, z, q = run(hardened(model, 0.3, **options), {"x": x})
        assert_same_bits(y, jump_relu(x, np.float32(0.3)))
        assert_same_bits(z, y)
        assert_same_bits(dequantized(q, 0.05, 0), y)


LEFT_ALONE = {
    "a scale of 0": (np.float32(0), "its scale is 0"),
    "a negative scale": (np.float32(-0.1), "its scale is -0.1"),
    "a scale that is no number": (np.float32(np.nan), "its scale is nan"),
    "an infinite scale": (np.float32(np.inf), "its scale is inf"),
    "a scale that leads to infinity": (np.float32(1e38), "some integers stand for infinity"),
    "one scale a channel": (np.full(4, 0.1, np.float32), "one scale a channel"),
    "a scale of float16": (np.float16(0.1), "uint8 with a scale of float16"),
}


@pytest.mark.parametrize("kind", LEFT_ALONE)
def test_scales_that_do_not_fit_are_left_alone_with_the_reason(kind: str) -> None:
    model = one_layer(0.1, np.uint8(0))
    scale, reason = LEFT_ALONE[kind]
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.asarray(scale), "scale"))
    (left,) = report_of(model, 0.2, allow_empty=True).left_alone
    assert (left.path, reason in left.reason) == ("quantize", True), left.reason


@pytest.mark.parametrize("name", ["scale", "zero"])
def test_what_is_computed_or_may_be_overridden_is_left_alone(name: str) -> None:
    model = one_layer(0.1, np.uint8(0))
    kind = FLOAT if name == "scale" else int(onnx.TensorProto.UINT8)
    model.graph.input.append(value(name, kind, []))
    (left,) = report_of(model, 0.2, allow_empty=True).left_alone
    assert "is no constant" in left.reason


def test_types_of_other_widths_are_left_alone() -> None:
    model = one_layer(0.1, np.uint8(0), opset=21)
    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.UINT4, [], [0])
    model.graph.initializer[2].CopyFrom(zero)
    (left,) = report_of(model, 0.2, allow_empty=True).left_alone
    assert "uint4" in left.reason


@pytest.mark.parametrize("output_dtype", [None, onnx.TensorProto.UINT8, onnx.TensorProto.UINT16])
def test_without_a_zero_point_the_integers_are_uint8_or_what_the_node_says_from_0_on(output_dtype: int | None) -> None:
    model = one_layer(0.03, np.uint8(0), (256, 1))
    for op in model.graph.node[1:]:
        del op.input[2:]
    if output_dtype is not None:
        model.graph.node[1].attribute.append(onnx.helper.make_attribute("output_dtype", int(output_dtype)))
    dtype = INTEGER_TYPES[output_dtype or onnx.TensorProto.UINT8]
    x = dequantized(all_integers(dtype)[-256:], 0.03, 0).reshape(256, 1)
    x[:6, 0] = dequantized(np.arange(6), 0.03, 0)
    for options in (*TARGETS.values(), {"jump_input": "jump"}):
        hard = hardened(model, 0.1, **options)
        assert_jumps(hard, x, 0.1)
        assert hardened(hardened(model, 0.5, **options), 0.1, **options) == hard


def test_a_quantizer_in_a_function_and_in_a_branch() -> None:
    model = one_layer(0.03, np.uint8(0), (256, 1))
    tensors = [node("Constant", "", t.name, value=t) for t in model.graph.initializer]
    body = onnx.helper.make_function("f", "Layer", ["x"], ["y"], [*tensors, *model.graph.node], model.opset_import)
    call = make_model(
        [node("Layer", "x", "y", "call", domain="f")],
        [value("x", FLOAT, [256, 1])],
        [value("y", FLOAT, [256, 1])],
        functions=[body],
        opset=21,
        ir_version=10,
        domains=["f", MICROSOFT],
    )
    x = dequantized(all_integers(np.uint8), 0.03, 0).reshape(256, 1)
    for options in TARGETS.values():
        hard = hardened(call, 0.1, **options)
        assert_same_bits(run(hard, {"x": x})[0], jump_relu(x, np.float32(0.1)))
        assert hardened(hardened(call, 0.5, **options), 0.1, **options) == hard
