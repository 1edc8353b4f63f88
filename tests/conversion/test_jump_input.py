"""--jump-input: the jump as an optional graph input, which a server can raise for each request."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from support import (
    BOOL,
    DOUBLE,
    EACH_TARGET,
    FLOAT,
    FLOAT16,
    TARGETS,
    Array,
    assert_same_bits,
    assert_same_but_for_the_sign_of_zero,
    branch,
    check,
    evaluate,
    function,
    hardened,
    make_model,
    nested_model,
    newest_opset,
    node,
    reference_vector,
    relu_model,
    report_of,
    run,
    session,
    type_id,
    value,
    with_oracle,
)

from jr_onnx import JumpReluPolicy, OptionError, PolicyRule
from jr_onnx.conversion.element_types import NUMPY_TYPES, round_jump
from jr_onnx.reference import jump_relu

X, Y = value("x", FLOAT, [4]), value("y", FLOAT, [4])


def names(values: Any) -> list[str]:
    return [v.name for v in values]


@EACH_TARGET
@pytest.mark.parametrize("element_type", [FLOAT, FLOAT16, DOUBLE], ids=type_id)
@pytest.mark.parametrize("opset", [7, 8, 9, 11, 13, newest_opset()])
@pytest.mark.parametrize("ir_version", [3, 8])
def test_the_default_is_used_where_nothing_is_fed_and_any_jump_can_be(
    element_type: int, opset: int, ir_version: int, target: str
) -> None:
    original = relu_model(element_type, opset=opset, ir_version=ir_version)
    result = hardened(original, 0.5, jump_input="jump", **TARGETS[target])
    check(result)
    x = reference_vector(element_type)
    assert_same_but_for_the_sign_of_zero(run(result, {"x": x})[0], jump_relu(x, 0.5))
    for jump in (0.0, 0.25, 1.0):
        feeds = {"x": x, "jump": np.asarray(jump, NUMPY_TYPES[element_type])}
        assert_same_but_for_the_sign_of_zero(run(result, feeds)[0], jump_relu(x, jump))


def test_onnxruntime_lists_the_jump_among_what_can_be_overridden() -> None:
    opened = session(hardened(relu_model(), 0.5, jump_input="jump"))
    assert names(opened.get_inputs()) == ["x"]
    assert names(opened.get_overridable_initializers()) == ["jump"]


def test_the_input_is_a_scalar_whose_default_is_an_initializer() -> None:
    result = hardened(relu_model(), 0.5, jump_input="threshold")
    (given,) = (i for i in result.graph.input if i.name == "threshold")
    assert given == value("threshold", FLOAT, [])
    (default,) = (t for t in result.graph.initializer if t.name == "threshold")
    assert_same_bits(onnx.numpy_helper.to_array(default), np.asarray(0.5, np.float32))
    assert not [t.name for t in result.graph.initializer if t.name == "jr_onnx.jump"]


def test_below_ir_version_four_no_input_could_be_optional() -> None:
    tensors = {"w": np.full(10, 2, np.float32)}
    nodes = [node("Mul", "x w", "h"), node("Relu", "h", "y")]
    model = make_model(
        nodes, [value("x", FLOAT, [10])], [value("y", FLOAT, [10])], opset=8, ir_version=3, initializers=tensors
    )
    report = report_of(model, 0.5, jump_input="jump", target="subgraph")
    assert report.model is not None
    assert report.ir_version == 4
    # The weights stay constants; from this version on an input could be overridden.
    assert names(report.model.graph.input) == ["x", "jump"]
    check(report.model)


@EACH_TARGET
def test_one_input_reaches_sites_of_two_types(target: str) -> None:
    nodes = [node("Relu", "x", "y"), node("Relu", "d", "e"), node("Relu", "h", "g")]
    model = make_model(
        nodes,
        [X, value("d", DOUBLE, [4]), value("h", FLOAT16, [4])],
        [Y, value("e", DOUBLE, [4]), value("g", FLOAT16, [4])],
        opset=18,
    )
    report = report_of(model, 0.25, jump_input="jump", **TARGETS[target])
    assert report.model is not None
    check(report.model)
    # The widest type takes them all.
    assert next(i for i in report.model.graph.input if i.name == "jump") == value("jump", DOUBLE, [])
    dtypes = {"x": np.float32, "d": np.float64, "h": np.float16}
    # The same number in every type: onnxruntime leaves out a Cast to float16 and back, and with it a rounding.
    for jump in (0.25, 0.75):
        feeds: dict[str, Array] = {}
        for name, dtype in dtypes.items():
            k = dtype(jump)
            feeds[name] = np.array([-1, np.nextafter(k, dtype(0)), k, np.nextafter(k, dtype(1))], dtype)
        given = {} if jump == 0.25 else {"jump": np.asarray(jump)}
        for got, (name, x) in zip(run(report.model, {**feeds, **given}), feeds.items(), strict=True):
            assert_same_but_for_the_sign_of_zero(got, jump_relu(x, jump), f"{name}, {jump}")


@pytest.mark.parametrize(("types", "wanted"), [((FLOAT16, FLOAT16), FLOAT16), ((FLOAT16, FLOAT), FLOAT)])
def test_the_input_has_the_widest_type_that_is_needed(types: tuple[int, int], wanted: int) -> None:
    nodes = [node("Relu", f"x{i}", f"y{i}") for i in range(2)]
    inputs, outputs = ([value(f"{v}{i}", t, [4]) for i, t in enumerate(types)] for v in "xy")
    result = hardened(make_model(nodes, inputs, outputs), 0.1, jump_input="jump")
    assert next(i for i in result.graph.input if i.name == "jump").type.tensor_type.elem_type == wanted
    default = onnx.numpy_helper.to_array(next(t for t in result.graph.initializer if t.name == "jump"))
    assert float(default) == round_jump(0.1, wanted)


@EACH_TARGET
def test_bodies_at_any_depth_see_the_input(target: str) -> None:
    model = nested_model()
    result = hardened(model, 0.75, jump_input="jump", **TARGETS[target])
    check(result)
    x = np.array([-1, 0.25, 0.5, 2], np.float32)
    for jump in (0.75, 0.3):
        feeds = {"x": x} if jump == 0.75 else {"x": x, "jump": np.asarray(jump, np.float32)}
        want = evaluate(with_oracle(model, lambda _, k=jump: np.float32(k)), {"x": x})
        for got, expected in zip(run(result, feeds), want, strict=True):
            assert_same_but_for_the_sign_of_zero(got, expected)


@pytest.mark.parametrize("name", ["x", "y", "h", "inside", "w"])
def test_a_name_that_the_model_has_anywhere_is_refused(name: str) -> None:
    model = make_model(
        [
            node("Add", "x w", "h"),
            node("Relu", "h", "r"),
            node(
                "If",
                "c",
                "y",
                then_branch=branch([node("Relu", "r", "inside")], "inside"),
                else_branch=branch([node("Neg", "r", "other")], "other"),
            ),
        ],
        [X, value("c", BOOL, [])],
        [Y],
        initializers={"w": np.float32(1)},
    )
    with pytest.raises(OptionError, match=f"the model has a value '{name}' already; give another name"):
        report_of(model, 0.5, jump_input=name)


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(OptionError, match="give another name"):
        report_of(relu_model(), 0.5, jump_input="")


def test_several_jumps_are_refused() -> None:
    nodes = [node("Relu", "x", "h", "a"), node("Relu", "h", "y", "b")]
    model = make_model(nodes, [X], [Y])
    policy = JumpReluPolicy(0.5, (PolicyRule("b", 0.25),))
    with pytest.raises(OptionError, match="`jump_input` gives all sites one jump, but 'b' has its own"):
        report_of(model, None, policy=policy, jump_input="jump")
    # Excluding it helps, as the message says; and so does the same jump for all.
    assert len(report_of(model, None, policy=policy, jump_input="jump", exclude=["b"]).sites) == 1
    same = JumpReluPolicy(None, (PolicyRule("*", 0.25),))
    report = report_of(model, None, policy=same, jump_input="jump")
    assert report.model is not None
    default = next(t for t in report.model.graph.initializer if t.name == "jump")
    assert float(onnx.numpy_helper.to_array(default)) == 0.25


def test_one_jump_a_channel_is_refused() -> None:
    model = make_model([node("Relu", "x", "y", "a")], [value("x", FLOAT, [1, 2])], [value("y", FLOAT, [1, 2])])
    with pytest.raises(OptionError, match="'a' has its own"):
        report_of(model, (0.5, 0.25), jump_input="jump")


def test_a_site_in_a_function_is_refused() -> None:
    body = function("F", "a", "b", [node("Relu", "a", "b", "relu")])
    model = make_model(
        [node("F", "x", "h", domain="f"), node("Relu", "h", "y", "main")], [X], [Y], functions=[body], domains=["f"]
    )
    with pytest.raises(OptionError, match=r"'f::F/relu' is in a model-local function.*inline_local_functions"):
        report_of(model, 0.5, jump_input="jump")
    result = hardened(model, 0.5, jump_input="jump", exclude=["f::F/*"])
    check(result)


def test_a_recurrent_activation_keeps_a_fixed_jump_and_that_is_noted() -> None:
    tensors = {"w": np.ones((1, 4, 4), np.float32), "r": np.zeros((1, 4, 4), np.float32)}
    rnn = node("RNN", "x w r", "h", "rnn", hidden_size=4, activations=["Relu"])
    model = make_model(
        [rnn, node("Relu", "h", "y", "relu")],
        [value("x", FLOAT, [1, 1, 4])],
        [value("y", FLOAT, [1, 1, 1, 4])],
        opset=14,
        initializers=tensors,
    )
    report = report_of(model, 0.5, jump_input="jump")
    assert any("keep a fixed jump" in note and "'jump'" in note for note in report.notes)
    with pytest.raises(OptionError, match="no site that a graph input can reach"):
        report_of(model, 0.5, jump_input="jump", include=["rnn"])


def test_the_standard_target_takes_a_form_whose_jump_is_an_input() -> None:
    (site,) = report_of(relu_model(), 0.5, jump_input="jump", target="standard").sites
    assert site.lowering == "Where(LessOrEqual)"
    assert "attribute" in site.reason


def test_a_model_without_a_site_that_is_allowed_gets_no_input() -> None:
    model = make_model([node("Neg", "x", "y")], [X], [Y])
    report = report_of(model, 0.5, jump_input="jump", allow_empty=True)
    assert not report.notes
    assert report.model is not None
    assert names(report.model.graph.input) == ["x"]


# --- converting again -------------------------------------------------------------------------------------------------


def jumps_of(model: onnx.ModelProto) -> tuple[list[str], list[str]]:
    """The inputs, and the initializers that jr-onnx made."""
    ours = [t.name for t in model.graph.initializer if t.name.startswith(("jr_onnx.", "jump", "other"))]
    return names(model.graph.input), ours


X_VALUES = np.array([-1, 0.25, 0.5, 2], np.float32)


@EACH_TARGET
@pytest.mark.parametrize("before", TARGETS)
def test_converting_again_without_it_drops_the_input(before: str, target: str) -> None:
    once = hardened(relu_model(shape=(4,)), 0.25, jump_input="jump", **TARGETS[before])
    again = hardened(once, 0.5, **TARGETS[target])
    check(again)
    inputs, ours = jumps_of(again)
    assert inputs == ["x"]
    assert "jump" not in ours
    assert not [e.key for e in again.metadata_props if e.key == "jr_onnx.jump_input"]
    assert_same_but_for_the_sign_of_zero(run(again, {"x": X_VALUES})[0], jump_relu(X_VALUES, 0.5))


@EACH_TARGET
@pytest.mark.parametrize("before", TARGETS)
@pytest.mark.parametrize("name", ["jump", "other"])
def test_converting_again_with_it_replaces_the_input(before: str, target: str, name: str) -> None:
    once = hardened(relu_model(shape=(4,)), 0.25, jump_input="jump", **TARGETS[before])
    again = hardened(once, 0.5, jump_input=name, **TARGETS[target])
    check(again)
    inputs, ours = jumps_of(again)
    assert inputs == ["x", name]
    assert [n for n in ours if not n.startswith("jr_onnx.zero")] == [name]
    assert_same_but_for_the_sign_of_zero(run(again, {"x": X_VALUES})[0], jump_relu(X_VALUES, 0.5))
    raised = run(again, {"x": X_VALUES, name: np.asarray(1, np.float32)})[0]
    assert_same_but_for_the_sign_of_zero(raised, jump_relu(X_VALUES, 1))


@EACH_TARGET
@pytest.mark.parametrize("before", TARGETS)
def test_converting_again_with_it_adds_the_input(before: str, target: str) -> None:
    once = hardened(relu_model(shape=(4,)), 0.25, **TARGETS[before])
    again = hardened(once, 0.5, jump_input="jump", **TARGETS[target])
    check(again)
    inputs, ours = jumps_of(again)
    assert inputs == ["x", "jump"]
    assert [n for n in ours if not n.startswith("jr_onnx.zero")] == ["jump"]
    raised = run(again, {"x": X_VALUES, "jump": np.asarray(1, np.float32)})[0]
    assert_same_but_for_the_sign_of_zero(raised, jump_relu(X_VALUES, 1))


@EACH_TARGET
def test_casts_of_the_input_go_with_it(target: str) -> None:
    nodes = [node("Relu", "x", "y"), node("Relu", "h", "g")]
    model = make_model(nodes, [X, value("h", FLOAT16, [4])], [Y, value("g", FLOAT16, [4])])
    once = hardened(model, 0.25, jump_input="jump", **TARGETS[target])
    own_casts = 2 if target in ("subgraph", "hard-sigmoid") else 0
    assert [n.op_type for n in once.graph.node].count("Cast") == own_casts + 1
    again = hardened(once, 0.5, **TARGETS[target])
    check(again)
    # With a fixed jump, only float16 still has no HardSigmoid.
    assert [n.op_type for n in again.graph.node].count("Cast") == (1 if target == "hard-sigmoid" else own_casts)


def test_an_input_that_a_site_outside_the_plan_still_reads_stays() -> None:
    nodes = [node("Relu", "x", "h", "a"), node("Relu", "h", "y", "b")]
    once = hardened(make_model(nodes, [X], [Y]), 0.25, jump_input="jump")
    again = hardened(once, 0.5, include=["a"])
    check(again)
    assert names(again.graph.input) == ["x", "jump"]
    got = run(again, {"x": X_VALUES, "jump": np.asarray(3, np.float32)})[0]
    assert_same_bits(got, np.zeros(4, np.float32))


def test_an_input_that_was_left_goes_with_its_last_site() -> None:
    nodes = [node("Relu", "x", "h", "a"), node("Relu", "h", "y", "b")]
    once = hardened(make_model(nodes, [X], [Y]), 0.25, jump_input="jump")
    again = hardened(hardened(once, 0.5, include=["a"]), 0.5)
    assert names(again.graph.input) == ["x"]


def test_an_input_that_the_model_reads_itself_stays() -> None:
    once = hardened(relu_model(shape=(4,)), 0.25, jump_input="jump")
    once.graph.node.append(node("Identity", "jump", "used"))
    once.graph.output.append(value("used", FLOAT, []))
    again = hardened(once, 0.5)
    check(again)
    assert "jump" in names(again.graph.input)
    assert_same_bits(run(again, {"x": X_VALUES})[1], np.asarray(0.25, np.float32))


def test_an_input_of_the_same_name_that_is_not_jr_onnx_s_stays() -> None:
    # The metadata say which input is the jump; here they say nothing.
    tensors = {"jump": np.float32(7)}
    nodes = [node("Relu", "x", "y", "relu"), node("Identity", "jump", "z")]
    model = make_model(nodes, [X], [Y, value("z", FLOAT, [])], initializers=tensors)
    again = hardened(hardened(model, 0.25), 0.5)
    assert_same_bits(run(again, {"x": X_VALUES})[1], np.asarray(7, np.float32))
