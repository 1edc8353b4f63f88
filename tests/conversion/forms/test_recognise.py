"""A JumpReLU that was written before is found again, in every form; what only looks like one is not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support import (
    BFLOAT16,
    DOUBLE,
    EACH_TARGET,
    FLOAT,
    FLOAT16,
    TARGETS,
    Array,
    assert_same_bits,
    function,
    hardened,
    make_model,
    newest_opset,
    node,
    relu_model,
    report_of,
    run,
    type_id,
    value,
)

from jr_onnx import find_sites
from jr_onnx.conversion.forms.recognise import Match, recognise
from jr_onnx.conversion.forms.table import ALL_FORMS, RELU_GREATER_EXPANDED, WHERE_EXPANDED, Form
from jr_onnx.conversion.graph.scopes import all_scopes
from jr_onnx.conversion.graph.wiring import Wiring
from jr_onnx.conversion.sites.matchers import SiteKind

X, Y = value("x", FLOAT, [4]), value("y", FLOAT, [4])
VALUES = np.array([-1, 0.25, 0.5, 2], np.float32)

#: Form -> a model that has it, hardened at 0.5.
WRITTEN = {
    "JumpReLU": hardened(relu_model(shape=(4,), opset=18), 0.5),
    "Where(LessOrEqual)": hardened(relu_model(shape=(4,), opset=18), 0.5, inline=True),
    "Where(LessOrEqual in float)": hardened(relu_model(BFLOAT16, shape=(4,), opset=18), 0.5, inline=True),
    "Where(Greater or IsNaN)": hardened(relu_model(shape=(4,), opset=11), 0.5, inline=True),
    "Relu*Greater": hardened(relu_model(shape=(4,), opset=18), 0.5, target="subgraph"),
    "ThresholdedRelu": hardened(relu_model(shape=(4,), opset=18), 0.5, target="standard"),
    "Relu*HardSigmoid": hardened(relu_model(shape=(4,), opset=18), 0.5, target="hard-sigmoid"),
}

#: What onnxruntime alone writes is tested in test_other_tools.py.
EACH_FORM = pytest.mark.parametrize(
    "form",
    [form for form in ALL_FORMS if form not in (WHERE_EXPANDED, RELU_GREATER_EXPANDED)],
    ids=lambda one: one.name,
)


def find(form: Form, model: onnx.ModelProto) -> list[Match]:
    """Where the form ends in the main graph."""
    wiring = Wiring(next(iter(all_scopes(model))), None)
    matches = (recognise(form, wiring, index) for index in range(len(model.graph.node)))
    return [match for match in matches if match is not None]


@EACH_FORM
def test_each_form_is_recognised_as_itself_and_as_no_other(form: Form) -> None:
    model = WRITTEN[form.name]
    (match,) = find(form, model)
    assert (match.x, match.y, match.rectified) == ("x", "y", False)
    assert match.nodes == tuple(range(len(model.graph.node)))
    assert model.graph.node[match.carrier].name == "relu"
    for other in ALL_FORMS:
        if other is not form:
            assert not [m for m in find(other, model) if not m.rectified]


@EACH_TARGET
@pytest.mark.parametrize("element_type", [FLOAT, FLOAT16, DOUBLE], ids=type_id)
@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 15, newest_opset()])
def test_what_is_written_at_any_opset_is_one_site_again(element_type: int, opset: int, target: str) -> None:
    model = hardened(relu_model(element_type, opset=opset), 0.5, **TARGETS[target])
    (site,) = find_sites(model)
    assert (site.kind, site.name, site.input, site.output) == (SiteKind.HARDENED, "relu", "x", "y")
    assert site.element_type == element_type


@EACH_TARGET
def test_in_a_function_it_is_found_again(target: str) -> None:
    body = function("F", "a", "b", [node("Neg", "a", "n"), node("Relu", "n", "b", "relu")])
    model = make_model([node("F", "x", "y", domain="f")], [X], [Y], functions=[body], domains=["f"])
    (site,) = find_sites(hardened(model, 0.5, **TARGETS[target]))
    assert (site.kind, site.name, site.scope.path) == (SiteKind.HARDENED, "relu", "f::F")


@EACH_TARGET
def test_nodes_in_another_order_are_the_same_form(target: str) -> None:
    # Against the specification, but onnxruntime sorts them.
    model = hardened(relu_model(shape=(4,)), 0.5, **TARGETS[target])
    turned = list(model.graph.node)[::-1]
    reordered = onnx.ModelProto()
    reordered.CopyFrom(model)
    del reordered.graph.node[:]
    reordered.graph.node.extend(turned)
    (site,) = find_sites(reordered)
    assert site.kind is SiteKind.HARDENED
    assert_same_bits(run(hardened(reordered, 1.0), {"x": VALUES})[0], np.array([0, 0, 0, 2], np.float32))


@pytest.mark.parametrize(("target", "inner"), [("inline", "y/mask"), ("subgraph", "y/above")])
def test_a_form_whose_inner_value_is_used_elsewhere_is_no_jump_relu(target: str, inner: str) -> None:
    model = hardened(relu_model(shape=(4,)), 0.5, **TARGETS[target])
    model.graph.output.append(value(inner, onnx.TensorProto.BOOL, [4]))
    assert all(site.kind is not SiteKind.HARDENED for site in find_sites(model))


@EACH_TARGET
def test_without_its_mark_and_our_names_only_the_operator_itself_is_a_jump_relu(target: str) -> None:
    # Whoever wrote the same standard operators by hand meant them; nobody writes a HardSigmoid of slope 2^100.
    model = hardened(relu_model(shape=(4,)), 0.5, **TARGETS[target])
    del model.metadata_props[:]
    for item in model.graph.node:
        del item.metadata_props[:]
        for names in (item.input, item.output):
            names[:] = [name.replace("jr_onnx.", "theirs.").replace("y/", "their_") for name in names]
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace("jr_onnx.", "theirs.")
    kinds = [site.kind for site in find_sites(model)]
    hard = [SiteKind.HARDENED]
    assert kinds == {"custom-op": hard, "hard-sigmoid": hard, "subgraph": [SiteKind.RELU]}.get(target, [])


def bounded_model() -> onnx.ModelProto:
    """A Relu, and behind it Where(r <= k, k, r): a lower bound, which JumpReLU's form resembles."""
    nodes = [
        node("Relu", "x", "r", "relu"),
        node("LessOrEqual", "r k", "below"),
        node("Where", "below k r", "y", "bound"),
    ]
    return make_model(nodes, [X], [Y], initializers={"k": np.float32(0.75)})


