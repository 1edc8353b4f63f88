"""What a graph must be before it is worth an edit, and what it may be all the same."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
import strange_models
from hypothesis import given
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, NodeProto, helper
from support import BACKEND_DATA, SHIPPED, make_model, node, value

from jr_onnx.conversion.graph.names import defined_names, used_names
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.errors import ModelError

REAL = [*SHIPPED, *sorted(BACKEND_DATA.rglob("*.onnx"))]


def graph(nodes: Sequence[NodeProto], inputs: str = "", outputs: str = "") -> GraphProto:
    """A body; its inputs and outputs are words of a text."""
    return helper.make_graph(
        list(nodes), "body", [value(n) for n in inputs.split()], [value(n) for n in outputs.split()]
    )


def model(*nodes: NodeProto, inputs: str = "x", outputs: str = "y", functions: Sequence[str] = ()) -> ModelProto:
    """A model; each function is its name, and the operators that it calls one after the other."""
    made = []
    for words in functions:
        name, *calls = words.split()
        names = ["x", *(f"v{number}" for number in range(len(calls)))]
        domains = ["" if op == "Relu" else "f" for op in calls]
        chain = [node(op, names[i], names[i + 1], domain=domains[i]) for i, op in enumerate(calls)]
        chain.append(node("Identity", names[-1], "y"))
        made.append(helper.make_function("f", name, ["x"], ["y"], chain, [helper.make_opsetid("", 18)]))
    return make_model(nodes, map(value, inputs.split()), map(value, outputs.split()), functions=made)


def complaint(checked: ModelProto) -> str:
    with pytest.raises(ModelError) as raised:
        check_structure(checked)
    text = str(raised.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("path", REAL, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_real_model_passes(path: Path) -> None:
    check_structure(onnx.load(path, load_external_data=False))


def test_a_model_with_everything_passes() -> None:
    check_structure(strange_models.everything())


# --- allowed ----------------------------------------------------------------------------------------------------------


@given(st.permutations(range(8)))
def test_nodes_may_stand_in_any_order(order: list[int]) -> None:
    chain = [node("Relu", f"v{i}" if i else "x", f"v{i + 1}" if i < 7 else "y") for i in range(8)]
    check_structure(model(*(chain[i] for i in order)))


def test_a_body_may_take_values_from_all_scopes_around_it() -> None:
    inner = graph([node("Add", "x middle", "z")], outputs="z")
    outer = graph([node("Neg", "x", "middle"), node("If", "x", "w", then_branch=inner)], outputs="w")
    check_structure(model(node("If", "x", "y", then_branch=outer)))


def test_a_body_may_take_a_value_whose_node_stands_further_down() -> None:
    body = graph([node("Relu", "later", "z")], outputs="z")
    check_structure(model(node("If", "x", "y", then_branch=body), node("Neg", "x", "later")))


def test_a_body_may_give_a_value_from_outside() -> None:
    check_structure(model(node("If", "x", "y", then_branch=graph([], outputs="x"))))


def test_a_name_in_a_body_may_hide_one_outside() -> None:
    body = graph([node("Relu", "x", "y")], inputs="x", outputs="y")
    check_structure(model(node("Loop", "x x", "y", body=body)))


def test_bodies_side_by_side_may_use_the_same_names() -> None:
    one, other = (graph([node(op, "x", "z")], outputs="z") for op in ("Relu", "Neg"))
    check_structure(model(node("If", "x", "y", then_branch=one, else_branch=other)))


def test_a_value_that_hides_the_output_around_it_is_no_circle() -> None:
    # The If gives y, and its branch has a y of its own that it takes itself.
    body = graph([node("Neg", "x", "y"), node("Relu", "y", "z")], outputs="z")
    check_structure(model(node("If", "x", "y", then_branch=body)))


def test_inputs_and_outputs_may_be_left_out() -> None:
    check_structure(model(node("Clip", "x - x", "y"), helper.make_node("Dropout", ["x"], ["", "z", ""])))
    assert list(used_names(node("Clip", "x - x", "y"))) == ["x", "x"]


def test_nodes_may_have_the_same_name_and_none() -> None:
    check_structure(model(*(node("Relu", "x", name, "same") for name in "yzw"), node("Neg", "x", "v")))


def test_initializers_dense_and_sparse_may_be_inputs_and_need_not_be() -> None:
    checked = model(node("Sum", "a b c", "y"), inputs="x a")
    for name in "ab":
        checked.graph.initializer.add(name=name)
    checked.graph.sparse_initializer.add().values.name = "c"
    check_structure(checked)
    assert sorted(defined_names(checked.graph)) == ["a", "a", "b", "c", "x", "y"]


def test_functions_may_call_each_other_in_any_order() -> None:
    check_structure(model(node("A", "x", "y", domain="f"), functions=["A B C", "B C", "C Relu"]))


def test_functions_of_the_same_name_in_other_domains_and_overloads_are_others() -> None:
    checked = model(node("A", "x", "y", domain="f"), functions=["A A", "A Relu"])
    checked.functions[0].node[0].domain = "g"
    checked.functions[1].domain = "g"
    check_structure(checked)
    checked.functions[1].domain = "f"
    checked.functions[1].overload = "other"
    checked.functions[0].node[0].domain, checked.functions[0].node[0].overload = "f", "other"
    check_structure(checked)


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "where"),
    [
        ([node("Relu", "y", "y", "self")], "node 'self' (Relu): depends on its own output"),
        (
            [node("Relu", "b", "a"), node("Neg", "a", "b"), node("Neg", "x", "y")],
            "node 'Relu#0' (Relu): depends on its own",
        ),
        (
            [node("Neg", "x", "y"), node("Neg", "c", "a"), node("Neg", "a", "b"), node("Neg", "b", "c")],
            "node 'Neg#1' (Neg)",
        ),
        (
            [node("If", "x", "y", "loop", then_branch=graph([node("Relu", "y", "z")], outputs="z"))],
            "node 'loop' (If): depends on its own output",
        ),
        (
            [node("If", "x", "a", "if", then_branch=graph([], outputs="y")), node("Neg", "a", "y")],
            "node 'if' (If): depends on its own output",
        ),
        (
            [
                node(
                    "If",
                    "x",
                    "y",
                    "if",
                    then_branch=graph([node("Neg", "b", "a", "inner"), node("Neg", "a", "b")], outputs="b"),
                )
            ],
            "node 'if/then_branch/inner' (Neg): depends on its own output",
        ),
    ],
)
def test_a_circle_is_refused_with_the_first_node_in_it(nodes: list[NodeProto], where: str) -> None:
    assert complaint(model(*nodes)).startswith(where)


def test_a_circle_through_bodies_at_any_depth_is_refused() -> None:
    body = graph([node("Relu", "y", "z")], outputs="z")
    for depth in range(5):
        body = graph([node("If", "x", f"w{depth}", then_branch=body)], outputs=f"w{depth}")
    assert "depends on its own output" in complaint(
        model(node("If", "x", "a", then_branch=body), node("Neg", "a", "y"))
    )


@pytest.mark.parametrize(
    ("checked", "message"),
    [
        (model(node("Relu", "x", "y"), node("Neg", "x", "y", "n")), "node 'n' (Neg): value 'y' is produced twice"),
        (model(helper.make_node("Split", ["x"], ["y", "y"])), "node 'Split#0' (Split): value 'y' is produced twice"),
        (model(node("Relu", "x", "x"), outputs="x"), "node 'Relu#0' (Relu): value 'x' is produced twice"),
        (
            model(node("If", "x", "y", then_branch=graph([node("Neg", "x", "a"), node("Abs", "x", "a")], outputs="a"))),
            "node 'If#0/then_branch/Abs#1' (Abs): value 'a' is produced twice",
        ),
        (model(node("Relu", "z", "y", "n")), "node 'n' (Relu): input 'z' is produced nowhere"),
        (model(node("Relu", "x", "z")), "output 'y' is produced nowhere"),
        (
            model(node("If", "x", "y", "if", then_branch=graph([node("Neg", "z", "a")], outputs="a"))),
            "node 'if' (If): input 'z' is produced nowhere",
        ),
        (
            model(node("If", "x", "y", then_branch=graph([], outputs="z"))),
            "node 'If#0' (If): input 'z' is produced nowhere",
        ),
        (
            model(node("If", "x", "y", then_branch=graph([node("Neg", "x", "a")], outputs="a")), node("Neg", "a", "z")),
            "node 'Neg#1' (Neg): input 'a' is produced nowhere",
        ),
    ],
)
def test_a_value_that_is_produced_twice_or_nowhere_is_refused(checked: ModelProto, message: str) -> None:
    assert complaint(checked).startswith(message)


def test_a_value_that_shares_its_name_with_an_initializer_is_refused() -> None:
    checked = model(node("Relu", "x", "y"), node("Neg", "x", "w", "n"))
    checked.graph.initializer.add(name="w")
    assert complaint(checked).startswith("node 'n' (Neg): value 'w' is produced twice")


def test_a_function_sees_nothing_of_the_graph() -> None:
    checked = model(node("A", "x", "y", domain="f"), node("Neg", "x", "outside"), functions=["A Relu"])
    checked.functions[0].node[0].input[0] = "outside"
    assert complaint(checked).startswith("node 'f::A/Relu#0' (Relu): input 'outside' is produced nowhere")


def test_the_output_of_a_function_must_be_produced() -> None:
    checked = model(node("A", "x", "y", domain="f"), functions=["A Relu"])
    checked.functions[0].output[0] = "z"
    assert complaint(checked).startswith("function f::A: output 'z' is produced nowhere")


@pytest.mark.parametrize("functions", [["A A"], ["A B", "B A"], ["A Relu", "B C", "C D", "D B"]])
def test_a_function_that_calls_itself_is_refused(functions: list[str]) -> None:
    # Older versions of onnx crash in their shape inference.
    checked = model(node("A", "x", "y", domain="f"), functions=functions)
    name = "A" if len(functions) < 4 else "B"
    assert complaint(checked).startswith(f"function f::{name}: calls itself, directly or through others")


def test_a_function_that_calls_itself_in_a_body_is_refused() -> None:
    checked = model(node("A", "x", "y", domain="f"), functions=["A Relu"])
    body = graph([node("A", "x", "z", domain="f")], outputs="z")
    checked.functions[0].node.append(node("If", "x", "w", then_branch=body))
    assert "function f::A: calls itself" in complaint(checked)


def test_two_functions_of_one_name_are_refused() -> None:
    checked = model(node("A", "x", "y", domain="f"), functions=["B Relu", "A Relu", "A Relu"])
    assert complaint(checked).startswith("function f::A: is defined twice")


def test_functions_that_unfold_without_end_are_refused_at_once() -> None:
    functions = [f"F{i} F{i + 1} F{i + 1}" for i in range(60)]
    checked = model(node("F0", "x", "y", domain="f"), functions=[*functions, "F60 Relu"])
    assert complaint(checked).startswith("the functions unfold to more than 1000000 nodes")
    check_structure(model(node("F50", "x", "y", domain="f"), functions=[*functions, "F60 Relu"]))


def test_functions_that_call_each_other_too_deeply_are_refused() -> None:
    functions = [f"F{i} F{i + 1}" for i in range(2000)]
    checked = model(node("F0", "x", "y", domain="f"), functions=[*functions, "F2000 Relu"])
    assert complaint(checked).startswith("functions call each other more than 100 deep")
    check_structure(model(node("F1950", "x", "y", domain="f"), functions=[*functions, "F2000 Relu"]))


def named_model() -> ModelProto:
    """A model in which each kind of name is a word of its own."""
    body = graph([node("Relu", "x", "the_inner_value")], outputs="the_inner_value")
    checked = model(
        node("If", "the_input", "the_output", "the_node", then_branch=body),
        inputs="x the_input",
        outputs="the_output",
        functions=["the_function Relu"],
    )
    checked.graph.node[0].attribute.add(name="the_attribute")
    checked.functions[0].node[0].attribute.add(ref_attr_name="the_reference")
    checked.graph.initializer.add(name="the_initializer")
    checked.graph.value_info.add(name="the_value")
    checked.opset_import.add(domain="the_domain", version=1)
    checked.metadata_props.append(strange_models.entry("the_key", "theirs"))
    checked.metadata_props.append(strange_models.entry("jr_onnx.version", "our_own"))
    return checked


@pytest.mark.parametrize(
    "name",
    [
        *("the_node", "the_input", "the_output", "the_inner_value", "the_attribute", "the_reference"),
        *("the_initializer", "the_value", "the_domain", "the_function", "the_key", "our_own"),
    ],
)
def test_a_name_that_is_not_text_is_refused(name: str) -> None:
    serialized = named_model().SerializeToString()
    assert name.encode() in serialized
    damaged = serialized.replace(name.encode(), name[:-1].encode() + b"\xff")
    assert "is not UTF-8 text" in complaint(ModelProto.FromString(damaged))


@pytest.mark.parametrize("text", ["theirs", "body"])
def test_a_text_that_names_nothing_need_not_be_utf8(text: str) -> None:
    serialized = named_model().SerializeToString()
    damaged = serialized.replace(text.encode(), text[:-1].encode() + b"\xff")
    assert damaged != serialized
    check_structure(ModelProto.FromString(damaged))


def test_twenty_thousand_nodes_are_checked_in_time_that_grows_with_their_number() -> None:
    order = list(range(20_000))
    random.Random(0).shuffle(order)
    names = ["x", *(f"v{i}" for i in range(1, 20_000)), "y"]
    checked = model(*(node("Relu", names[i], names[i + 1]) for i in order))
    started = time.process_time()
    check_structure(checked)
    assert time.process_time() - started < 60  # what grows with the square of them takes minutes
