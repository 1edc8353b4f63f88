"""`jr-onnx check` finds each way in which a hardened model can be something else, and nothing in one that is right."""

from __future__ import annotations

import pytest
from checking import broken, hardened, node, rules, shown, small
from damage import (
    Change,
    add_a_function,
    add_a_node,
    add_an_initializer,
    add_an_input,
    add_an_unknown_field,
    alpha_off_by_one_ulp,
    change_an_attribute,
    change_an_operator,
    change_an_operator_in_a_function,
    change_the_doc_string,
    damage_the_way_back,
    drop_a_node,
    drop_an_output,
    drop_the_body,
    edit_large_weight,
    edit_weight,
    forge_a_policy,
    forget_the_import,
    forget_the_import_of_a_function,
    jump_of_a_function_off_by_one_ulp,
    jump_off_by_one_ulp,
    jump_that_is_computed,
    leave_a_relu,
    leave_a_relu_in_a_branch,
    leave_a_relu_in_a_function,
    lengthen_the_large_weight,
    lose_metadata,
    lose_the_bytes_of_the_large_weight,
    one_site_too_many,
    put_the_large_weight_in_another_field,
    raise_the_ir_version,
    raise_the_opset,
    record_another_jump,
    record_no_version,
    rename_a_node,
    rename_an_output,
    reorder_nodes,
    reshape_an_initializer,
    second_node_of_the_same_name,
    shorten_the_large_weight,
    stale_shape,
    swap_inputs,
    tamper_with_the_body,
)

import jr_onnx

BREAKAGES: list[tuple[str, Change, dict[str, object]]] = [
    ("JR101", leave_a_relu, {}),
    ("JR101", leave_a_relu_in_a_branch, {}),
    ("JR101", leave_a_relu_in_a_function, {}),
    ("JR103", add_a_node, {}),
    ("JR104", reorder_nodes, {}),
    ("JR105", drop_a_node, {}),
    ("JR105", change_an_attribute, {}),
    ("JR105", change_an_operator, {}),
    ("JR105", change_an_operator_in_a_function, {}),
    ("JR106", swap_inputs, {}),
    ("JR107", rename_a_node, {}),
    ("JR107", second_node_of_the_same_name, {}),
    ("JR108", add_an_initializer, {}),
    ("JR108", reshape_an_initializer, {}),
    ("JR109", edit_weight, {}),
    ("JR109", edit_large_weight, {}),
    ("JR109", shorten_the_large_weight, {}),
    ("JR109", lengthen_the_large_weight, {}),
    ("JR109", put_the_large_weight_in_another_field, {}),
    ("JR110", drop_an_output, {}),
    ("JR110", add_an_input, {}),
    ("JR112", forge_a_policy, {}),
    ("JR112", record_no_version, {}),
    ("JR112", damage_the_way_back, {}),
    ("JR111", stale_shape, {}),
    *(
        ("JR112", lose_metadata(f"jr_onnx.{key}"), {})
        for key in ("version", "target", "sites", "jump", "source_sha256")
    ),
    ("JR113", add_a_function, {}),
    ("JR114", tamper_with_the_body, {}),
    ("JR114", drop_the_body, {}),
    ("JR115", forget_the_import, {}),
    ("JR115", forget_the_import_of_a_function, {}),
    ("JR115", raise_the_opset, {}),
    ("JR116", raise_the_ir_version, {}),
    ("JR117", jump_off_by_one_ulp, {}),
    ("JR117", jump_off_by_one_ulp, {"target": "subgraph"}),
    ("JR117", jump_of_a_function_off_by_one_ulp, {}),
    ("JR117", alpha_off_by_one_ulp, {"target": "standard"}),
    ("JR117", record_another_jump, {}),
    ("JR118", change_the_doc_string, {}),
    ("JR118", add_an_unknown_field, {}),
    ("JR118", lose_metadata("author"), {}),
]


