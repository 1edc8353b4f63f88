"""The element type and the shape of a value: declared, inferred, in functions, and behind operators of onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from support import BFLOAT16, DOUBLE, FLOAT, FLOAT16, branch, function, make_model, node, value

from jr_onnx.conversion.graph.scopes import all_scopes
from jr_onnx.conversion.graph.value_types import ValueType, ValueTypes

X, Y = value("x", FLOAT, [2, 3]), value("y", FLOAT, [2, 3])


def if_model(then: onnx.GraphProto, other: onnx.GraphProto) -> onnx.ModelProto:
    """An If named "if" that takes x from outside."""
    choose = node("If", "c", "y", "if", then_branch=then, else_branch=other)
    return make_model([choose], [X, value("c", onnx.TensorProto.BOOL, [])], [value("y", FLOAT)])


def lookup(model: onnx.ModelProto, path: str, name: str) -> tuple[ValueType, ...]:
    """The types of a value as seen from the scope with that path."""
    scopes = tuple(all_scopes(model))
    (scope,) = (s for s in scopes if s.path == path)
    return ValueTypes(model, scopes).lookup(scope, name)


def test_an_input_and_an_initializer_have_their_declared_types() -> None:
    model = make_model([node("Add", "x w", "y")], [X], [Y], initializers={"w": np.zeros((1, 3), np.float64)})
    assert lookup(model, "", "x") == (ValueType(FLOAT, (2, 3)),)
    assert lookup(model, "", "w") == (ValueType(DOUBLE, (1, 3)),)


def test_a_sparse_initializer_has_the_type_of_its_values() -> None:
    model = make_model([node("Add", "x w", "y")], [X], [Y])
    values = onnx.numpy_helper.from_array(np.ones(1, np.float16), "w")
    indices = onnx.numpy_helper.from_array(np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
    assert [t.element_type for t in lookup(model, "", "w")] == [FLOAT16]


def test_a_dimension_may_be_a_number_a_name_or_unknown() -> None:
    model = make_model([node("Relu", "x", "y")], [value("x", FLOAT, ["N", 3, None])], [Y])
    assert lookup(model, "", "x") == (ValueType(FLOAT, ("N", 3, None)),)


def test_a_scalar_has_rank_zero_and_an_unknown_rank_is_none() -> None:
    model = make_model([node("Add", "x s", "y")], [value("x", FLOAT), value("s", FLOAT, [])], [Y])
    assert lookup(model, "", "x") == (ValueType(FLOAT, None),)
    assert lookup(model, "", "s") == (ValueType(FLOAT, ()),)


def test_a_value_in_between_is_inferred() -> None:
    model = make_model(
        [node("Cast", "x", "h", to=int(DOUBLE)), node("Transpose", "h", "t"), node("Cast", "t", "y", to=int(FLOAT))],
        [X],
        [value("y", FLOAT)],
    )
    assert lookup(model, "", "t") == (ValueType(DOUBLE, (3, 2)),)


def test_nothing_is_known_behind_an_unknown_operator() -> None:
    model = make_model([node("Mystery", "x", "h", domain="mine"), node("Relu", "h", "y")], [X], [Y], domains=["mine"])
    assert lookup(model, "", "h") == ()


def test_a_shape_that_is_not_declared_is_inferred_even_if_the_type_is_declared() -> None:
    x, y = value("x", FLOAT, [2, 3]), value("y", FLOAT, [2, 3])
    model = make_model([node("Neg", "x", "h"), node("Relu", "h", "y")], [x], [y], value_info=[value("h", FLOAT)])
    assert lookup(model, "", "h") == (ValueType(FLOAT, (2, 3)),)


def test_inference_that_gives_up_leaves_what_is_declared() -> None:
    # The declared shapes contradict each other, at which ONNX's inference raises.
    nodes = [node("Add", "x bad", "h"), node("Relu", "x", "g"), node("Relu", "h", "y")]
    model = make_model(nodes, [X, value("bad", FLOAT, [7])], [Y])
    assert lookup(model, "", "x") == (ValueType(FLOAT, (2, 3)),)
    assert lookup(model, "", "h") in ((), (ValueType(FLOAT, None),))


def test_a_body_sees_the_values_of_the_scopes_around_it() -> None:
    other = branch([node("Cast", "x", "d", to=int(DOUBLE)), node("Cast", "d", "e", to=int(FLOAT))], "e")
    model = if_model(branch([node("Relu", "x", "t")], "t"), other)
    assert lookup(model, "if/then_branch", "x") == (ValueType(FLOAT, (2, 3)),)
    assert [t.element_type for t in lookup(model, "if/else_branch", "d")] == [DOUBLE]


def test_a_value_of_a_body_is_not_seen_outside() -> None:
    model = if_model(branch([node("Relu", "x", "t")], "t"), branch([node("Relu", "x", "e")], "e"))
    assert lookup(model, "", "t") == ()


def test_the_scopes_are_searched_outwards_at_any_depth() -> None:
    inner = node(
        "If",
        "c",
        "deep",
        "inner",
        then_branch=branch([node("Relu", "m", "t")], "t"),
        else_branch=branch([node("Neg", "x", "f")], "f"),
    )
    model = if_model(branch([node("Neg", "x", "m"), inner], "deep"), branch([node("Neg", "x", "e")], "e"))
    assert lookup(model, "if/then_branch/inner/then_branch", "m") == (ValueType(FLOAT, (2, 3)),)
    assert lookup(model, "if/then_branch/inner/then_branch", "x") == (ValueType(FLOAT, (2, 3)),)
    assert lookup(model, "if/then_branch/inner/else_branch", "t") == ()


def functions_model(*calls: onnx.NodeProto, inputs: list[onnx.ValueInfoProto] | None = None) -> onnx.ModelProto:
    """Calls of f::Double(a) = Relu(a + a) and of f::Outer(a) = f::Double(a); each call's output is an output."""
    double = function("Double", "a", "b", [node("Add", "a a", "s"), node("Relu", "s", "b")])
    outer = function("Outer", "p", "q", [node("Double", "p", "q", domain="f")], calls=True)
    outputs = [onnx.ValueInfoProto(name=name) for call in calls for name in call.output]
    return make_model(calls, inputs or [X], outputs, functions=[double, outer], domains=["f"])


