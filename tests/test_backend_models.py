"""Models that we did not write: all files of the backend tests in the onnx wheel, ResNet-50 and VGG-19 among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from support import (
    BACKEND_DATA,
    EACH_TARGET,
    FLOAT,
    TARGETS,
    Array,
    assert_same_but_for_the_sign_of_zero,
    check,
    evaluate,
    report_of,
    run,
    value,
    with_oracle,
    with_where,
)

from jr_onnx import JumpReluPolicy, ModelError, PolicyRule, find_sites
from jr_onnx.reference import jump_relu

FILES = sorted(BACKEND_DATA.rglob("*.onnx"))
LIGHT = [path for path in FILES if path.parent.name == "light"]
SMALL = [path for path in FILES if path.parent.name != "light"]

#: How exactly the backend tests compare.
RECORDED = {"rtol": 1e-3, "atol": 1e-7}


def name_of(path: Path) -> str:
    """The name of a model, for the ids of tests."""
    return path.stem if path.parent.name == "light" else path.parent.name


def test_all_of_them_are_here() -> None:
    assert len(FILES) >= 149
    assert {"light_resnet50", "light_densenet121", "light_vgg19", "light_inception_v1"} <= set(map(name_of, LIGHT))


# --- the small ones ---------------------------------------------------------------------------------------------------


def recorded(path: Path, kind: str, values: Sequence[onnx.ValueInfoProto]) -> list[Array]:
    """The inputs or the outputs that are recorded beside a model."""
    files = (path.parent / "test_data_set_0" / f"{kind}_{index}.pb" for index in range(len(values)))
    return [onnx.numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes())) for file in files]


def without_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without what jr-onnx says of itself."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [entry for entry in copy.metadata_props if not entry.key.startswith("jr_onnx.")]
    del copy.metadata_props[:]
    copy.metadata_props.extend(kept)
    return copy


def assert_as_recorded(path: Path, model: onnx.ModelProto) -> None:
    """Run a model with the recorded inputs, and compare with the recorded outputs."""
    names = [tensor.name for tensor in model.graph.initializer]
    inputs = [given for given in model.graph.input if given.name not in names]
    feeds = dict(zip([given.name for given in inputs], recorded(path, "input", inputs), strict=True))
    for got, want in zip(run(model, feeds), recorded(path, "output", model.graph.output), strict=True):
        np.testing.assert_allclose(got, want, **RECORDED)


@pytest.mark.parametrize("path", SMALL, ids=name_of)
def test_a_small_model_is_converted_or_refused_with_what_to_do(path: Path) -> None:
    model = onnx.load(path)
    relus = [item for item in model.graph.node if item.op_type == "Relu"]
    if model.opset_import[0].version < 7:
        with pytest.raises(ModelError, match=r"opset 6, supported are 7 and newer; .*version_converter"):
            report_of(model, 0.0, allow_empty=True)
        model = onnx.version_converter.convert_version(model, 9)
    if not relus:
        with pytest.raises(ModelError, match="no Relu"):
            report_of(model, 0.0)
    for options in TARGETS.values():
        report = report_of(model, 0.0, allow_empty=True, **options)
        assert report.model is not None
        assert len(report.sites) == len(relus)
        if not relus:
            # Nothing at all is changed, so there is nothing to run.
            assert without_metadata(report.model) == model
        else:
            assert_as_recorded(path, report.model)


@EACH_TARGET
@pytest.mark.parametrize("path", [p for p in SMALL if "relu" in name_of(p).lower().split("_")[1:]], ids=name_of)
def test_a_small_relu_with_a_jump_gives_what_numpy_gives(path: Path, target: str) -> None:
    model = onnx.load(path)
    if model.opset_import[0].version < 7:
        model = onnx.version_converter.convert_version(model, 9)
    (x,) = recorded(path, "input", model.graph.input)
    feeds = {model.graph.input[0].name: x}
    jump = float(np.float32(np.median(x[x > 0])))
    (want,) = evaluate(with_oracle(model, lambda _: np.float32(jump)), feeds)
    assert ((x > 0) & (want == 0)).any()
    report = report_of(model, jump, **TARGETS[target])
    assert report.model is not None
    check(report.model)
    assert_same_but_for_the_sign_of_zero(run(report.model, feeds)[0], want)


# --- the networks -----------------------------------------------------------------------------------------------------

#: The ReferenceEvaluator takes 10 to 40 seconds for each of these.
TOO_SLOW_FOR_NUMPY = {"light_inception_v1", "light_inception_v2", "light_vgg19"}

#: These are tested at a newer opset as well, where other forms are written.
RAISED = {"light_squeezenet": 17, "light_shufflenet": 17, "light_resnet50": 13}

NETWORKS = [*((path, None) for path in LIGHT), *((path, RAISED[path.stem]) for path in LIGHT if path.stem in RAISED)]


@dataclass(frozen=True)
class Network:
    """A network whose every Relu's output is an output as well, and what it gives.

    Attributes:
        path: its file.
        opset: to which it was raised, if it was.
        sites: the outputs of its Relus, in their order.
        original: value -> what the network gives for it.
        jumps: output of a Relu -> the jump it is tested with.
        inputs: output of a Relu -> what that Relu is given, with the jumps, in the ReferenceEvaluator.
        numpy: value -> what the ReferenceEvaluator gives for it with the jumps; empty where it is too slow.
        oracle: value -> what onnxruntime gives for it with the jumps and Where(x > jump, x, 0) for each Relu.
    """

    path: Path
    opset: int | None
    model: onnx.ModelProto
    feeds: dict[str, Array]
    sites: list[str]
    original: dict[str, Array]
    jumps: dict[str, float]
    inputs: dict[str, Array]
    numpy: dict[str, Array]
    oracle: dict[str, Array]

    @property
    def policy(self) -> JumpReluPolicy:
        """One rule for each Relu."""
        paths = {site.output: site.path for site in find_sites(self.model)}
        return JumpReluPolicy(None, tuple(PolicyRule(paths[name], jump) for name, jump in self.jumps.items()))


def outputs_of(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """All outputs in onnxruntime, by name."""
    return dict(zip([output.name for output in model.graph.output], run(model, feeds), strict=True))


def evaluated(path: Path, opset: int | None) -> Network:
    """The network of a file, and all that its conversions are compared with."""
    model = onnx.load(path)
    if opset is not None:
        model = onnx.version_converter.convert_version(model, opset)
    names = [tensor.name for tensor in model.graph.initializer]
    (given,) = (i for i in model.graph.input if i.name not in names)
    shape = [dim.dim_value for dim in given.type.tensor_type.shape.dim]
    size = int(np.prod(shape))
    # The input of the backend tests, for which the outputs are recorded.
    feeds = {given.name: (np.arange(size).reshape(shape) / size).astype(np.float32)}
    sites = [item.output[0] for item in model.graph.node if item.op_type == "Relu"]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sites)
    original = outputs_of(model, feeds)
    for output in model.graph.output:
        output.CopyFrom(value(output.name, FLOAT, original[output.name].shape))
    if path.stem in TOO_SLOW_FOR_NUMPY:
        jumps, inputs, numpy = {name: choose_jump(original[name]) for name in sites}, {}, {}
    else:
        jumps, inputs, numpy = evaluate_in_numpy(model, feeds)
    oracle = outputs_of(with_where(model, jumps.get), feeds)
    return Network(path, opset, model, feeds, sites, original, jumps, inputs, numpy, oracle)


@pytest.fixture(
    scope="module",
    params=NETWORKS,
    ids=lambda param: f"{param[0].stem}-{param[1] or 'as-it-is'}",
)
def network(request: pytest.FixtureRequest) -> Network:
    """Each network once; pytest runs all the tests of one before the next, so that only one is in memory."""
    return evaluated(*request.param)


def choose_jump(values: Array) -> float:
    """A jump among the smaller values, in the middle of their widest gap; below all of them where there is no gap."""
    distinct = np.unique(values[values > 0])
    if not distinct.size:
        return 1.0
    low, high = np.quantile(distinct, [0.02, 0.4])
    window = distinct[(distinct >= low) & (distinct <= high)]
    ratios = window[1:] / window[:-1]
    if not ratios.size or ratios.max() < 1.0005:
        return float(np.float32(distinct[0] / 2))
    widest = int(ratios.argmax())
    return float(np.float32((float(window[widest]) + float(window[widest + 1])) / 2))


class BatchNormalization(OpRun):
    """As the text of ONNX has it; at opset 9, ONNX's own evaluator mixes the batch's mean and variance in."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, **attributes: Any) -> tuple[Array]:
        scale, bias, mean, var = (v.reshape(-1, 1, 1) for v in (scale, bias, mean, var))
        return ((scale * (x - mean) / np.sqrt(var + attributes["epsilon"]) + bias).astype(x.dtype),)