@pytest.mark.parametrize(("rule", "change", "options"), BREAKAGES, ids=lambda value: getattr(value, "__name__", None))
def test_a_model_broken_in_one_way_breaks_just_that_rule(rule: str, change: Change, options: dict[str, object]) -> None:
    report = jr_onnx.check(small(), broken(change, **options), run=False)
    assert rules(report) == {rule}, shown(report)
    assert report.fails("error")


def test_an_initializer_that_is_missing_is_found() -> None:
    model = small()
    add_an_initializer(model)
    report = jr_onnx.check(model, hardened(), run=False)
    assert rules(report) == {"JR108", "JR120"}, shown(report)


def test_a_renamed_output_is_found_at_the_interface_and_at_its_node() -> None:
    report = jr_onnx.check(small(), broken(rename_an_output), run=False)
    assert rules(report) == {"JR106", "JR110"}, shown(report)


def test_a_model_made_from_another_original_says_so() -> None:
    other = small()
    other.graph.node[0].name = "renamed"
    report = jr_onnx.check(small(), hardened(other), run=False)
    assert rules(report) == {"JR120", "JR107"}, shown(report)


def test_what_a_file_records_of_another_original_need_not_fit_this_one() -> None:
    other = small()
    for one in other.graph.node:
        one.name = f"{one.name}_"
    report = jr_onnx.check(small(), hardened(other, exclude=["one_"]), run=False)
    assert rules(report) == {"JR120"}, shown(report)


def test_unsorted_nodes_fail_the_checker_and_the_original_is_named() -> None:
    model = small()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([nodes[1], nodes[0], *nodes[2:]])
    report = jr_onnx.check(model, hardened(model), run=False)
    assert {"JR201"} <= rules(report) <= {"JR201", "JR202"}, shown(report)
    assert all("the original fails too" in finding.message for finding in report.findings)
    assert report.fails() and not report.fails("error")


def test_a_value_that_is_produced_nowhere_is_a_finding() -> None:
    report = jr_onnx.check(small(), broken(lambda m: node(m, "swap").input.__setitem__(0, "nowhere")), run=False)
    assert rules(report) == {"JR201"}, shown(report)


def test_alone_a_stale_shape_fails_strict_inference() -> None:
    report = jr_onnx.check(None, broken(stale_shape), run=False)
    assert rules(report) == {"JR202"}, shown(report)


ALONE = [
    ("JR102", one_site_too_many),
    ("JR112", forge_a_policy),
    ("JR112", record_no_version),
    ("JR117", jump_that_is_computed),
    ("JR201", lose_the_bytes_of_the_large_weight),
    ("JR101", leave_a_relu),
    ("JR112", lose_metadata("jr_onnx.sites")),
    ("JR112", lose_metadata("jr_onnx.target")),
    ("JR114", tamper_with_the_body),
    ("JR114", drop_the_body),
    ("JR115", forget_the_import),
    ("JR117", jump_off_by_one_ulp),
    ("JR117", record_another_jump),
]


@pytest.mark.parametrize(("rule", "change"), ALONE)
def test_without_the_original_a_model_still_tells_on_itself(rule: str, change: Change) -> None:
    report = jr_onnx.check(None, broken(change), run=False)
    assert rules(report) == {rule}, shown(report)


def test_without_the_original_a_record_of_another_jump_than_asked_for_is_found() -> None:
    report = jr_onnx.check(None, broken(record_another_jump), jump=0.5, run=False)
    assert [finding.message for finding in report.findings] == ["the file records the jump 0.6, asked for was 0.5"]


def test_without_the_original_a_right_model_is_clean_and_the_report_says_what_it_could_not_check() -> None:
    report = jr_onnx.check(None, hardened(), run=False)
    assert not report.findings
    assert any("ORIGINAL" in one.why for one in report.not_checked)


@pytest.mark.parametrize("options", [{"inline": True}, {"target": "subgraph"}, {"target": "standard"}, {}], ids=str)
def test_a_file_that_has_lost_its_target_is_still_compared_form_by_form(options: dict[str, object]) -> None:
    report = jr_onnx.check(small(), broken(lose_metadata("jr_onnx.target"), **options), run=False)
    assert rules(report) == {"JR112"}, shown(report)
