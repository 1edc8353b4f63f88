"""Every place where a model can have a ReLU: in any scope, in any operator, and what only looks like one."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
import pytest
from onnx import helper
from site_models import VALUES, X, Y, call, calling, paths, reasons
from support import (
    BOOL,
    DOUBLE,
    EACH_TARGET,
    FLOAT,
    TARGETS,
    Array,
    assert_same_but_for_the_sign_of_zero,
    branch,
    check,
    evaluate,
    function,
    hardened,
    make_model,
    nested_model,
    node,
    relu_model,
    report_of,
    run,
    value,
    with_oracle,
)

from jr_onnx import ModelError, OptionError, find_sites


def assert_hardened_everywhere(model: onnx.ModelProto, target: str, feeds: dict[str, Array], jump: float) -> None:
    """The hardened model gives, in onnxruntime, what the original with the NumPy definition for each Relu gives."""
    result = hardened(model, jump, **TARGETS[target])
    check(result)
    want = evaluate(with_oracle(model, lambda _: jump), feeds)
    for got, expected in zip(run(result, feeds), want, strict=True):
        assert_same_but_for_the_sign_of_zero(got, expected, target)


# --- scopes -----------------------------------------------------------------------------------------------------------


def test_sites_are_found_in_the_bodies_of_if_loop_and_scan_at_any_depth() -> None:
    assert paths(nested_model()) == [
        "relu",
        "loop/body/relu",
        "loop/body/Relu#4",
        "loop/body/choose/else_branch/relu",
        "loop/body/choose/then_branch/relu",
        "scan/body/relu",
        "scan/body/Relu#2",
    ]


@EACH_TARGET
@pytest.mark.parametrize("opset", [11, 12, 18])
def test_sites_in_nested_bodies_are_converted(target: str, opset: int) -> None:
    assert_hardened_everywhere(nested_model(opset), target, {"x": VALUES}, 0.75)


@EACH_TARGET
@pytest.mark.parametrize("only", ["loop/body/choose/else_branch/relu", "scan/body/*", "relu"])
def test_a_single_site_of_many_with_the_same_name_can_be_chosen_by_its_path(target: str, only: str) -> None:
    report = report_of(nested_model(), 0.75, include=[only], **TARGETS[target])
    # The name alone, "relu", is that of five nodes.
    assert len(report.sites) == {"relu": 5, "scan/body/*": 2}.get(only, 1)
    assert len(report.sites) + len(report.left_alone) == 7
    assert report.model is not None
    check(report.model)
    run(report.model, {"x": VALUES})


@EACH_TARGET
def test_a_relu_in_an_if_takes_its_input_from_outside(target: str) -> None:
    then = branch([node("Relu", "x", "t")], "t")
    other = branch([node("Neg", "x", "n"), node("Relu", "n", "e")], "e")
    model = make_model(
        [node("If", "c", "y", "if", then_branch=then, else_branch=other)],
        [X, value("c", BOOL, [])],
        [Y],
    )
    for condition in (True, False):
        assert_hardened_everywhere(model, target, {"x": VALUES, "c": np.asarray(condition)}, 0.5)


@EACH_TARGET
def test_a_relu_whose_output_is_a_graph_output_keeps_that_name(target: str) -> None:
    nodes = [node("Relu", "x", "y"), node("Neg", "y", "z")]
    model = make_model(nodes, [X], [Y, value("z", FLOAT, [4])])
    result = hardened(model, **TARGETS[target])
    assert [output.name for output in result.graph.output] == ["y", "z"]
    assert_hardened_everywhere(model, target, {"x": VALUES}, 0.5)


@EACH_TARGET
def test_a_relu_of_a_relu_is_two_sites(target: str) -> None:
    model = make_model([node("Relu", "x", "h", "first"), node("Relu", "h", "y", "second")], [X], [Y])
    assert paths(model) == ["first", "second"]
    assert_hardened_everywhere(model, target, {"x": VALUES}, 0.5)


@EACH_TARGET
def test_a_value_that_feeds_several_relus_feeds_several_sites(target: str) -> None:
    nodes = [node("Relu", "x", "a"), node("Relu", "x", "b"), node("Add", "a b", "y")]
    assert_hardened_everywhere(make_model(nodes, [X], [Y]), target, {"x": VALUES}, 0.5)


def test_nodes_without_a_name_or_with_the_same_name_have_paths_of_their_own() -> None:
    nodes = [
        node("Relu", "x", "a", "same"),
        node("Relu", "a", "b", "same"),
        node("Relu", "b", "c"),
        node("Relu", "c", "d"),
        node("Relu", "d", "e", "Relu#2"),  # what the third one would be called
        node("Relu", "e", "y", "unique"),
    ]
    found = paths(make_model(nodes, [X], [Y]))
    assert len(set(found)) == 6
    assert found[:2] == ["same#0", "same#1"]
    assert found[3:] == ["Relu#3", "Relu#2", "unique"]
    assert found[2].startswith("Relu#2")


def test_the_domain_of_onnx_can_be_written_out() -> None:
    model = relu_model(shape=(4,))
    model.graph.node[0].domain = "ai.onnx"
    model.opset_import[0].domain = "ai.onnx"
    for options in TARGETS.values():
        result = hardened(model, **options)
        assert_same_but_for_the_sign_of_zero(run(result, {"x": VALUES})[0], np.array([0, 0, 0, 2], np.float32))


def test_a_relu_of_another_domain_is_no_site() -> None:
    model = make_model([helper.make_node("Relu", ["x"], ["y"], domain="mine")], [X], [Y], domains=["mine"])
    assert not find_sites(model)


@EACH_TARGET
@pytest.mark.parametrize("opset", [8, 10, 18])
def test_a_function_that_is_called_twice_with_the_same_type_is_converted_once(target: str, opset: int) -> None:
    twice = function("F", "a", "b", [node("Neg", "a", "n"), node("Relu", "n", "b", "relu")], opset=opset)
    model = calling([twice], [call("F", "x", "h"), call("F", "h", "y")], opset)
    assert paths(model) == ["f::F/relu"]
    assert_hardened_everywhere(model, target, {"x": -VALUES}, 0.5)


@EACH_TARGET
def test_a_function_called_by_a_function_is_converted(target: str) -> None:
    inner = function("Inner", "a", "b", [node("Relu", "a", "b", "relu")])
    outer = function(
        "Outer", "a", "b", [node("Abs", "a", "h"), call("Inner", "h", "r"), node("Relu", "r", "b")], calls=True
    )
    model = calling([inner, outer], [call("Outer", "x", "y")])
    assert paths(model) == ["f::Inner/relu", "f::Outer/Relu#2"]
    assert_hardened_everywhere(model, target, {"x": VALUES}, 0.5)


@EACH_TARGET
def test_an_if_in_a_function_is_searched(target: str) -> None:
    then = branch([node("Relu", "a", "t")], "t")
    other = branch([node("Neg", "a", "n"), node("Relu", "n", "e")], "e")
    body = [
        node("ReduceSum", "a", "s", keepdims=0),
        node("Constant", "", "zero", value_float=0.0),
        node("Greater", "s zero", "c"),
        node("If", "c", "b", "if", then_branch=then, else_branch=other),
    ]
    model = calling([function("F", "a", "b", body)], [call("F", "x", "y")])
    assert paths(model) == ["f::F/if/else_branch/Relu#1", "f::F/if/then_branch/Relu#0"]
    for x in (VALUES, -VALUES):
        assert_hardened_everywhere(model, target, {"x": x}, 0.5)


@EACH_TARGET
def test_a_function_with_attributes_of_its_own_is_converted(target: str) -> None:
    body = [node("LeakyRelu", "a", "l"), node("Relu", "l", "b", "relu")]
    reference = body[0].attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT)
    reference.ref_attr_name = "slope"
    model = calling(
        [function("F", "a", "b", body, attributes=["slope"])],
        [call("F", "x", "h", slope=-2.0), call("F", "h", "y", slope=0.5)],
    )
    assert paths(model) == ["f::F/relu"]
    result = hardened(model, **TARGETS[target])
    check(result)
    # -1 becomes 2 by the first slope; 0.5 is the jump.
    assert_same_but_for_the_sign_of_zero(run(result, {"x": VALUES})[0], np.array([2, 0, 0, 2], np.float32))


def test_an_element_type_that_hangs_on_an_attribute_of_the_call_is_found() -> None:
    body = [node("Cast", "a", "c"), node("Relu", "c", "r", "relu"), node("CastLike", "r a", "b")]
    reference = body[0].attribute.add(name="to", type=onnx.AttributeProto.INT)
    reference.ref_attr_name = "type"
    model = calling([function("F", "a", "b", body, attributes=["type"])], [call("F", "x", "y", type=int(DOUBLE))])
    (site,) = find_sites(model)
    assert site.element_type == DOUBLE
    result = hardened(model)
    check(result)
    assert_same_but_for_the_sign_of_zero(run(result, {"x": VALUES})[0], np.array([0, 0, 0, 2], np.float32))


def test_a_function_that_is_called_with_two_types_is_an_error_that_says_what_to_do() -> None:
    body = function("F", "a", "b", [node("Relu", "a", "b", "relu")])
    model = make_model(
        [call("F", "x", "y"), call("F", "v", "w")],
        [X, value("v", DOUBLE, [4])],
        [Y, value("w", DOUBLE, [4])],
        functions=[body],
        domains=["f"],
    )
    with pytest.raises(ModelError, match=r"node 'f::F/relu' \(Relu\): .*float and double.*inline_local_functions"):
        report_of(model)
    # What it recommends helps.
    inlined = onnx.inliner.inline_local_functions(model)
    assert len(report_of(inlined).sites) == 2
    # And so does leaving the node out.
    assert reasons(model, exclude=["f::F/relu"]) == {"f::F/relu": "`exclude` 'f::F/relu'"}


def test_a_function_that_is_called_with_two_shapes_has_one_jump_but_no_shape() -> None:
    body = function("F", "a", "b", [node("Relu", "a", "b", "relu")])
    model = make_model(
        [call("F", "x", "y"), call("F", "v", "w")],
        [X, value("v", FLOAT, [2, 3])],
        [Y, value("w", FLOAT, [2, 3])],
        functions=[body],
        domains=["f"],
    )
    (site,) = find_sites(model)
    assert (site.element_type, site.shape) == (FLOAT, None)
    check(hardened(model))
    with pytest.raises(OptionError, match=r"f::F/relu.*unknown rank"):
        report_of(model, (0.1, 0.2, 0.3))


def test_a_function_that_is_never_called_is_left_alone() -> None:
    unused = function("Unused", "a", "b", [node("Relu", "a", "b", "relu")])
    model = calling([unused], [node("Relu", "x", "y", "main")])
    assert paths(model) == ["main"]
    assert reasons(model) == {"f::Unused/relu": "its function is never called"}
    result = hardened(model)
    assert [f for f in result.functions if f.domain == "f"] == [unused]


def test_a_function_that_is_only_called_by_one_that_is_never_called_is_left_alone() -> None:
    inner = function("Inner", "a", "b", [node("Relu", "a", "b", "relu")])
    outer = function("Outer", "a", "b", [call("Inner", "a", "b")], calls=True)
    model = calling([inner, outer], [node("Relu", "x", "y", "main")])
    assert reasons(model) == {"f::Inner/relu": "its function is never called"}


def test_overloads_of_a_function_are_told_apart() -> None:
    floats = function("F", "a", "b", [node("Relu", "a", "b", "relu")])
    doubles = function("F", "a", "b", [node("Neg", "a", "n"), node("Relu", "n", "b", "relu")])
    floats.overload, doubles.overload = "float", "double"
    calls = [call("F", "x", "y"), call("F", "v", "w")]
    calls[0].overload, calls[1].overload = "float", "double"
    model = make_model(
        calls,
        [X, value("v", DOUBLE, [4])],
        [Y, value("w", DOUBLE, [4])],
        ir_version=10,
        functions=[floats, doubles],
        domains=["f"],
    )
    assert [(s.path, s.element_type) for s in find_sites(model)] == [
        ("f::F:float/relu", FLOAT),
        ("f::F:double/relu", DOUBLE),
    ]
    for options in TARGETS.values():
        check(hardened(model, **options))