class LRN(OpRun):
    """As the text of ONNX has it; ONNX's own evaluator adds up other channels."""

    op_domain = ""

    def _run(self, x: Array, alpha: float, beta: float, bias: float, size: int) -> tuple[Array]:
        squares = np.zeros_like(x)
        for channel in range(x.shape[1]):
            first, last = max(0, channel - (size - 1) // 2), channel + size // 2
            squares[:, channel] = (x[:, first : last + 1] ** 2).sum(axis=1)
        return ((x / (bias + alpha / size * squares) ** beta).astype(x.dtype),)


def evaluate_in_numpy(
    model: onnx.ModelProto, feeds: dict[str, Array]
) -> tuple[dict[str, float], dict[str, Array], dict[str, Array]]:
    """The network in the ReferenceEvaluator, with the NumPy definition for each Relu.

    Each jump is chosen when the values arrive that it is for: the activations of these networks, whose weights are
    mostly one constant, differ from layer to layer by many orders of magnitude.
    """
    jumps: dict[str, float] = {}
    inputs: dict[str, Array] = {}

    class ChoosingJumpRelu(OpRun):
        op_domain = "oracle"

        def _run(self, x: Array, site: str = "") -> tuple[Array]:
            jumps[site], inputs[site] = choose_jump(x), x
            return (jump_relu(x, np.float32(jumps[site])),)

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.opset_import.append(onnx.helper.make_opsetid("oracle", 1))
    for item in copy.graph.node:
        if item.op_type == "Relu":
            item.op_type, item.domain = "ChoosingJumpRelu", "oracle"
            item.attribute.append(onnx.helper.make_attribute("site", item.output[0]))
    new_ops = [ChoosingJumpRelu, BatchNormalization, LRN]
    results = ReferenceEvaluator(copy, new_ops=new_ops).run(None, feeds)
    outputs = dict(zip([output.name for output in copy.graph.output], results, strict=True))
    return jumps, inputs, outputs


def test_at_jump_zero_a_network_gives_what_it_gave(network: Network) -> None:
    # One target for each network: the tests of smaller models have all of them.
    target = list(TARGETS)[NETWORKS.index((network.path, network.opset)) % len(TARGETS)]
    report = report_of(network.model, 0.0, **TARGETS[target])
    assert report.model is not None
    assert len(report.sites) == len(network.sites)
    got = outputs_of(report.model, network.feeds)
    for name, want in network.original.items():
        # Not bit for bit: onnxruntime can put a Relu, but no JumpReLU, into the sum of a residual network.
        np.testing.assert_allclose(got[name], want, rtol=1e-4, atol=1e-5 * np.abs(want).max(), err_msg=name)
    data = network.path.with_name(f"{network.path.stem}_output_0.pb").read_bytes()
    recorded_output = onnx.numpy_helper.to_array(onnx.TensorProto.FromString(data))
    np.testing.assert_allclose(got[network.model.graph.output[0].name], recorded_output, **RECORDED)


@EACH_TARGET
def test_with_jumps_a_network_gives_what_an_independently_rewritten_one_gives(network: Network, target: str) -> None:
    report = report_of(network.model, None, policy=network.policy, **TARGETS[target])
    assert report.model is not None
    assert len(report.sites) == len(network.sites)
    check(report.model)
    got = outputs_of(report.model, network.feeds)
    for name, want in network.oracle.items():
        if target == "hard-sigmoid":
            # It stays in onnxruntime's blocked layout, where a convolution adds up in another order.
            np.testing.assert_allclose(got[name], want, rtol=1e-4, atol=1e-5 * np.abs(want).max(), err_msg=name)
        else:
            assert_same_but_for_the_sign_of_zero(got[name], want, name)


def test_the_independently_rewritten_one_gives_what_numpy_gives(network: Network) -> None:
    if not network.numpy:
        pytest.skip("ONNX's ReferenceEvaluator is too slow for this network")
    biting = 0
    for name in network.sites:
        x, jump = network.inputs[name], network.jumps[name]
        biting += bool(((x > 0) & (x <= jump)).any() and (x > jump).any())
        # onnxruntime adds up in another order: what is so near to the jump may be on either side of it.
        sure = np.abs(x - jump) > 1e-3 * jump
        want, got = network.numpy[name][sure], network.oracle[name][sure]
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max(), err_msg=name)
    # In some of them all values of a layer are the same.
    assert biting >= min(5, len(network.sites) // 2)
