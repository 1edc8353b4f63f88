"""Before an optimised model gets its name, it is run beside the hardened one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from optimized import CHANNELS, Net, images, jump_relus, residual_net

import jr_onnx
from jr_onnx.runtime.agreement import distance
from jr_onnx.runtime.optimization import optimize as module
from jr_onnx.runtime.optimization.jump_back import add_jump_relus

CPU = ["CPUExecutionProvider"]


@pytest.fixture
def hard(tmp_path: Path) -> Path:
    jr_onnx.convert(residual_net(tmp_path / "net.onnx"), jump=0.3, output=tmp_path / "hard.onnx")
    return tmp_path / "hard.onnx"


def test_a_jump_relu_in_the_wrong_place_is_found_and_nothing_is_written(
    hard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_short(model, sites, *others):  # type: ignore[no-untyped-def]
        first, *rest = sites
        return add_jump_relus(model, (dataclasses.replace(first, jump=first.jump * 0), *rest), *others)

    monkeypatch.setattr(module, "add_jump_relus", one_short)
    before = sorted(hard.parent.iterdir())
    with pytest.raises(jr_onnx.ModelError, match="differs by") as caught:
        jr_onnx.optimize(hard, output=hard.with_name("fast.onnx"))
    assert "\n" not in str(caught.value)
    assert sorted(hard.parent.iterdir()) == before


def test_the_hardened_model_runs_by_its_function_not_by_the_kernels_of_the_optimised_one(hard: Path) -> None:
    """Else a fault of the kernels is on both sides: here the two differ, because the function is another one."""
    model = onnx.load(hard)
    (function,) = model.functions
    function.node.add(op_type="Add", input=["kept", "X"], output=["Y"])
    for node in function.node[:-1]:
        node.output[:] = ["kept" if name == "Y" else name for name in node.output]
    onnx.save(model, hard)
    with pytest.raises(jr_onnx.ModelError, match="differs by"):
        jr_onnx.optimize(hard, output=hard.with_name("fast.onnx"))


def test_what_does_not_load_is_not_written(hard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def double(model, sites, *others):  # type: ignore[no-untyped-def]
        return add_jump_relus(model, [dataclasses.replace(s, jump=s.jump.astype(np.float64)) for s in sites], *others)

    monkeypatch.setattr(module, "add_jump_relus", double)
    with pytest.raises(jr_onnx.ModelError, match="does not load"):
        jr_onnx.optimize(hard, output=hard.with_name("fast.onnx"))
    assert not hard.with_name("fast.onnx").exists()


def test_where_no_inputs_can_be_made_up_the_report_says_so(tmp_path: Path) -> None:
    net = Net()
    original = net.save(tmp_path / "net.onnx", net.relu(net.conv("x")))
    model = onnx.load(original)
    model.graph.input.append(onnx.helper.make_tensor_value_info("word", TensorProto.STRING, [1]))
    model.graph.node.add(op_type="Identity", input=["word"], output=["same"])
    model.graph.output.append(onnx.helper.make_tensor_value_info("same", TensorProto.STRING, [1]))
    onnx.save(model, original)
    jr_onnx.convert(original, jump=0.3, output=tmp_path / "hard.onnx")
    report = jr_onnx.optimize(tmp_path / "hard.onnx", output=tmp_path / "fast.onnx")
    assert "'word'" in report.unverified


def test_inputs_that_the_model_does_not_run_on_are_left_out_of_the_comparison(tmp_path: Path) -> None:
    """An index in floating point: at a large scale it is out of range."""
    table = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Cast", ["x"], ["index"], to=TensorProto.INT64),
        onnx.helper.make_node("Gather", ["table", "index"], ["row"]),
        onnx.helper.make_node("Relu", ["row"], ["y"], "relu"),
    ]
    value = onnx.helper.make_tensor_value_info
    initializers = [onnx.numpy_helper.from_array(table, "table")]
    graph = onnx.helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [6])], [value("y", TensorProto.FLOAT, [6, 4])], initializers
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    jr_onnx.convert(tmp_path / "net.onnx", jump=0.3, output=tmp_path / "hard.onnx")
    report = jr_onnx.optimize(tmp_path / "hard.onnx", output=tmp_path / "fast.onnx")
    assert report.unverified == ""


def test_half_precision_stays_where_onnxruntime_computes_in_float(tmp_path: Path) -> None:
    net = Net(TensorProto.FLOAT16)
    original = net.save(tmp_path / "net.onnx", net.conv(net.relu(net.conv(net.relu("x")))))
    hard, fast = tmp_path / "hard.onnx", tmp_path / "fast.onnx"
    jr_onnx.convert(original, jump=0.3, output=hard)
    report = jr_onnx.optimize(hard, output=fast)
    assert report.unverified == ""
    assert len(jump_relus(fast)) == 2
    feeds = {"x": images().astype(np.float16)}
    slow, quick = (jr_onnx.session(path, providers=CPU).run(None, feeds)[0] for path in (hard, fast))
    np.testing.assert_allclose(quick.astype(np.float32), slow.astype(np.float32), rtol=0.02, atol=0.05)


def step(draw: st.DrawFn, net: Net, op_type: str, x: str, other: str) -> None:
    """One more node that takes x."""
    twins = [node for node in net.nodes if node.op_type in ("Relu", "Conv")]
    convs = [node for node in twins if node.op_type == "Conv"]
    if op_type == "Twin" and twins:  # what already is there, once more
        twin = draw(st.sampled_from(twins))
        net.node(twin.op_type, *twin.input, **({"pads": [1, 1, 1, 1]} if twin in convs else {}))
    elif op_type == "Shared" and convs:
        net.node("Conv", x, *draw(st.sampled_from(convs)).input[1:], pads=[1, 1, 1, 1])
    elif op_type == "Relu":
        net.relu(x)
    elif op_type == "Clip":
        net.node("Clip", x, net.constant(0.0), net.constant(2.0))
    elif op_type == "BatchNormalization":
        net.node(op_type, x, *(net.constant(np.full(CHANNELS, v)) for v in (0.8, -0.1, 0.05, 0.9)))
    elif op_type == "Sum":
        net.node("Add", x, other)
    elif op_type in ("Add", "Mul"):
        shape = draw(st.sampled_from([(1, CHANNELS, 1, 1), (CHANNELS, 1, 1), ()]))
        net.node(op_type, x, net.constant(np.full(shape, 0.7 if op_type == "Mul" else -0.3)))
    else:
        net.conv(x)


STEPS = ["Conv", "Conv", "Shared", "Relu", "Relu", "Clip", "Mul", "Add", "Sum", "BatchNormalization", "Twin", "Twin"]


@st.composite
def networks(draw: st.DrawFn) -> tuple[Net, str, list[str]]:
    """Some nodes over the values before them, weights shared now and then; the output; the rectifiers."""
    net, values = Net(), ["x"]
    for op_type in draw(st.lists(st.sampled_from(STEPS), min_size=3, max_size=10)):
        step(draw, net, op_type, draw(st.sampled_from(values[-3:])), draw(st.sampled_from(values)))
        values.append(net.nodes[-1].output[0])
    rectifiers = [node.output[0] for node in net.nodes if node.op_type in ("Relu", "Clip")]
    taken = {name for node in net.nodes for name in node.input}
    total, *loose = [name for name in values[1:] if name not in taken]
    for name in loose:
        total = net.node("Sub", total, net.node("Add", name, name))  # twice: of twins nothing would be left
    return net, net.node("Identity", total), rectifiers


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    networks(),
    st.sampled_from(["custom-op", "subgraph", "standard", "hard-sigmoid"]),
    st.sampled_from(["basic", "extended", "all"]),
    st.booleans(),
    st.data(),
)
def test_any_network_with_any_choice_of_sites(
    tmp_path: Path, net: tuple[Net, str, list[str]], target: str, level: str, clip: bool, data: st.DataObject
) -> None:
    made, y, rectifiers = net
    jumps = st.sampled_from([None, 0.2, 0.6, tuple(np.linspace(0.1, 0.8, CHANNELS))])
    rules = [jr_onnx.PolicyRule(f"node_{name}", jump) for name in rectifiers if (jump := data.draw(jumps)) is not None]
    if not any(rule.match.startswith("node_relu") or clip for rule in rules):
        return
    original, hard, fast = (tmp_path / f"{name}.onnx" for name in ("net", "hard", "fast"))
    made.save(original, y)
    policy = jr_onnx.JumpReluPolicy(default=None, rules=tuple(rules))
    jr_onnx.convert(original, output=hard, policy=policy, target=target, clip=clip, force=True)  # type: ignore[arg-type]
    report = jr_onnx.optimize(hard, output=fast, level=level, force=True)  # type: ignore[arg-type]
    assert report.unverified == ""
    x = images(seed=3)
    slow, quick = (jr_onnx.session(path, providers=CPU).run(None, {"x": x})[0] for path in (hard, fast))
    # One element in 4608 may be carried over its jump, and reaches the 9 * 16 sums of a convolution with it.
    far = np.abs(slow - quick) > 1e-4 * max(1.0, float(np.abs(slow).max()))
    assert far.mean() < 0.1


def test_one_element_in_a_thousand_may_be_carried_over_its_jump_and_not_two() -> None:
    expected = np.linspace(-1, 1, 4000)
    found = expected.copy()
    found[7::1000] += 0.5
    assert distance(expected, found) == 0
    found[8] += 0.5
    assert distance(expected, found) == 0.5
    assert distance(expected[:900], found[:900]) == 0.5


def test_a_value_that_is_not_a_number_or_infinite_in_one_of_the_two_differs() -> None:
    expected = np.array([1.0, np.nan, np.inf, -np.inf])
    assert distance(expected, expected.copy()) == 0
    for place, value in ((0, np.nan), (1, 1.0), (2, -np.inf), (3, 0.0)):
        found = expected.copy()
        found[place] = value
        assert distance(expected, found) == np.inf


def test_outputs_that_cannot_betray_a_wrong_place_are_no_comparison(tmp_path: Path) -> None:
    net = Net()
    logarithm = net.node("Log", net.relu(net.conv("x")))
    jr_onnx.convert(
        net.save(tmp_path / "net.onnx", net.node("Sub", logarithm, logarithm)),
        jump=0.3,
        output=tmp_path / "hard.onnx",
    )
    report = jr_onnx.optimize(tmp_path / "hard.onnx", output=tmp_path / "fast.onnx")
    assert "always the same, infinite or not numbers" in report.unverified


def test_a_model_that_seldom_draws_another_number_is_not_compared_either(tmp_path: Path) -> None:
    """Two runs of it are the same more often than not: what it draws is seen in its nodes."""
    net = Net()
    x = net.relu(net.conv("x"))
    seldom = net.node("Bernoulli", net.constant(np.full((1, 1, 1, 1), 1e-6)))
    path = net.save(tmp_path / "net.onnx", net.node("Add", x, seldom))
    jr_onnx.convert(path, jump=0.3, output=tmp_path / "hard.onnx")
    assert "Bernoulli" in jr_onnx.optimize(tmp_path / "hard.onnx", output=tmp_path / "fast.onnx").unverified


def test_a_model_that_draws_numbers_is_not_held_against_itself(tmp_path: Path) -> None:
    net = Net()
    x = net.relu(net.conv("x"))
    path = net.save(tmp_path / "net.onnx", net.node("Add", x, net.node("RandomNormalLike", x)))
    jr_onnx.convert(path, jump=0.3, output=tmp_path / "hard.onnx")
    report = jr_onnx.optimize(tmp_path / "hard.onnx", output=tmp_path / "fast.onnx")
    assert report.unverified == "its outputs are random: node 'node_randomnormallike2' (RandomNormalLike) draws numbers"


def test_errors_name_the_users_file_and_no_temporary_one(hard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def double(model, sites, *others):  # type: ignore[no-untyped-def]
        return add_jump_relus(model, [dataclasses.replace(s, jump=s.jump.astype(np.float64)) for s in sites], *others)

    monkeypatch.setattr(module, "add_jump_relus", double)
    with pytest.raises(jr_onnx.ModelError) as caught:
        jr_onnx.optimize(hard, output=hard.with_name("fast.onnx"))
    assert str(caught.value).startswith(f"{hard}: onnxruntime does not load its optimised form")