@EACH_TARGET
def test_a_lower_bound_is_no_jump_relu(target: str) -> None:
    original = bounded_model()
    once = hardened(original, 0.5, **TARGETS[target])
    assert [site.output for site in find_sites(once)] == ["r"]
    again = hardened(once, 0.5, **TARGETS[target])
    want = np.array([0.75, 0.75, 0.75, 2], np.float32)
    for model in (original, once, again):
        assert_same_bits(run(model, {"x": VALUES})[0], want)


@EACH_TARGET
def test_two_values_in_one_form_are_no_jump_relu(target: str) -> None:
    # Where(a <= k, 0, b): it compares one value and gives another.
    nodes = [
        node("Relu", "x", "a", "relu"),
        node("Neg", "a", "b"),
        node("LessOrEqual", "a k", "below"),
        node("Where", "below zero b", "y"),
    ]
    tensors = {"k": np.float32(0.75), "zero": np.float32(0)}
    once = hardened(make_model(nodes, [X], [Y], initializers=tensors), 0.5, **TARGETS[target])
    assert [site.output for site in find_sites(once)] == ["a"]


def relu_relu(first: bool, second: bool, **options: object) -> onnx.ModelProto:
    """Two Relu, one behind the other, of which some are converted."""
    model = make_model([node("Relu", "x", "h", "first"), node("Relu", "h", "y", "second")], [X], [Y])
    include = [name for name, wanted in (("first", first), ("second", second)) if wanted]
    return hardened(model, 0.5, include=include, **options)


@EACH_TARGET
def test_a_relu_in_front_of_a_jump_relu_is_still_a_site(target: str) -> None:
    model = relu_relu(False, True, **TARGETS[target])
    kinds = [(site.name, site.kind) for site in find_sites(model)]
    assert kinds == [("first", SiteKind.RELU), ("second", SiteKind.HARDENED)]
    assert len(report_of(model, 1.0, include=["first"], **TARGETS[target]).sites) == 1


@EACH_TARGET
def test_a_relu_behind_a_jump_relu_is_still_a_site(target: str) -> None:
    model = relu_relu(True, False, **TARGETS[target])
    kinds = [(site.name, site.kind) for site in find_sites(model)]
    assert kinds == [("first", SiteKind.HARDENED), ("second", SiteKind.RELU)]


def own_threshold() -> onnx.ModelProto:
    """A Relu, and a threshold that the model's author put there."""
    nodes = [node("Relu", "x", "h", "relu"), node("ThresholdedRelu", "h", "y", "own", alpha=1.5)]
    return make_model(nodes, [X], [Y])


@EACH_TARGET
def test_the_models_own_threshold_is_still_its_own_after_a_conversion(target: str) -> None:
    once = hardened(own_threshold(), 0.5, **TARGETS[target])
    assert [site.name for site in find_sites(once)] == ["relu"]


def test_a_jump_relu_that_someone_else_called_is_one() -> None:
    # The operator says what it is; no metadata needed.
    model = make_model(
        [node("JumpReLU", "x k", "y", "theirs", domain="jr_onnx")],
        [X],
        [Y],
        initializers={"k": np.float32(0.5)},
        domains=["jr_onnx"],
    )
    report = report_of(model, 1.0)
    assert [(site.path, site.op_type) for site in report.sites] == [("theirs", "jr_onnx.JumpReLU")]
    assert report.model is not None
    assert_same_bits(run(report.model, {"x": VALUES})[0], np.array([0, 0, 0, 2], np.float32))


def test_a_jump_that_other_nodes_read_is_not_changed_for_them() -> None:
    tensors: dict[str, Array] = {"k": np.asarray(0.5, np.float32)}
    nodes = [node("JumpReLU", "x k", "h", "jump", domain="jr_onnx"), node("Add", "h k", "y")]
    model = make_model(nodes, [X], [Y], initializers=tensors, domains=["jr_onnx"])
    got = run(hardened(model, 1.0), {"x": VALUES})[0]
    assert_same_bits(got, np.array([0.5, 0.5, 0.5, 2.5], np.float32))
