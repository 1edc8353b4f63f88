"""A hardened model is known again after other tools, whatever they drop: its jumps are shown, replaced and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnx.compose
import onnx.inliner
import onnx.version_converter
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from support import (
    BASIC,
    BOOL,
    EACH_TARGET,
    FLOAT,
    FLOAT16,
    NONE,
    TARGETS,
    assert_same_but_for_the_sign_of_zero,
    branch,
    function,
    hardened,
    make_model,
    node,
    operators,
    relu_model,
    report_of,
    run,
    value,
)

from jr_onnx import JumpReluPolicy, ModelError, PolicyRule, check, find_sites, inspect
from jr_onnx.conversion.sites.matchers import SiteKind
from jr_onnx.reference import jump_relu

Tool = Callable[[onnx.ModelProto], onnx.ModelProto]

JUMP = float(np.float32(0.3))
VALUES = np.concatenate([np.linspace(-1, 2, 61), [0.3, np.inf]]).astype(np.float32).reshape(9, 7)


def original() -> onnx.ModelProto:
    """Two Relu with exact arithmetic between them, so that NumPy can be the reference."""
    nodes = [
        node("Relu", "x", "r", "relu1"),
        node("Mul", "r two", "d", "double"),
        node("Sub", "d quarter", "s", "shift"),
        node("Relu", "s", "y", "relu2"),
    ]
    tensors = {"two": np.float32(2), "quarter": np.float32(0.25)}
    return make_model(nodes, [value("x", FLOAT, ["N", 7])], [value("y", FLOAT, ["N", 7])], initializers=tensors)


def want(first: float, second: float | None = None) -> np.ndarray[Any, Any]:
    """What NumPy makes of it."""
    doubled = jump_relu(VALUES, np.float32(first)) * np.float32(2) - np.float32(0.25)
    return jump_relu(doubled, np.float32(first if second is None else second))


def result_of(model: onnx.ModelProto) -> np.ndarray[Any, Any]:
    """The output of the model, whatever its input is called now."""
    defaults = {tensor.name for tensor in model.graph.initializer}
    (name,) = (given.name for given in model.graph.input if given.name not in defaults)
    return run(model, {name: VALUES})[0]


def onnxslim(model: onnx.ModelProto) -> onnx.ModelProto:
    tool = pytest.importorskip("onnxslim", reason="onnxslim is not installed; pip install '.[test]'")
    result: onnx.ModelProto = tool.slim(model)
    return result


def onnxsim(model: onnx.ModelProto) -> onnx.ModelProto:
    tool = pytest.importorskip(
        "onnxsim", reason="onnxsim is not installed, or has no wheel here; pip install '.[test]'"
    )
    result: onnx.ModelProto = tool.simplify(model)[0]
    return result


def graphsurgeon(model: onnx.ModelProto) -> onnx.ModelProto:
    result: onnx.ModelProto = gs.export_onnx(gs.import_onnx(model).fold_constants().cleanup().toposort())
    return result


def saved_by_onnxruntime(level: Any) -> Tool:
    def save(model: onnx.ModelProto) -> onnx.ModelProto:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        with TemporaryDirectory() as folder:
            path = Path(folder, "saved.onnx")
            options.optimized_model_filepath = str(path)
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            return onnx.load(path)

    return save


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Nodes with other names, and without what marks them."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for index, item in enumerate(result.graph.node):
        item.name = f"n{index}"
        del item.metadata_props[:]
    return result


def constants_as_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every initializer as a Constant node in front, and nothing that marks a node."""
    result = renamed(model)
    tensors = [
        node("Constant", "", t.name, value=onnx.TensorProto.FromString(t.SerializeToString()))
        for t in result.graph.initializer
    ]
    nodes = [*tensors, *map(onnx.NodeProto.FromString, [n.SerializeToString() for n in result.graph.node])]
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.node.extend(nodes)
    return result


