"""An optimised model computes what the hardened one does, in the graph that onnxruntime makes of the original."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from optimized import CHANNELS, Net, around_jump_relus, images, jump_relus, residual_net, run

import jr_onnx
from jr_onnx.reference import jump_relu
from jr_onnx.runtime.optimization import relu_form

CPU = ["CPUExecutionProvider"]
MODELS = Path(__file__).parents[3] / "models"
#: float32 sums in another order: onnxruntime adds a residual before or after the sums of a convolution.
TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}


def bits(values: np.ndarray) -> np.ndarray:
    return values.view({4: np.uint32, 2: np.uint16, 8: np.uint64}[values.dtype.itemsize])


def optimized(path: Path, **options: object) -> Path:
    """Harden and optimise a model; `options` are those of `jr_onnx.convert`."""
    hard, fast = path.with_suffix(".hard.onnx"), path.with_suffix(".fast.onnx")
    jr_onnx.convert(path, output=hard, **options)  # type: ignore[arg-type]
    jr_onnx.optimize(hard, output=fast)
    return fast


def test_at_jump_0_the_bits_are_those_of_the_original(tmp_path: Path) -> None:
    original = residual_net(tmp_path / "net.onnx")
    fast = optimized(original, jump=0.0)
    expected = run(onnxruntime.InferenceSession(original, providers=CPU), images())
    np.testing.assert_array_equal(bits(run(jr_onnx.session(fast, providers=CPU), images())), bits(expected))


def test_the_bits_are_those_of_the_form_that_stays_in_the_blocked_layout_without_the_library(tmp_path: Path) -> None:
    original = residual_net(tmp_path / "net.onnx")
    fast = optimized(original, jump=0.3)
    jr_onnx.convert(original, jump=0.3, output=tmp_path / "gate.onnx", target="hard-sigmoid")
    expected = run(onnxruntime.InferenceSession(tmp_path / "gate.onnx", providers=CPU), images())
    np.testing.assert_allclose(run(jr_onnx.session(fast, providers=CPU), images()), expected, rtol=0, atol=0)


@pytest.mark.parametrize("level", ["basic", "extended", "all"])
def test_every_level_gives_the_hardened_models_values(tmp_path: Path, level: str) -> None:
    hard, fast = tmp_path / "hard.onnx", tmp_path / "fast.onnx"
    jr_onnx.convert(residual_net(tmp_path / "net.onnx"), jump=0.3, output=hard)
    report = jr_onnx.optimize(hard, output=fast, level=level)  # type: ignore[arg-type]
    assert (report.sites, report.left, len(jump_relus(fast))) == (4, {}, 4)
    expected = run(jr_onnx.session(hard, providers=CPU), images())
    np.testing.assert_allclose(run(jr_onnx.session(fast, providers=CPU), images()), expected, **TOLERANCE)
    np.testing.assert_allclose(
        run(jr_onnx.session(fast, providers=CPU, kernels=False), images()), expected, **TOLERANCE
    )


def test_every_jump_relu_is_exact_where_it_stands(tmp_path: Path) -> None:
    fast = optimized(residual_net(tmp_path / "net.onnx"), jump=0.3)
    x = images()
    x[0, 0, 3:5, 3:5] = [[np.inf, -np.inf], [np.nan, 1e30]]
    seen = around_jump_relus(fast, tmp_path, x)
    assert len(seen) == 4
    for before, after in seen.values():
        expected = jump_relu(before, 0.3)
        np.testing.assert_array_equal(bits(after)[~np.isnan(before)], bits(expected)[~np.isnan(before)])
        assert np.isnan(after[np.isnan(before)]).all()
        assert ((before > 0) & (after == 0)).any(), "no value was between 0 and the jump"


def test_it_keeps_the_originals_graph_and_adds_no_reorder(tmp_path: Path) -> None:
    original = residual_net(tmp_path / "net.onnx")
    fast = optimized(original, jump=0.3)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "original.ort.onnx")
    onnxruntime.InferenceSession(original, options, providers=CPU)

    def op_types(path: Path) -> Counter[str]:
        return Counter(node.op_type for node in onnx.load(path).graph.node)

    gained, lost = op_types(fast), op_types(Path(options.optimized_model_filepath))
    gained.subtract(lost)
    assert {op_type: number for op_type, number in gained.items() if number} == {"JumpReLU": 4, "Relu": -1}


def test_each_site_keeps_its_own_jump(tmp_path: Path) -> None:
    original = residual_net(tmp_path / "net.onnx")
    names = [node.name for node in onnx.load(original).graph.node if node.op_type == "Relu"]
    jumps = {name: 0.1 * number for number, name in enumerate(names, 1)}
    rules = tuple(jr_onnx.PolicyRule(name, jump) for name, jump in jumps.items())
    fast = optimized(original, policy=jr_onnx.JumpReluPolicy(default=None, rules=rules))
    for name, (before, after) in around_jump_relus(fast, tmp_path, images()).items():
        np.testing.assert_array_equal(after, jump_relu(before, jumps.pop(name)))
    assert not jumps


def test_a_relu_that_was_left_out_stays_one(tmp_path: Path) -> None:
    original = residual_net(tmp_path / "net.onnx")
    names = [node.name for node in onnx.load(original).graph.node if node.op_type == "Relu"]
    hard, fast = tmp_path / "hard.onnx", tmp_path / "fast.onnx"
    jr_onnx.convert(original, jump=0.3, output=hard, exclude=[names[1], names[2]])
    assert jr_onnx.optimize(hard, output=fast).sites == 2
    assert sorted(node.name for node in jump_relus(fast)) == sorted([names[0], names[3]])
    expected = run(jr_onnx.session(hard, providers=CPU), images())
    np.testing.assert_allclose(run(jr_onnx.session(fast, providers=CPU), images()), expected, **TOLERANCE)


@pytest.mark.parametrize("target", ["subgraph", "standard", "custom-op", "hard-sigmoid"])
def test_every_target_becomes_the_kernel(tmp_path: Path, target: str) -> None:
    fast = optimized(residual_net(tmp_path / "net.onnx"), jump=0.3, target=target)
    assert len(jump_relus(fast)) == 4


@pytest.mark.parametrize(
    "name", ["digits.onnx", "mlp.dynamo.onnx", "residual.torchscript.onnx", "residual.dynamo.onnx", "relu6.dynamo.onnx"]
)
def test_exported_models_give_the_hardened_models_values(tmp_path: Path, name: str) -> None:
    hard, fast = tmp_path / "hard.onnx", tmp_path / "fast.onnx"
    jr_onnx.convert(MODELS / name, jump=0.2, output=hard, clip=True)
    report = jr_onnx.optimize(hard, output=fast)
    assert not report.left
    slow, quick = (jr_onnx.session(path, providers=CPU) for path in (hard, fast))
    shape = [dim if isinstance(dim, int) else 3 for dim in slow.get_inputs()[0].shape]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(run(quick, x), run(slow, x), **TOLERANCE)


@pytest.mark.parametrize(
    "name",
    [
        "controlflow.dynamo.onnx",
        "nested.torchscript.onnx",
        "functions.dynamo.onnx",
        "functions.torchscript.onnx",
        "scan.dynamo.onnx",
        "rnn.dynamo.onnx",
        "half.dynamo.onnx",
    ],
)
def test_bodies_functions_and_half_precision_stay_right(tmp_path: Path, name: str) -> None:
    hard, fast = tmp_path / "hard.onnx", tmp_path / "fast.onnx"
    sites = len(jr_onnx.convert(MODELS / name, jump=0.2, output=hard).sites)
    assert jr_onnx.optimize(hard, output=fast).sites == sites
    slow, quick = (jr_onnx.session(path, providers=CPU) for path in (hard, fast))
    feeds = {}
    for one in slow.get_inputs():
        shape = [dim if isinstance(dim, int) else 3 for dim in one.shape]
        kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}[one.type]
        feeds[one.name] = np.asarray(np.random.default_rng(0).standard_normal(shape) * 2).astype(kind)
    for got, expected in zip(quick.run(None, feeds), slow.run(None, feeds), strict=True):
        np.testing.assert_allclose(got, expected, **TOLERANCE)


def test_one_jump_a_channel_stays_as_it_is(tmp_path: Path) -> None:
    net = Net()
    original = net.save(tmp_path / "net.onnx", net.conv(net.relu(net.conv(net.relu(net.conv("x"))))))
    first = onnx.load(original).graph.node[1].name
    jumps = tuple(np.linspace(0, 1, CHANNELS))
    policy = jr_onnx.JumpReluPolicy(default=0.3, rules=(jr_onnx.PolicyRule(first, jumps),))
    hard, fast = tmp_path / "hard.onnx", tmp_path / "fast.onnx"
    jr_onnx.convert(original, policy=policy, output=hard)
    report = jr_onnx.optimize(hard, output=fast)
    assert report.left == {first: "it has one jump a channel"}
    expected = run(jr_onnx.session(hard, providers=CPU), images())
    np.testing.assert_allclose(run(jr_onnx.session(fast, providers=CPU), images()), expected, **TOLERANCE)


@pytest.mark.parametrize("level", ["basic", "extended", "all"])
@pytest.mark.parametrize(
    "options", [{"jump": 0.3, "jump_input": "jump"}, {"policy": jr_onnx.JumpReluPolicy((0.3,) * CHANNELS)}], ids=str
)
def test_where_all_sites_stay_as_they_are_the_file_runs_without_the_library(
    tmp_path: Path, level: str, options: dict[str, object]
) -> None:
    hard, fast = tmp_path / "hard.onnx", tmp_path / "fast.onnx"
    jr_onnx.convert(residual_net(tmp_path / "net.onnx"), output=hard, **options)  # type: ignore[arg-type]
    assert len(jr_onnx.optimize(hard, output=fast, level=level).left) == 4  # type: ignore[arg-type]
    expected = run(onnxruntime.InferenceSession(hard, providers=CPU), images())
    np.testing.assert_allclose(run(onnxruntime.InferenceSession(fast, providers=CPU), images()), expected, **TOLERANCE)


def test_a_jump_that_is_an_input_stays_one(tmp_path: Path) -> None:
    fast = optimized(residual_net(tmp_path / "net.onnx"), jump=0.3, jump_input="jump")
    hard = tmp_path / "net.hard.onnx"
    sessions = [jr_onnx.session(path, providers=CPU) for path in (hard, fast)]
    for more in ({}, {"jump": np.array(1.5, np.float32)}):
        slow, quick = (session.run(None, {"x": images(), **more})[0] for session in sessions)
        np.testing.assert_allclose(quick, slow, **TOLERANCE)


def test_two_sites_that_onnxruntime_makes_one_stay_two(tmp_path: Path) -> None:
    net = Net()
    c = net.conv("x")
    a, b = net.relu(c), net.relu(c)
    original = net.save(tmp_path / "net.onnx", net.node("Concat", net.conv(a), net.conv(b), axis=1))
    rules = (jr_onnx.PolicyRule(f"node_{a}", 0.1), jr_onnx.PolicyRule(f"node_{b}", 1.0))
    fast = optimized(original, policy=jr_onnx.JumpReluPolicy(default=None, rules=rules))
    expected = run(jr_onnx.session(tmp_path / "net.hard.onnx", providers=CPU), images())
    np.testing.assert_allclose(run(jr_onnx.session(fast, providers=CPU), images()), expected, **TOLERANCE)


def test_double_stays_double(tmp_path: Path) -> None:
    net = Net(TensorProto.DOUBLE)
    x = net.relu(net.node("Mul", net.relu("x"), net.constant(np.full((1, CHANNELS, 1, 1), 1.5))))
    fast = optimized(net.save(tmp_path / "net.onnx", x), jump=0.3)
    x = images().astype(np.float64)
    expected = run(jr_onnx.session(tmp_path / "net.hard.onnx", providers=CPU), x)
    np.testing.assert_array_equal(bits(run(jr_onnx.session(fast, providers=CPU), x)), bits(expected))


def dense_net(path: Path) -> Path:
    """Weights and biases that no pass of onnxruntime rewrites."""
    net = Net()
    x = net.relu(net.node("Add", net.node("MatMul", "x", net.constant(np.eye(12))), net.constant(np.full(12, 0.1))))
    x = net.relu(net.conv(x))
    flat = net.node("Flatten", x)
    matrix = net.constant(np.random.default_rng(5).standard_normal((CHANNELS * 144, 8)))
    return net.save(path, net.relu(net.node("Gemm", flat, matrix, net.constant(np.arange(8) / 8))))


@pytest.mark.parametrize("network", [residual_net, dense_net])
@pytest.mark.parametrize("threshold", [None, 0, 64, 1024])
def test_weights_in_another_file_are_found_and_written_again(
    tmp_path: Path, network: Callable[[Path], Path], threshold: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = network(tmp_path / "net.onnx")
    if threshold is None:  # a large model that has no other file yet
        monkeypatch.setattr(relu_form, "_INLINE_LIMIT", 1)
    else:
        model = onnx.load(original)
        onnx.save(model, original, save_as_external_data=True, location="net.data", size_threshold=threshold)
    hard, fast = tmp_path / "hard.onnx", tmp_path / "elsewhere" / "fast.onnx"
    fast.parent.mkdir()
    jr_onnx.convert(original, jump=0.3, output=hard)
    jr_onnx.optimize(hard, output=fast)
    assert sorted(path.name for path in fast.parent.iterdir()) == ["fast.onnx", "fast.onnx.data"]
    expected = run(jr_onnx.session(hard, providers=CPU), images())
    np.testing.assert_allclose(run(jr_onnx.session(fast, providers=CPU), images()), expected, **TOLERANCE)


def test_initializers_that_are_inputs_in_an_old_model_stay_constants(tmp_path: Path) -> None:
    path = residual_net(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in model.graph.initializer
    )
    onnx.save(model, path)
    fast = optimized(path, jump=0.3, target="subgraph")
    assert [one.name for one in jr_onnx.session(fast, providers=CPU).get_inputs()] == ["x"]
    assert len(jump_relus(fast)) == 4
