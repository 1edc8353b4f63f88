"""What is a Relu by another name, and what looks like a Relu and is left alone, with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from site_models import X, Y, call, calling, paths, reasons
from support import (
    BOOL,
    DOUBLE,
    EACH_TARGET,
    FLOAT,
    INT64,
    TARGETS,
    assert_same_but_for_the_sign_of_zero,
    branch,
    check,
    function,
    hardened,
    make_model,
    node,
    relu_model,
    report_of,
    run,
    value,
)

from jr_onnx import ModelError, find_sites, inspect
from jr_onnx.conversion.sites.matchers import SiteKind

# --- what is left alone, and what is an error -------------------------------------------------------------------------


@pytest.mark.parametrize("element_type", [onnx.TensorProto.INT8, onnx.TensorProto.INT32, INT64])
def test_an_integer_relu_is_left_alone(element_type: int) -> None:
    nodes = [node("Relu", "i", "j", "integer"), node("Relu", "x", "y", "float")]
    model = make_model(nodes, [value("i", element_type, [4]), X], [value("j", element_type, [4]), Y])
    report = report_of(model)
    assert [site.path for site in report.sites] == ["float"]
    name = onnx.TensorProto.DataType.Name(element_type).lower()
    assert [(left.path, left.reason) for left in report.left_alone] == [("integer", f"{name} is not floating point")]


def unknown_type_model() -> onnx.ModelProto:
    """A Relu behind an operator that nobody knows, and another one."""
    nodes = [
        node("Mystery", "x", "h", domain="mine"),
        node("Relu", "h", "r", "layer1/relu"),
        node("Mystery", "r", "s", domain="mine"),
        node("Relu", "x", "y", "known"),
    ]
    return make_model(nodes, [X], [Y], domains=["mine"])


def test_an_unknown_element_type_is_an_error_that_names_the_node() -> None:
    with pytest.raises(ModelError, match=r"node 'layer1/relu' \(Relu\): the element type of 'h' cannot be inferred"):
        report_of(unknown_type_model())


def test_a_node_of_unknown_element_type_can_be_excluded() -> None:
    report = report_of(unknown_type_model(), exclude=["layer1/*"])
    assert [site.path for site in report.sites] == ["known"]


def test_value_info_makes_an_unknown_element_type_known() -> None:
    model = unknown_type_model()
    model.graph.value_info.append(value("h", DOUBLE, [4]))
    types = {site.path: site.element_type for site in find_sites(model)}
    assert types == {"layer1/relu": DOUBLE, "known": FLOAT}


def test_a_declared_type_of_the_output_is_enough() -> None:
    model = unknown_type_model()
    model.graph.value_info.append(value("r", DOUBLE))
    (site, _) = find_sites(model)
    assert (site.element_type, site.shape) == (DOUBLE, None)


def test_the_models_own_threshold_is_left_alone() -> None:
    nodes = [node("ThresholdedRelu", "x", "h", "own", alpha=2.0), node("Relu", "h", "y")]
    model = make_model(nodes, [X], [Y])
    assert reasons(model) == {"own": "the model's own threshold: alpha = 2"}
    assert hardened(model).graph.node[0] == nodes[0]


@pytest.mark.parametrize("bound", [0.5, -1.0])
def test_a_maximum_with_anything_else_is_not_reported(bound: float) -> None:
    model = make_model([node("Max", "x k", "y")], [X], [Y], initializers={"k": np.float32(bound)})
    assert not reasons(model)


def test_the_maximum_of_two_values_is_not_reported() -> None:
    assert not reasons(make_model([node("Max", "x x", "y")], [X], [Y]))


# --- Clip -------------------------------------------------------------------------------------------------------------


def clip_model(kind: str, minimum: float | None, element_type: int = FLOAT) -> onnx.ModelProto:
    """Clip(minimum, 6) with its bounds as attributes, initializers, or Constant nodes."""
    dtype = helper.tensor_dtype_to_np_dtype(element_type)
    x, y = value("x", element_type, [4]), value("y", element_type, [4])
    if kind == "attribute":
        bounds = {"max": 6.0} | ({} if minimum is None else {"min": minimum})
        return make_model([node("Clip", "x", "y", "clip", **bounds)], [x], [y], opset=10)
    clip = node("Clip", "x - hi" if minimum is None else "x lo hi", "y", "clip")
    bounds = {"hi": np.asarray(6, dtype)} | ({} if minimum is None else {"lo": np.asarray(minimum, dtype)})
    if kind == "initializer":
        return make_model([clip], [x], [y], opset=13, initializers=bounds)
    if kind == "Constant":
        constants = [node("Constant", "", name, value=onnx.numpy_helper.from_array(b)) for name, b in bounds.items()]
    else:
        constants = [node("Constant", "", name, value_float=float(b)) for name, b in bounds.items()]
    return make_model([*constants, clip], [x], [y], opset=13)


EACH_CLIP = pytest.mark.parametrize("kind", ["attribute", "initializer", "Constant", "value_float"])


@EACH_CLIP
@EACH_TARGET
@pytest.mark.parametrize("minimum", [0.0, -0.0])
def test_a_clip_from_zero_gets_a_jump_relu_behind_it_if_asked_for(kind: str, target: str, minimum: float) -> None:
    model = clip_model(kind, minimum)
    (site,) = find_sites(model)
    assert (site.kind, site.path) == (SiteKind.CLIP, "clip")
    result = hardened(model, 1.0, clip=True, **TARGETS[target])
    check(result)
    x = np.array([-1, 1, 2, 9], np.float32)
    assert_same_but_for_the_sign_of_zero(run(result, {"x": x})[0], np.array([0, 0, 2, 6], np.float32))


@EACH_CLIP
def test_a_clip_is_left_alone_unless_asked_for(kind: str) -> None:
    assert reasons(clip_model(kind, 0.0)) == {"clip": "a Clip is converted with `clip=True` only"}


@EACH_CLIP
@pytest.mark.parametrize("minimum", [None, -1.0, 0.5])
def test_a_clip_from_anywhere_else_is_no_relu(kind: str, minimum: float | None) -> None:
    model = clip_model(kind, minimum)
    assert not find_sites(model)
    assert not reasons(model, clip=True)


def test_a_clip_whose_minimum_is_computed_is_left_alone() -> None:
    model = make_model([node("Clip", "x lo", "y", "clip")], [X, value("lo", FLOAT, [])], [Y])
    assert reasons(model, clip=True) == {"clip": "its minimum is not a constant"}


def test_a_clip_whose_minimum_comes_from_the_scope_outside_is_seen() -> None:
    then = branch([node("Clip", "x lo hi", "t", "clip")], "t")
    other = branch([node("Identity", "x", "e")], "e")
    model = make_model(
        [node("If", "c", "y", "if", then_branch=then, else_branch=other)],
        [X, value("c", BOOL, [])],
        [Y],
        initializers={"lo": np.float32(0), "hi": np.float32(6)},
    )
    assert paths(model) == ["if/then_branch/clip"]


def test_a_clip_whose_minimum_is_an_attribute_of_the_call_is_no_site() -> None:
    body = [node("Clip", "a", "b", "clip", max=6.0)]
    body[0].attribute.add(name="min", type=onnx.AttributeProto.FLOAT).ref_attr_name = "low"
    model = calling([function("F", "a", "b", body, opset=10, attributes=["low"])], [call("F", "x", "y", low=-1.0)], 10)
    assert not find_sites(model)
    assert reasons(model, clip=True) == {"f::F/clip": "its minimum is not a constant"}


def test_an_integer_clip_is_left_alone() -> None:
    model = clip_model("initializer", 0, onnx.TensorProto.INT8)
    assert reasons(model, clip=True) == {"clip": "int8 is not floating point"}


# --- constants that are not read --------------------------------------------------------------------------------------


def constant_model(op_type: str, tensor: onnx.TensorProto, **options: Any) -> onnx.ModelProto:
    """The node of two inputs whose other one is this constant."""
    model = make_model([node(op_type, "x k", "y", "act")], [X], [Y], **options)
    tensor.name = "k"
    model.graph.initializer.append(tensor)
    return model


DAMAGED = onnx.TensorProto(data_type=FLOAT, dims=[4], raw_data=b"123")
ELSEWHERE = onnx.TensorProto(data_type=FLOAT, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
ELSEWHERE.external_data.add(key="location", value="data")
TEXT = onnx.TensorProto(data_type=onnx.TensorProto.STRING, dims=[1], string_data=[b"0"])


@pytest.mark.parametrize(
    ("tensor", "why"),
    [(DAMAGED, "too large to be read, or damaged"), (ELSEWHERE, "in another file"), (TEXT, "")],
    ids=["damaged", "in another file", "text"],
)
def test_why_a_constant_is_not_read_is_said(tensor: onnx.TensorProto, why: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(16))
    for op_type, reason in (
        ("Max", f"Max with a constant that is {why}; where it is 0, this is a Relu"),
        ("PRelu", f"no ReLU: its slopes below 0 are {why or 'no constants'}"),
        ("Clip", f"its minimum is {why or 'not a constant'}"),
    ):
        onnx.save(constant_model(op_type, tensor), tmp_path / "model.onnx")
        found = [one.how for one in inspect(tmp_path / "model.onnx").nodes]
        assert found == ([] if op_type == "Max" and not why else [reason])


# --- what inspect says of all this ------------------------------------------------------------------------------------


def test_inspect_lists_what_is_converted_and_what_is_not() -> None:
    model = unknown_type_model()
    model.graph.node.append(node("ThresholdedRelu", "x", "z", "own"))
    report = inspect(model)
    assert {n.path: n.converted for n in report.nodes} == {"layer1/relu": False, "known": True, "own": False}
    assert "cannot be inferred" in report.nodes[0].how
    assert (report.nodes[1].element_type, report.nodes[1].shape, report.nodes[1].opset) == ("float", (4,), 18)


def test_inspect_says_that_an_opset_is_too_old() -> None:
    (found,) = inspect(relu_model(opset=6)).nodes
    assert not found.converted
    assert "opset 6" in found.how


def test_the_scope_of_a_node_is_not_taken_from_slashes_in_its_name() -> None:
    nodes = [node("Relu", "x", "h", "/layer1/Relu"), node("ThresholdedRelu", "h", "y", "/layer2/Own")]
    assert [n.scope for n in inspect(make_model(nodes, [X], [Y])).nodes] == ["", ""]