def prefixed(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.compose.add_prefix(model, "part/")


def newest(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.version_converter.convert_version(model, 21)


def after(*tools: Tool) -> Tool:
    def each(model: onnx.ModelProto) -> onnx.ModelProto:
        for tool in tools:
            model = tool(model)
        return model

    return each


inlined: Tool = onnx.inliner.inline_local_functions

TOOLS: Mapping[str, Tool] = {
    "onnxslim": onnxslim,
    "onnxsim": onnxsim,
    "inliner": inlined,
    "version_converter": newest,
    "graphsurgeon": graphsurgeon,
    "add_prefix": prefixed,
    "onnxruntime, not optimised": saved_by_onnxruntime(NONE),
    "onnxruntime, basic": saved_by_onnxruntime(BASIC),
    "renamed": renamed,
    "Constant nodes": constants_as_nodes,
    "inliner, add_prefix": after(inlined, prefixed),
    "inliner, onnxslim": after(inlined, onnxslim),
    "inliner, onnxsim": after(inlined, onnxsim),
    "add_prefix, inliner": after(prefixed, inlined),
    "add_prefix, onnxslim": after(prefixed, onnxslim),
}

EACH_TOOL = pytest.mark.parametrize("tool", TOOLS)


def is_lost(target: str, tool: str) -> bool:
    """graphsurgeon drops the model's record too: nothing tells a ThresholdedRelu of ours from the model's own."""
    return target == "standard" and tool == "graphsurgeon"


@EACH_TARGET
@EACH_TOOL
def test_the_jumps_are_shown_and_replaced(target: str, tool: str) -> None:
    model = TOOLS[tool](hardened(original(), JUMP, **TARGETS[target]))
    if is_lost(target, tool):
        with pytest.raises(ModelError, match=r"the model's own threshold: alpha = 0\.3"):
            report_of(model, 0.7, **TARGETS[target])
        return
    assert [found.jump for found in inspect(model).nodes] == [JUMP, JUMP]
    for new in TARGETS:
        report = report_of(model, 0.7, **TARGETS[new])
        assert report.model is not None
        assert len(report.sites) == 2
        assert [site.kind for site in find_sites(report.model)] == [SiteKind.HARDENED] * 2
        direct = [op for op in operators(hardened(original(), 0.7, **TARGETS[new])) if op != "Constant"]
        assert sorted(op for op in operators(report.model) if op != "Constant") == sorted(direct)
        assert_same_but_for_the_sign_of_zero(result_of(report.model), want(0.7))


@EACH_TARGET
@EACH_TOOL
def test_check_has_no_false_finding(target: str, tool: str) -> None:
    model = TOOLS[tool](hardened(original(), JUMP, **TARGETS[target]))
    found = {(finding.rule, finding.message.split("'")[0]) for finding in check(None, model).findings}
    if is_lost(target, tool):
        assert found == {("JR123", "has no JumpReLU, and no record that it was converted")}
    elif tool == "graphsurgeon":  # which drops the record
        assert found == {("JR112", "metadata ")}
    elif target == "custom-op" and tool == "version_converter":  # which drops functions
        assert found == {("JR114", "function jr_onnx::JumpReLU is missing")}
    elif target == "custom-op" and tool in ("add_prefix", "add_prefix, onnxslim"):
        # No kernel has the name with the prefix; without the kernel library that is no finding.
        assert found <= {("JR502", "only 0 of the main graph")}
    else:
        assert not found


@EACH_TARGET
@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("level", [NONE, BASIC], ids=["not optimised", "basic"])
def test_float16_that_onnxruntime_computes_in_float_is_known(level: Any, opset: int, target: str) -> None:
    """It puts the function bodies of LessOrEqual and, from opset 18 on, of Relu in their place, and casts the jump."""
    once = hardened(relu_model(FLOAT16, (9,), opset=opset), 0.1, **TARGETS[target])
    saved = saved_by_onnxruntime(level)(once)
    if target == "standard" and opset == 18:  # and of ThresholdedRelu, which leaves nothing of ours
        with pytest.raises(ModelError, match="but no JumpReLU is found"):
            hardened(saved, 0.5)
        return
    assert [found.jump for found in inspect(saved).nodes] == [float(np.float16(0.1))]
    assert not check(None, saved).findings
    x = np.array([-1, -0.0, 0, 0.1, 0.25, 0.5, 0.75, 1, 2], np.float16)
    again = hardened(saved, 0.5, **TARGETS[target])
    assert_same_but_for_the_sign_of_zero(run(again, {"x": x})[0], jump_relu(x, np.float16(0.5)))


@EACH_TARGET
@pytest.mark.parametrize("tool", ["onnxslim", "onnxsim", "inliner", "renamed", "inliner, onnxsim"])
def test_a_jump_that_is_an_input_is_known_too(target: str, tool: str) -> None:
    model = TOOLS[tool](hardened(original(), JUMP, jump_input="level", **TARGETS[target]))
    assert [found.jump for found in inspect(model).nodes] == [JUMP, JUMP]
    again = hardened(model, 0.7, **TARGETS[target])
    assert [given.name for given in again.graph.input] == ["x"]
    assert_same_but_for_the_sign_of_zero(result_of(again), want(0.7))


@EACH_TARGET
@pytest.mark.parametrize("tool", ["onnxslim", "onnxsim", "version_converter", "renamed"])
def test_jumps_by_a_policy_are_known_too(target: str, tool: str) -> None:
    policy = JumpReluPolicy(default=0.7, rules=(PolicyRule("relu1", 0.3),))
    model = TOOLS[tool](hardened(original(), None, policy=policy, **TARGETS[target]))
    assert [found.jump for found in inspect(model).nodes] == [JUMP, float(np.float32(0.7))]
    assert_same_but_for_the_sign_of_zero(result_of(hardened(model, 0.5, **TARGETS[target])), want(0.5))


@EACH_TARGET
def test_a_part_of_a_prefixed_model_is_converted_and_the_rest_still_runs(target: str) -> None:
    model = prefixed(hardened(original(), JUMP, **TARGETS[target]))
    again = hardened(model, 0.7, include=["*relu1*"], **TARGETS["custom-op"])
    assert_same_but_for_the_sign_of_zero(result_of(again), want(0.7, JUMP))
    assert_same_but_for_the_sign_of_zero(result_of(hardened(again, 0.5)), want(0.5))


@EACH_TARGET
@pytest.mark.parametrize("opset", [8, 11])
def test_the_other_bodies_of_the_function_are_known_when_inlined(opset: int, target: str) -> None:
    model = inlined(hardened(relu_model(shape=(4,), opset=opset), 0.25))
    assert [found.jump for found in inspect(model).nodes] == [0.25]
    again = hardened(model, 0.5, **TARGETS[target])
    (got,) = run(again, {"x": np.array([-1, 0.25, 0.5, 2], np.float32)})
    assert_same_but_for_the_sign_of_zero(got, np.array([0, 0, 0, 2], np.float32))


@EACH_TARGET
def test_in_bodies_and_functions_the_inlined_forms_are_known(target: str) -> None:
    then, other = branch([node("Relu", "x", "t", "relu1")], "t"), branch([node("F", "x", "e", domain="f")], "e")
    body = function("F", "a", "b", [node("Neg", "a", "n"), node("Relu", "n", "b", "relu2")])
    inputs = [value("x", FLOAT, [4]), value("c", BOOL, [])]
    nodes = [node("If", "c", "y", "if", then_branch=then, else_branch=other)]
    model = make_model(nodes, inputs, [value("y", FLOAT, [4])], functions=[body], domains=["f"])
    again = hardened(inlined(hardened(model, 0.25, **TARGETS[target])), 0.5, **TARGETS[target])
    assert [site.kind for site in find_sites(again)] == [SiteKind.HARDENED] * 2
    x = np.array([-1, 0.25, 0.5, 2], np.float32)
    for c, sign in ((True, 1), (False, -1)):
        (got,) = run(again, {"x": x, "c": np.array(c)})
        assert_same_but_for_the_sign_of_zero(got, jump_relu(np.float32(sign) * x, np.float32(0.5)))


def test_one_zero_for_several_inlined_bodies_stays_until_none_uses_it() -> None:
    # As common subexpressions are merged: one Sub(jump, jump), with a jump that is an input and cannot be folded.
    model = inlined(hardened(original(), JUMP, jump_input="level"))
    zeros = [item.output[0] for item in model.graph.node if item.op_type == "Sub" and "level" in item.input]
    for item in model.graph.node:
        item.input[:] = [zeros[0] if name in zeros else name for name in item.input]
    model.graph.node.remove(next(item for item in model.graph.node if item.output[0] == zeros[1]))
    part = hardened(model, 0.7, include=[find_sites(model)[0].path])
    assert zeros[0] in {name for item in part.graph.node for name in item.output}
    whole = hardened(model, 0.7)
    assert zeros[0] not in {name for item in whole.graph.node for name in item.output}
    assert_same_but_for_the_sign_of_zero(result_of(whole), want(0.7))


@EACH_TARGET
def test_the_models_own_threshold_stays_its_own_where_the_marks_are_dropped(target: str) -> None:
    nodes = [node("Relu", "x", "h", "relu"), node("ThresholdedRelu", "h", "y", "own", alpha=1.5)]
    model = make_model(nodes, [value("x", FLOAT, [4])], [value("y", FLOAT, [4])])
    once = renamed(hardened(model, 0.5, **TARGETS[target]))
    report = report_of(once, 0.7, **TARGETS[target])
    assert len(report.sites) == 1
    assert [left.reason for left in report.left_alone] == ["the model's own threshold: alpha = 1.5"]


def rewritten() -> onnx.ModelProto:
    """Hardened, and then rewritten so that no form is left: the comparison as the sign of a difference."""
    model = hardened(relu_model(shape=(4,)), 0.25, target="subgraph")
    relu, _, _, mul = model.graph.node
    nodes = [relu, node("Sub", f"{relu.output[0]} jr_onnx.jump", "d"), node("Sign", "d", "s"), node("Relu", "s", "g")]
    nodes += [node("Mul", f"{relu.output[0]} g", mul.output[0])]
    copies = [onnx.NodeProto.FromString(item.SerializeToString()) for item in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return model


def test_a_record_without_a_jump_relu_is_refused_in_one_line() -> None:
    with pytest.raises(
        ModelError, match=r"records that it was hardened \(1 site\), but no JumpReLU is found"
    ) as caught:
        report_of(rewritten(), 0.5)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="but no JumpReLU is found"):
        report_of(rewritten(), 0.5, allow_empty=True)
    nodes = inspect(rewritten()).nodes
    assert len(nodes) == 2
    assert all(not found.converted and "no JumpReLU is found" in found.how for found in nodes)


@pytest.mark.parametrize("sites", ["0", "", "many", "9" * 5000, "-1"])
def test_a_record_of_no_sites_refuses_nothing(sites: str) -> None:
    model = rewritten()
    for entry in model.metadata_props:
        if entry.key == "jr_onnx.sites":
            entry.value = sites
    assert len(report_of(model, 0.5).sites) == 2
