"""The element type behind operators that ONNX's shape inference does not know, and of what is no tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.capi import onnxruntime_pybind11_state as native
from support import DOUBLE, FLOAT, FLOAT16, INT64, function, make_model, node, value

from jr_onnx import ModelError, convert, find_sites
from jr_onnx.conversion.graph.scopes import all_scopes
from jr_onnx.conversion.graph.stand_ins import TABLE, StandIn
from jr_onnx.conversion.graph.value_types import ValueType, ValueTypes

MICROSOFT = "com.microsoft"


def types_behind(op: onnx.NodeProto, inputs: dict[str, int], opset: int = 16, shape: Any = (2, 3)) -> list[ValueType]:
    """What is known of the outputs of an operator whose inputs have these types."""
    listed = [value(name, element_type, shape) for name, element_type in inputs.items()]
    model = make_model([op, node("Relu", op.output[0], "y")], listed, [onnx.ValueInfoProto(name="y")], opset=opset)
    if op.domain:
        model.opset_import.add(domain=op.domain, version=1)
    scopes = tuple(all_scopes(model))
    return [found for name in op.output for found in ValueTypes(model, scopes).lookup(scopes[0], name)]


@pytest.mark.parametrize("element_type", [FLOAT, FLOAT16])
@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("MatMulNBits", "x packed scales"),
        ("FusedMatMul", "x w"),
        ("NhwcFusedConv", "x w"),
        ("MultiHeadAttention", "x w v"),
    ],
)
def test_an_operator_of_onnxruntime_hands_on_the_type_of_its_input(op: str, inputs: str, element_type: int) -> None:
    given = dict.fromkeys(inputs.split(), element_type) | {"packed": onnx.TensorProto.UINT8}
    assert types_behind(node(op, inputs, "h", domain=MICROSOFT), given) == [ValueType(element_type, None)]


@pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_behind_a_layer_normalization_with_a_skip_the_shape_is_known_too(op: str) -> None:
    found = types_behind(
        node(op, "x skip g", "h - - sum", domain=MICROSOFT), dict.fromkeys(["x", "skip", "g"], FLOAT16)
    )
    assert found == [ValueType(FLOAT16, (2, 3))] * 2


@pytest.mark.parametrize("op", ["LayerNormalization", "SimplifiedLayerNormalization"])
def test_a_layer_normalization_older_than_onnxs_own_is_typed_like_its_scale(op: str) -> None:
    assert types_behind(node(op, "x g", "h"), {"x": FLOAT, "g": FLOAT16}) == [ValueType(FLOAT16, (2, 3))]


def test_the_layer_normalization_of_onnx_is_left_to_onnx() -> None:
    found = types_behind(node("LayerNormalization", "x g", "h mean"), {"x": FLOAT16, "g": FLOAT16}, opset=17)
    assert found == [ValueType(FLOAT16, (2, 3)), ValueType(FLOAT, (2, 1))]


def test_a_version_beyond_32_bits_is_unknown_as_others_are() -> None:
    model = make_model([node("Mystery", "x", "h", domain="mine"), node("Relu", "h", "y")], [value("x")], [value("y")])
    model.opset_import.add(domain="mine", version=2**40)
    assert [site.element_type for site in find_sites(model)] == [FLOAT]


def test_channels_that_the_blocked_layout_pads_are_not_those_outside_of_it() -> None:
    """Three channels are eight in there; taken for eight behind it too, the Mul would have no type."""
    nodes = [
        node("ReorderInput", "x", "b", domain="com.microsoft.nchwc"),
        node("Conv", "b w", "c", domain="com.microsoft.nchwc"),
        node("ReorderOutput", "c", "p", domain="com.microsoft.nchwc", channels=3),
        node("Mul", "x p", "m"),
        node("Relu", "m", "r", "relu"),
        node("Neg", "r", "y"),
    ]
    shape = [1, 3, 4, 4]
    weights = {"w": np.ones((8, 8, 1, 1), np.float32)}
    x, y = value("x", FLOAT, shape), value("y", FLOAT, shape)
    model = make_model(nodes, [x], [y], initializers=weights, domains=["com.microsoft.nchwc"])
    assert [site.element_type for site in find_sites(model)] == [FLOAT]


def test_a_dequantizer_of_onnxruntime_is_typed_like_its_scale() -> None:
    op = node("DequantizeLinear", "q s", "h", domain=MICROSOFT)
    assert types_behind(op, {"q": onnx.TensorProto.UINT16, "s": FLOAT16}) == [ValueType(FLOAT16, None)]


@pytest.mark.parametrize("op", ["Scaler", "Normalizer", "LinearRegressor"])
def test_operators_of_onnx_ml_give_float(op: str) -> None:
    assert types_behind(node(op, "x", "h", domain="ai.onnx.ml"), {"x": INT64}) == [ValueType(FLOAT, None)]


def test_a_quantizer_of_onnxruntime_is_typed_like_its_zero_point() -> None:
    op = node("QuantizeLinear", "x s z", "h", domain=MICROSOFT)
    found = types_behind(op, {"x": FLOAT, "s": FLOAT, "z": onnx.TensorProto.UINT16})
    assert found == [ValueType(onnx.TensorProto.UINT16, (2, 3))]


@pytest.mark.parametrize("op", ["JumpReLU", "AddJumpReLU"])
def test_our_own_operators_are_known_without_their_function(op: str) -> None:
    inputs = "x x k" if op == "AddJumpReLU" else "x k"
    found = types_behind(node(op, inputs, "h", domain="jr_onnx"), {"x": DOUBLE, "k": DOUBLE})
    assert found == [ValueType(DOUBLE, (2, 3))]


def test_a_function_of_the_model_comes_before_the_operator_of_the_same_name() -> None:
    body = [node("Cast", "a", "b", to=int(DOUBLE))]
    gelu = helper.make_function(MICROSOFT, "Gelu", ["a"], ["b"], body, [helper.make_opsetid("", 18)])
    nodes = [node("Gelu", "x", "h", domain=MICROSOFT), node("Relu", "h", "y", "relu")]
    outputs = [onnx.ValueInfoProto(name="y")]
    model = make_model(nodes, [value("x", FLOAT, [4])], outputs, functions=[gelu], domains=[MICROSOFT])
    assert [site.element_type for site in find_sites(model)] == [DOUBLE]


def test_types_are_known_behind_such_operators_in_bodies_and_functions() -> None:
    bits = node("MatMulNBits", "a packed scales", "h", domain=MICROSOFT)
    then = helper.make_graph([bits, node("Relu", "h", "t", "relu")], "then", [], [onnx.ValueInfoProto(name="t")])
    other = helper.make_graph([node("Neg", "a", "e")], "else", [], [onnx.ValueInfoProto(name="e")])
    choose = node("If", "c", "b", "if", then_branch=then, else_branch=other)
    inner = function("F", "a packed scales c", "b", [choose])
    inner.opset_import.add(domain=MICROSOFT, version=1)
    inputs = [value("x", FLOAT16, [2, 3]), value("p", onnx.TensorProto.UINT8), value("s", FLOAT16)]
    model = make_model(
        [node("F", "x p s c", "y", domain="f")],
        [*inputs, value("c", onnx.TensorProto.BOOL, [])],
        [value("y", FLOAT16)],
        functions=[inner],
        domains=["f", MICROSOFT],
    )
    assert [(site.path, site.element_type) for site in find_sites(model)] == [("f::F/if/then_branch/relu", FLOAT16)]


def schemas() -> dict[tuple[str, str], Any]:
    """The newest schema of each operator of the onnxruntime that is installed."""
    found: dict[tuple[str, str], Any] = {}
    for schema in native.get_all_operator_schema():
        key = (schema.domain, schema.name)
        if key not in found or found[key].since_version < schema.since_version:
            found[key] = schema
    return found


def test_the_table_says_what_onnxruntimes_schemas_say() -> None:
    known, compared = schemas(), 0
    for key, stand_ins in TABLE.items():
        if key not in known or key[0] in ("", "ai.onnx.ml"):
            continue
        inputs, outputs = list(known[key].inputs), list(known[key].outputs)
        for stand_in, output in zip(stand_ins, outputs, strict=False):
            if isinstance(stand_in, StandIn) and stand_in.inputs[0] is not None:
                typed_by = stand_in.inputs[-1 if stand_in.op_type == "QuantizeLinear" else 0]
                assert inputs[typed_by].typeStr == output.typeStr, key
                compared += 1
    assert compared > 60


SEQUENCES = {
    "sequence": [node("SequenceConstruct", "x x2", "s")],
    "optional": [node("Optional", "x", "s")],
}


@pytest.mark.parametrize("kind", SEQUENCES)
def test_the_type_of_what_is_no_tensor_gets_into_a_function(kind: str) -> None:
    """onnxscript writes functions like that for torch.cat and torch.stack."""
    take = node("ConcatFromSequence", "s", "c", axis=0) if kind == "sequence" else node("OptionalGetElement", "s", "c")
    inner = function("Take", "s", "b", [take, node("Relu", "c", "b", "relu")])
    outer = function("Outer", "s", "b", [node("Take", "s", "b", domain="f")], calls=True)
    model = make_model(
        [*SEQUENCES[kind], node("Outer", "s", "y", "call", domain="f")],
        [value("x", FLOAT, ["N", 4]), value("x2", FLOAT, ["M", 4])],
        [value("y", FLOAT, ["K", 4])],
        functions=[inner, outer],
        domains=["f"],
    )
    (site,) = convert(model, jump=0.5).sites
    assert (site.path, site.element_type) == ("f::Take/relu", "float")


def test_what_is_no_tensor_has_no_element_type() -> None:
    model = make_model([node("SequenceConstruct", "x", "s")], [value("x", FLOAT, [4])], [onnx.ValueInfoProto(name="s")])
    scopes = tuple(all_scopes(model))
    assert ValueTypes(model, scopes).lookup(scopes[0], "s") == ()
    assert np.all([site.element_type for site in find_sites(model)])


def test_the_advice_for_an_unknown_type_in_a_function_helps() -> None:
    body = [node("Mystery", "a", "h", domain="mine"), node("Neg", "h", "n"), node("Relu", "n", "b", "relu")]
    inner = function("F", "a", "b", body)
    inner.opset_import.add(domain="mine", version=1)
    ends = [value("x", FLOAT, [4])], [value("y", FLOAT, [4])]
    model = make_model(
        [node("F", "x", "y", domain="f")], *ends, functions=[inner], domains=["f", "mine"], ir_version=10
    )
    with pytest.raises(ModelError, match="cannot be inferred; add it to the function's value_info"):
        convert(model, jump=0.5)
    model.functions[0].value_info.append(value("h", FLOAT16, [4]))
    assert [site.element_type for site in find_sites(model)] == [FLOAT16]
