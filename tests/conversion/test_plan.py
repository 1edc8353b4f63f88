"""What is decided before anything is changed: opsets, patterns, the one function body, notes, and dry runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import pytest
from onnx import helper
from support import (
    BFLOAT16,
    DOUBLE,
    EACH_TARGET,
    FLOAT,
    FLOAT16,
    TARGETS,
    assert_same_bits,
    assert_same_but_for_the_sign_of_zero,
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

from jr_onnx import ModelError, OptionError, convert
from jr_onnx.conversion.forms.table import LOWEST_OPSET
from jr_onnx.conversion.options import Options
from jr_onnx.conversion.plan import make_plan
from jr_onnx.conversion.policy import JumpReluPolicy

NEWEST = onnx.defs.onnx_opset_version()


def mixed_model(types: list[int], opset: int) -> onnx.ModelProto:
    """One Relu a type, named r0, r1, ..."""
    nodes = [node("Relu", f"x{i}", f"y{i}", f"r{i}") for i in range(len(types))]
    inputs = [value(f"x{i}", t, [4]) for i, t in enumerate(types)]
    outputs = [value(f"y{i}", t, [4]) for i, t in enumerate(types)]
    return make_model(nodes, inputs, outputs, opset=opset)


def calling(body: onnx.FunctionProto, opset: int = 18) -> onnx.ModelProto:
    """x -> the function -> y."""
    x, y = value("x", FLOAT, [4]), value("y", FLOAT, [4])
    return make_model([node("F", "x", "y", domain="f")], [x], [y], opset=opset, functions=[body], domains=["f"])


# --- opsets -----------------------------------------------------------------------------------------------------------


@EACH_TARGET
@pytest.mark.parametrize("opset", [1, 5, LOWEST_OPSET - 1])
def test_an_opset_that_is_too_old_is_an_error_that_names_the_converter(target: str, opset: int) -> None:
    with pytest.raises(ModelError, match=rf"opset {opset}, supported are 7 and newer; .*onnx\.version_converter"):
        report_of(relu_model(opset=opset), **TARGETS[target])


def test_what_the_error_recommends_helps() -> None:
    raised = onnx.version_converter.convert_version(relu_model(opset=6), NEWEST)
    assert len(report_of(raised).sites) == 1


def test_an_opset_that_is_too_new_is_an_error_that_says_so() -> None:
    with pytest.raises(ModelError, match=rf"opset {NEWEST + 1}, which is unknown to onnx .*newest: {NEWEST}"):
        report_of(relu_model(opset=NEWEST + 1))


def test_a_model_that_imports_no_opset_is_an_error() -> None:
    model = relu_model()
    del model.opset_import[:]
    with pytest.raises(ModelError, match="imports no version of ONNX's operators"):
        report_of(model)


def test_the_opset_of_a_function_counts_as_well() -> None:
    body = function("F", "a", "b", [node("Relu", "a", "b")], opset=6)
    model = make_model(
        [node("F", "x", "y", domain="f")],
        [value("x", FLOAT, [4])],
        [value("y", FLOAT, [4])],
        functions=[body],
        domains=["f"],
    )
    with pytest.raises(ModelError, match="function f::F has opset 6"):
        report_of(model)


@EACH_TARGET
@pytest.mark.parametrize(("of_function", "of_model"), [(8, 18), (10, 18), (14, 18), (17, 20), (20, 14), (18, 9)])
def test_a_function_may_have_another_opset_than_the_model(target: str, of_function: int, of_model: int) -> None:
    # onnxruntime has no objection. ONNX's checker has one if an operator of the function changed in between, of this
    # model as of the hardened one.
    body = function("F", "a", "b", [node("Neg", "a", "n"), node("Relu", "n", "b")], opset=of_function)
    model = calling(body, opset=of_model)
    report = report_of(model, 0.5, **TARGETS[target])
    assert [site.opset for site in report.sites] == [min(of_function, of_model)]
    assert report.model is not None
    x = -np.array([-1, 0.25, 0.5, 2], np.float32)
    assert_same_but_for_the_sign_of_zero(run(report.model, {"x": x})[0], np.array([0, 0, 0, 2], np.float32))


# --- the one function body --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opset", "types", "wanted"),
    [
        # bfloat16 is compared in float, which would be too narrow for double.
        (18, [FLOAT, FLOAT16, DOUBLE, BFLOAT16], ["JumpReLU"] * 3 + ["Where(LessOrEqual in float)"]),
        (18, [FLOAT, FLOAT16, BFLOAT16], ["JumpReLU"] * 3),
        (12, [FLOAT, FLOAT16, DOUBLE], ["JumpReLU"] * 3),
        (9, [FLOAT, FLOAT16, DOUBLE], ["JumpReLU"] * 3),
        # Below opset 9 the body has a Cast in it: it serves one type, the most frequent.
        (8, [FLOAT, DOUBLE, DOUBLE], ["Relu*Greater", "JumpReLU", "JumpReLU"]),
        (8, [FLOAT, FLOAT, DOUBLE], ["JumpReLU", "JumpReLU", "Relu*Greater"]),
        # So it is for bfloat16 until LessOrEqual takes it.
        (15, [BFLOAT16, BFLOAT16], ["JumpReLU", "JumpReLU"]),
        (15, [BFLOAT16, FLOAT, DOUBLE], ["Relu*Greater", "JumpReLU", "JumpReLU"]),
        (16, [BFLOAT16, FLOAT], ["JumpReLU", "JumpReLU"]),
    ],
)
def test_the_one_body_serves_as_many_sites_as_it_can(opset: int, types: list[int], wanted: list[str]) -> None:
    report = report_of(mixed_model(types, opset))
    assert [site.lowering for site in report.sites] == wanted
    assert report.model is not None
    check(report.model)
    for site in report.sites:
        assert bool(site.reason) == (site.lowering != "JumpReLU")


@pytest.mark.parametrize(
    ("opset", "first", "second"), [(8, FLOAT, DOUBLE), (15, BFLOAT16, FLOAT), (15, FLOAT, BFLOAT16)]
)
@pytest.mark.parametrize("frequent", [1, 3])
def test_sites_that_stay_keep_a_body_that_serves_them(opset: int, first: int, second: int, frequent: int) -> None:
    # Converted in two steps: the second must not take the body away from the first.
    model = mixed_model([first] + [second] * frequent, opset)
    once = hardened(model, 0.5, include=["r0"])
    twice = report_of(once, 0.5, exclude=["r0"])
    assert twice.model is not None
    check(twice.model)
    assert twice.model.graph.node[0].op_type == "JumpReLU"
    if {first, second} == {FLOAT, DOUBLE}:
        feeds = {f"x{i}": np.array([-1, 0.25, 0.5, 2], np.float64 if i else np.float32) for i in range(1 + frequent)}
        for got, x in zip(run(twice.model, feeds), feeds.values(), strict=True):
            assert_same_bits(np.abs(got), np.array([0, 0, 0, 2], x.dtype))


@pytest.mark.parametrize("target", ["inline", "subgraph", "standard"])
def test_other_targets_have_no_function(target: str) -> None:
    assert not hardened(relu_model(), **TARGETS[target]).functions


def test_the_function_is_the_definition_in_words_and_serves_every_type() -> None:
    (written,) = hardened(relu_model()).functions
    assert (written.domain, written.name) == ("jr_onnx", "JumpReLU")
    assert (list(written.input), list(written.output)) == (["X", "jump"], ["Y"])
    assert [n.op_type for n in written.node] == ["Sub", "LessOrEqual", "Where"]
    assert "X <= jump" in written.doc_string


# --- which sites ------------------------------------------------------------------------------------------------------


def test_a_model_without_relu_is_an_error() -> None:
    model = make_model([node("Neg", "x", "y")], [value("x", FLOAT, [4])], [value("y", FLOAT, [4])])
    with pytest.raises(ModelError, match="no Relu in this model; `allow_empty=True` makes that no error"):
        report_of(model)


def test_a_model_whose_relus_all_stay_is_an_error_that_names_one() -> None:
    model = mixed_model([FLOAT, FLOAT], 18)
    with pytest.raises(ModelError, match=r"'r0' \(Relu\): `exclude` 'r\*', and 1 more"):
        report_of(model, exclude=["r*"])


@EACH_TARGET
def test_a_model_without_relu_may_be_allowed(target: str) -> None:
    model = make_model([node("Neg", "x", "y")], [value("x", FLOAT, [4])], [value("y", FLOAT, [4])])
    report = report_of(model, allow_empty=True, **TARGETS[target])
    assert report.model is not None
    assert not report.sites
    assert report.model.graph == model.graph
    assert not report.model.functions
    assert report.model.opset_import == model.opset_import


def test_the_order_of_the_report_is_the_order_of_the_nodes() -> None:
    report = report_of(mixed_model([FLOAT] * 12, 18), exclude=["r3"])
    assert [site.path for site in report.sites] == [f"r{i}" for i in range(12) if i != 3]


# --- the jump ---------------------------------------------------------------------------------------------------------


def test_each_site_has_the_jump_of_its_own_type() -> None:
    report = report_of(mixed_model([FLOAT, FLOAT16, DOUBLE, BFLOAT16], 18), 0.1)
    assert [site.jump for site in report.sites] == [float(np.float32(0.1)), float(np.float16(0.1)), 0.1, 0.10009765625]


def test_a_jump_that_is_too_large_for_a_type_is_an_error_that_names_the_node() -> None:
    with pytest.raises(OptionError, match=r"node 'r1': jump 100000\.0 is too large for float16"):
        report_of(mixed_model([FLOAT, FLOAT16], 18), 1e5)


def test_a_jump_that_becomes_zero_is_noted() -> None:
    report = report_of(mixed_model([FLOAT, FLOAT16], 18), 1e-9)
    assert [site.jump for site in report.sites] == [float(np.float32(1e-9)), 0.0]
    assert report.notes == ("'r1': jump 1e-09 is 0 in float16; it stays a plain Relu",)


def test_either_a_jump_or_a_policy_must_be_given() -> None:
    with pytest.raises(OptionError, match="either `jump` or `policy`"):
        convert(relu_model())
    with pytest.raises(OptionError, match="either `jump` or `policy`"):
        convert(relu_model(), jump=0.5, policy=JumpReluPolicy(0.5))


def test_an_unknown_target_is_an_error() -> None:
    with pytest.raises(OptionError, match="unknown target 'cuda'; it is one of custom-op, subgraph, standard"):
        report_of(relu_model(), target="cuda")


@pytest.mark.parametrize("target", ["subgraph", "standard"])
def test_inline_is_for_the_custom_operator_alone(target: str) -> None:
    with pytest.raises(OptionError, match="`inline` is for the target custom-op"):
        report_of(relu_model(), target=target, inline=True)


# --- notes ------------------------------------------------------------------------------------------------------------


def test_it_is_noted_that_jumps_are_replaced() -> None:
    once = report_of(relu_model())
    assert not once.notes
    assert once.model is not None
    assert report_of(once.model, 0.25).notes == ("the model was hardened before: its jumps are replaced",)


def test_it_is_noted_that_inline_leaves_the_models_own_functions() -> None:
    body = function("F", "a", "b", [node("Relu", "a", "b")])
    model = make_model(
        [node("F", "x", "y", domain="f")],
        [value("x", FLOAT, [4])],
        [value("y", FLOAT, [4])],
        functions=[body],
        domains=["f"],
    )
    (note,) = report_of(model, inline=True).notes
    assert "inline_local_functions" in note
    assert not report_of(model).notes


# --- nothing is changed -----------------------------------------------------------------------------------------------


@EACH_TARGET
def test_a_model_in_memory_stays_as_it_is(target: str) -> None:
    model = mixed_model([FLOAT, DOUBLE], 18)
    before = model.SerializeToString(deterministic=True)
    report_of(model, **TARGETS[target])
    assert model.SerializeToString(deterministic=True) == before


def test_a_dry_run_has_the_same_report_and_no_model() -> None:
    model = mixed_model([FLOAT, DOUBLE], 18)
    planned, done = report_of(model, dry_run=True).to_dict(), report_of(model).to_dict()
    assert report_of(model, dry_run=True).model is None
    del planned["seconds"], done["seconds"]
    assert planned == done


def test_a_plan_needs_no_weights() -> None:
    model = make_model(
        [node("MatMul", "x w", "h"), node("Relu", "h", "y")],
        [value("x", FLOAT, [2, 3])],
        [value("y", FLOAT, [2, 4])],
        initializers={"w": np.ones((3, 4), np.float32)},
    )
    model.graph.initializer[0].ClearField("raw_data")
    plan = make_plan(model, Options(JumpReluPolicy(0.5)))
    assert [planned.jump for planned in plan.sites] == [0.5]


def test_the_same_conversion_gives_the_same_bytes() -> None:
    model = mixed_model([FLOAT, DOUBLE], 18)
    first, second = hardened(model, 0.5), hardened(model, 0.5)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_names_that_are_taken_are_not_given_again() -> None:
    taken = ["jr_onnx.jump", "jr_onnx.zero", "y/mask"]
    nodes = [node("Relu", "x", "y", "relu"), *(node("Identity", "x", name, f"id{i}") for i, name in enumerate(taken))]
    nodes.append(node("Identity", "x", "z", "relu/LessOrEqual"))
    model = make_model(nodes, [value("x", FLOAT, [4])], [value("y", FLOAT, [4])])
    for options in TARGETS.values():
        result = hardened(model, **options)
        check(result)
        names = [n.name for n in result.graph.node]
        values = [v for n in result.graph.node for v in n.output] + [t.name for t in result.graph.initializer]
        assert len(set(names)) == len(names)
        assert len(set(values)) == len(values)


def test_metadata_say_where_a_model_comes_from() -> None:
    model = relu_model()
    model.metadata_props.append(onnx.StringStringEntryProto(key="author", value="me"))
    entries = {entry.key: entry.value for entry in hardened(model, 0.1, target="standard").metadata_props}
    assert entries["author"] == "me"
    assert entries["jr_onnx.target"] == "standard"
    assert entries["jr_onnx.jump"] == "0.1"
    assert entries["jr_onnx.sites"] == "1"
    assert len(entries["jr_onnx.source_sha256"]) == 64
    assert "jr_onnx.version" in entries


def test_the_digest_of_the_source_is_of_the_source() -> None:
    def digest(model: onnx.ModelProto, **options: Any) -> str:
        entries = hardened(model, **options).metadata_props
        return next(entry.value for entry in entries if entry.key == "jr_onnx.source_sha256")

    assert digest(relu_model()) == digest(relu_model(), target="subgraph")
    assert digest(relu_model()) != digest(relu_model(name="other"))


def test_a_policy_is_recorded_by_its_digest() -> None:
    policy = JumpReluPolicy((0.5,) * 4)
    model = make_model([node("Relu", "x", "y")], [value("x", FLOAT, [1, 4])], [value("y", FLOAT, [1, 4])])
    report = report_of(model, None, policy=policy)
    assert report.model is not None
    entries = {entry.key: entry.value for entry in report.model.metadata_props}
    assert entries["jr_onnx.policy_sha256"] == policy.digest
    assert "jr_onnx.jump" not in entries


def test_the_opset_of_the_operator_is_imported_where_it_is_called() -> None:
    body = function("F", "a", "b", [node("Relu", "a", "b")])
    unrelated = function("G", "a", "b", [node("Neg", "a", "b")])
    model = make_model(
        [node("F", "x", "h", domain="f"), node("G", "h", "y", domain="f")],
        [value("x", FLOAT, [4])],
        [value("y", FLOAT, [4])],
        functions=[body, unrelated],
        domains=["f"],
    )
    result = hardened(model)
    imports = {f.name: {o.domain: o.version for o in f.opset_import} for f in result.functions}
    assert imports["F"]["jr_onnx"] == 1
    assert "jr_onnx" not in imports["G"]
    assert helper.make_opsetid("jr_onnx", 1) in list(result.opset_import)