def test_a_value_in_a_function_has_the_type_of_the_call() -> None:
    model = functions_model(node("Double", "x", "y", domain="f"))
    assert lookup(model, "f::Double", "s") == (ValueType(FLOAT, (2, 3)),)


def test_a_function_that_is_called_with_two_types_has_two() -> None:
    calls = [node("Double", "x", "y", domain="f"), node("Double", "v", "w", domain="f")]
    model = functions_model(*calls, inputs=[X, value("v", FLOAT16, [5])])
    assert lookup(model, "f::Double", "s") == (ValueType(FLOAT, (2, 3)), ValueType(FLOAT16, (5,)))


def test_calls_inside_functions_are_followed() -> None:
    model = functions_model(node("Outer", "x", "y", domain="f"))
    assert lookup(model, "f::Double", "s") == (ValueType(FLOAT, (2, 3)),)


def test_a_call_of_a_calls_output_has_a_type() -> None:
    model = functions_model(node("Double", "x", "h", domain="f"), node("Outer", "h", "y", domain="f"))
    assert lookup(model, "", "h") == (ValueType(FLOAT, (2, 3)),)
    assert lookup(model, "f::Outer", "q") == (ValueType(FLOAT, (2, 3)),)


def is_called(model: onnx.ModelProto) -> dict[str, bool]:
    scopes = tuple(all_scopes(model))
    types = ValueTypes(model, scopes)
    return {scope.path: types.is_called(scope) for scope in scopes}


def test_which_functions_are_called_at_any_remove() -> None:
    assert is_called(functions_model(node("Double", "x", "y", domain="f"))) == {
        "": True,
        "f::Double": True,
        "f::Outer": False,
    }
    assert all(is_called(functions_model(node("Outer", "x", "y", domain="f"))).values())


def test_a_body_in_a_function_that_is_not_called_is_not_called() -> None:
    inner = branch([node("Relu", "a", "t")], "t")
    body = [node("Constant", "", "c", value=onnx.numpy_helper.from_array(np.bool_(True)))]
    body.append(node("If", "c", "b", "if", then_branch=inner, else_branch=inner))
    model = make_model([node("Relu", "x", "y")], [X], [Y], functions=[function("F", "a", "b", body)], domains=["f"])
    assert is_called(model) == {
        "": True,
        "f::F": False,
        "f::F/if/then_branch": False,
        "f::F/if/else_branch": False,
    }


MICROSOFT = "com.microsoft"


@pytest.mark.parametrize(
    ("op", "inputs", "shape"),
    [("FusedConv", "x w", (1, 4, 6, 6)), ("FusedConv", "x w b", (1, 4, 6, 6)), ("FusedConv", "x w b z", (1, 4, 6, 6))],
)
def test_a_fused_convolution_has_the_type_of_a_convolution(op: str, inputs: str, shape: tuple[int, ...]) -> None:
    model = make_model(
        [node(op, inputs, "h", domain=MICROSOFT, activation="Relu"), node("Identity", "h", "y")],
        [value("x", FLOAT, [1, 3, 8, 8]), value("z", FLOAT, [1, 4, 6, 6])],
        [value("y", FLOAT)],
        initializers={"w": np.zeros((4, 3, 3, 3), np.float32), "b": np.zeros(4, np.float32)},
        domains=[MICROSOFT],
    )
    assert lookup(model, "", "h") == (ValueType(FLOAT, shape),)


def test_a_fused_matrix_product_has_the_type_of_a_matrix_product() -> None:
    model = make_model(
        [node("FusedGemm", "x w b", "h", domain=MICROSOFT, activation="Relu", transB=1), node("Identity", "h", "y")],
        [X],
        [value("y", FLOAT)],
        initializers={"w": np.zeros((5, 3), np.float32), "b": np.zeros(5, np.float32)},
        domains=[MICROSOFT],
    )
    assert lookup(model, "", "h") == (ValueType(FLOAT, (2, 5)),)


def test_what_is_looked_up_changes_nothing_in_the_model() -> None:
    model = functions_model(node("Outer", "x", "y", domain="f"))
    before = model.SerializeToString(deterministic=True)
    lookup(model, "f::Double", "s")
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("element_type", [FLOAT16, BFLOAT16, FLOAT, DOUBLE])
def test_every_element_type_is_inferred_through_a_relu(element_type: int) -> None:
    model = make_model(
        [node("Neg", "x", "n"), node("Relu", "n", "r"), node("Neg", "r", "y")],
        [value("x", element_type, [4])],
        [value("y", element_type)],
    )
    assert lookup(model, "", "r") == (ValueType(element_type, (4,)),)
