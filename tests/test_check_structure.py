"""`jr-onnx check` finds each way in which a hardened model can be something else, and nothing in one that is right."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from checking import DIGITS, broken, hardened, initializer, large, node, rules, shown, small
from support import SHIPPED

import jr_onnx
from jr_onnx.checking.rules import RULES
from jr_onnx.checking.validity import check_validity
from jr_onnx.modelfile.source import open_proto

Change = Callable[[onnx.ModelProto], object]


def edit_weight(model: onnx.ModelProto) -> None:
    tensor = initializer(model, "w")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[0, 0] = np.nextafter(values[0, 0], np.float32(2))
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, "w"))


def edit_large_weight(model: onnx.ModelProto) -> None:
    values = np.arange(4000, dtype=np.float32)
    values[3999] = 0
    initializer(model, "large").CopyFrom(large(values))


def shorten_the_large_weight(model: onnx.ModelProto) -> None:
    tensor = initializer(model, "large")
    tensor.raw_data = tensor.raw_data[:-4]


def lengthen_the_large_weight(model: onnx.ModelProto) -> None:
    initializer(model, "large").raw_data += bytes(4)


def put_the_large_weight_in_another_field(model: onnx.ModelProto) -> None:
    tensor = initializer(model, "large")
    tensor.string_data.append(tensor.raw_data)
    tensor.ClearField("raw_data")


def forge_a_policy(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="jr_onnx.policy_sha256", value="0" * 64)


def record_no_version(model: onnx.ModelProto) -> None:
    next(entry for entry in model.metadata_props if entry.key == "jr_onnx.version").value = "latest"


def leave_a_relu(model: onnx.ModelProto) -> None:
    one = node(model, "two")
    one.op_type, one.domain = "Relu", ""
    del one.input[1:]


def leave_a_relu_in_a_branch(model: onnx.ModelProto) -> None:
    one = node(model, "branch").attribute[0].g.node[0]
    one.op_type, one.domain = "Relu", ""
    del one.input[1:]


def leave_a_relu_in_a_function(model: onnx.ModelProto) -> None:
    one = next(n for n in model.functions[0].node if n.name == "four")
    one.op_type, one.domain = "Relu", ""
    del one.input[1:]


def jump_off_by_one_ulp(model: onnx.ModelProto) -> None:
    above = np.nextafter(np.float32(0.5), np.float32(1))
    initializer(model, "jr_onnx.jump").CopyFrom(onnx.numpy_helper.from_array(np.asarray(above), "jr_onnx.jump"))


def jump_of_a_function_off_by_one_ulp(model: onnx.ModelProto) -> None:
    constant = next(n for n in model.functions[0].node if n.op_type == "Constant")
    constant.attribute[0].t.raw_data = struct.pack("<f", np.nextafter(np.float32(0.5), np.float32(1)))


def alpha_off_by_one_ulp(model: onnx.ModelProto) -> None:
    node(model, "two").attribute[0].f = float(np.nextafter(np.float32(0.5), np.float32(1)))


def record_another_jump(model: onnx.ModelProto) -> None:
    entry = next(e for e in model.metadata_props if e.key == "jr_onnx.jump")
    entry.value = "0.6"


def tamper_with_the_body(model: onnx.ModelProto) -> None:
    body = model.functions[-1]
    assert body.domain == "jr_onnx"
    mask = next(n for n in body.node if n.op_type == "LessOrEqual")
    mask.op_type = "Less"


def drop_the_body(model: onnx.ModelProto) -> None:
    del model.functions[-1]


def swap_inputs(model: onnx.ModelProto) -> None:
    one = node(model, "swap")
    one.input[:] = list(reversed(one.input))


def lose_metadata(key: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        kept = [e for e in model.metadata_props if e.key != key]
        assert len(kept) < len(model.metadata_props)
        del model.metadata_props[:]
        model.metadata_props.extend(kept)

    return change


def stale_shape(model: onnx.ModelProto) -> None:
    model.graph.value_info[0].type.tensor_type.shape.dim[0].dim_value = 7


def second_node_of_the_same_name(model: onnx.ModelProto) -> None:
    node(model, "second").name = "first"


def forget_the_import(model: onnx.ModelProto) -> None:
    kept = [o for o in model.opset_import if o.domain != "jr_onnx"]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def forget_the_import_of_a_function(model: onnx.ModelProto) -> None:
    kept = [o for o in model.functions[0].opset_import if o.domain != "jr_onnx"]
    del model.functions[0].opset_import[:]
    model.functions[0].opset_import.extend(kept)


def raise_the_opset(model: onnx.ModelProto) -> None:
    next(o for o in model.opset_import if not o.domain).version = 18


def raise_the_ir_version(model: onnx.ModelProto) -> None:
    model.ir_version = 9


def add_a_node(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Neg", ["x"], ["extra"], name="extra"))


def drop_a_node(model: onnx.ModelProto) -> None:
    last = node(model, "last")
    model.graph.node.remove(last)
    sum_ = onnx.numpy_helper.from_array(np.float32(7998000), "sum")
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["sum"], name="last", value=sum_))


def reorder_nodes(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([nodes[-1], *nodes[:-1]])


def change_an_attribute(model: onnx.ModelProto) -> None:
    node(model, "last").attribute.append(onnx.helper.make_attribute("noop_with_empty_axes", 0))


def change_an_operator(model: onnx.ModelProto) -> None:
    node(model, "branch").attribute[1].g.node[0].op_type = "Abs"


def change_an_operator_in_a_function(model: onnx.ModelProto) -> None:
    model.functions[0].node[-2].op_type = "Neg"


def rename_a_node(model: onnx.ModelProto) -> None:
    node(model, "two").name = "other"


def add_an_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(2, np.float32), "unused"))


def reshape_an_initializer(model: onnx.ModelProto) -> None:
    initializer(model, "b").dims[:] = [1, 3]


def drop_an_output(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


def rename_an_output(model: onnx.ModelProto) -> None:
    model.graph.output[1].name = node(model, "last").output[0] = "total"


def add_an_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))


def add_a_function(model: onnx.ModelProto) -> None:
    model.functions.insert(
        1, onnx.helper.make_function("local", "G", ["a"], ["a"], [], model.functions[0].opset_import)
    )


def change_the_doc_string(model: onnx.ModelProto) -> None:
    model.graph.doc_string = ""


def add_an_unknown_field(model: onnx.ModelProto) -> None:
    model.MergeFromString(b"\xf8\x7f\x01")


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


@pytest.mark.parametrize("filters", [{"exclude": ["*"]}, {"exclude": ["t*"]}, {"include": ["one"]}], ids=str)
def test_a_filter_that_only_the_file_asks_for_is_said_and_with_a_jump_a_finding(filters: dict[str, object]) -> None:
    model = hardened(allow_empty=True, **filters)
    nothing = {"JR122"} if filters == {"exclude": ["*"]} else set()
    recorded = jr_onnx.check(small(), model, run=False)
    assert rules(recorded) == nothing, shown(recorded)
    (note,) = recorded.notes
    assert note.startswith("left alone by the record: ") and "two" in note
    asked = jr_onnx.check(small(), model, jump=0.5, run=False)
    assert rules(asked) == {"JR121", *nothing}, shown(asked)
    assert any("two" in finding.message for finding in asked.findings)
    wanted = jr_onnx.check(small(), model, jump=0.5, run=False, **filters)
    assert rules(wanted) == nothing, shown(wanted)
    assert not wanted.notes


def test_what_is_asked_for_overrides_what_the_file_records() -> None:
    report = jr_onnx.check(small(), hardened(exclude=["two"]), exclude=["one"], run=False)
    assert {(finding.rule, finding.node) for finding in report.findings} == {
        ("JR101", "two"),
        ("JR102", "one"),
        ("JR112", ""),
    }, shown(report)
    with pytest.raises(jr_onnx.OptionError, match="nowhere"):
        jr_onnx.check(small(), hardened(), exclude=["nowhere"], run=False)
    with pytest.raises(jr_onnx.OptionError, match="lists of globs"):
        jr_onnx.check(small(), hardened(), exclude="two", run=False)


def test_a_recorded_filter_that_fits_nothing_is_the_files_fault_whatever_is_asked_for() -> None:
    model = hardened(exclude=["two"])
    next(entry for entry in model.metadata_props if entry.key == "jr_onnx.exclude").value = '["nowhere"]'
    for jump in (None, 0.5):
        report = jr_onnx.check(small(), model, jump=jump, run=False)
        assert rules(report) == {"JR120"}, shown(report)


def test_a_recorded_jump_input_is_said_and_can_be_asked_for() -> None:
    model = hardened(onnx.load(DIGITS), jump_input="k")
    (note,) = jr_onnx.check(DIGITS, model, jump=0.5, run=False).notes
    assert "'k'" in note
    assert not jr_onnx.check(DIGITS, model, jump_input="k", run=False).notes
    assert rules(jr_onnx.check(DIGITS, model, jump_input="other", run=False)) >= {"JR110", "JR112"}
    assert jr_onnx.check(None, model, run=False).notes == ("the file records jr_onnx.jump_input k",)


def test_filters_cannot_be_checked_without_the_original_and_that_is_said() -> None:
    report = jr_onnx.check(None, hardened(), exclude=["two"], run=False)
    assert rules(report) == {"JR001"}, shown(report)


def test_a_site_that_the_plan_leaves_alone_must_stay_a_relu() -> None:
    model = hardened(exclude=["two"])
    relu, other = node(model, "two"), node(model, "one")
    relu.op_type, relu.domain = "JumpReLU", "jr_onnx"
    relu.input.append(other.input[1])
    report = jr_onnx.check(small(), model, run=False)
    assert rules(report) == {"JR102"}, shown(report)


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


def jump_that_is_computed(model: onnx.ModelProto) -> None:
    jump = node(model, "two").input[1]
    model.graph.node.insert(0, onnx.helper.make_node("Add", [jump, jump], ["twice"], name="adds"))
    node(model, "two").input[1] = "twice"


def one_site_too_many(model: onnx.ModelProto) -> None:
    next(entry for entry in model.metadata_props if entry.key == "jr_onnx.sites").value = "3"


def lose_the_bytes_of_the_large_weight(model: onnx.ModelProto) -> None:
    initializer(model, "large").ClearField("raw_data")


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


OPTIONS: list[dict[str, object]] = [
    {},
    {"inline": True},
    {"target": "subgraph"},
    {"target": "standard"},
    {"clip": True, "allow_empty": True},
    {"jump": 0.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_convert_wrote_is_clean(path: Path, options: dict[str, object], tmp_path: Path) -> None:
    output = tmp_path / "hard.onnx"
    jr_onnx.convert(path, output=output, **{"jump": 0.3, **options})
    for original in (path, None):
        report = jr_onnx.check(original, output, run=False)
        assert not report.findings, shown(report)


@pytest.mark.parametrize("key", ["exclude", "include"])
def test_sites_that_were_chosen_at_conversion_are_chosen_again(key: str) -> None:
    report = jr_onnx.check(small(), hardened(**{key: ["t*"]}), run=False)
    assert not report.findings, shown(report)


def test_a_jump_input_is_part_of_the_plan() -> None:
    report = jr_onnx.check(DIGITS, hardened(onnx.load(DIGITS), jump_input="jump"), run=False)
    assert not report.findings, shown(report)


def test_a_model_that_was_hardened_by_policy_is_clean_only_with_that_policy() -> None:
    rules_ = (jr_onnx.PolicyRule("two", (0.1, 0.2, 0.3)), jr_onnx.PolicyRule("branch/*", None))
    policy = jr_onnx.JumpReluPolicy(0.4, rules_)
    model = hardened(jump=None, policy=policy)
    report = jr_onnx.check(small(), model, policy=policy, run=False)
    assert not report.findings, shown(report)
    for original in (small(), None):  # what the policy said is not in the file
        report = jr_onnx.check(original, model, run=False)
        assert rules(report) == {"JR001"}, shown(report)
        assert "give" in report.findings[0].message
    other = jr_onnx.JumpReluPolicy(0.4, (jr_onnx.PolicyRule("two", (0.1, 0.2, 0.4)), rules_[1]))
    assert rules(jr_onnx.check(small(), model, policy=other, run=False)) == {"JR112", "JR117"}


@pytest.mark.parametrize("options", [{"inline": True}, {"target": "subgraph"}, {"target": "standard"}, {}], ids=str)
def test_a_file_that_has_lost_its_target_is_still_compared_form_by_form(options: dict[str, object]) -> None:
    report = jr_onnx.check(small(), broken(lose_metadata("jr_onnx.target"), **options), run=False)
    assert rules(report) == {"JR112"}, shown(report)


def test_a_jump_input_that_sites_left_alone_keep_is_not_made_again() -> None:
    first = hardened(onnx.load(DIGITS), jump_input="jump")
    again = jr_onnx.check(first, hardened(first, jump=0.25, jump_input="jump"), run=False)
    assert not again.findings, shown(again)
    second = hardened(first, jump=0.25, exclude=["node_relu_1"])
    report = jr_onnx.check(first, second, run=False)
    assert not report.findings, shown(report)
    assert report.notes == ("left alone by the record: node_relu_1",)


def test_large_strings_and_attributes_are_not_mistaken_for_missing_ones() -> None:
    model = small()
    model.graph.initializer.append(onnx.helper.make_tensor("text", onnx.TensorProto.STRING, [2], [b"a" * 5000, b"b"]))
    for name, value in {"value_string": "a" * 6000, "value_ints": list(range(3000))}.items():
        made = onnx.helper.make_node("Constant", [], [name], name=name, **{name: value})
        model.graph.node.append(made)
    for original in (model, None):
        report = jr_onnx.check(original, hardened(model), run=False)
        assert not report.findings, shown(report)


def test_what_onnx_cannot_judge_without_the_data_is_said() -> None:
    model = small()
    values = onnx.numpy_helper.from_array(np.arange(3000, dtype=np.float32), "sparse")
    indices = onnx.numpy_helper.from_array(np.arange(3000, dtype=np.int64), "places")
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [5000]))
    report = jr_onnx.check(model, hardened(model), run=False)
    assert rules(report) == {"JR001"}, shown(report)
    assert "cannot judge without the data" in report.findings[0].message


def test_a_fault_of_the_original_excuses_no_other_fault() -> None:
    nowhere, elsewhere = small(), small()
    node(nowhere, "swap").input[0] = "nowhere"
    node(elsewhere, "swap").input[0] = "elsewhere"
    for theirs, severity in ((nowhere, "warning"), (elsewhere, "error")):
        findings = [*check_validity(open_proto(theirs), open_proto(nowhere))]
        assert findings[0].rule == "JR201"
        assert findings[0].severity == severity


def test_converting_twice_is_one_conversion() -> None:
    first = hardened()
    report = jr_onnx.check(first, hardened(first, jump=0.25), run=False)
    assert not report.findings, shown(report)


def test_a_model_that_was_only_serialized_again_is_clean(tmp_path: Path) -> None:
    path = tmp_path / "again.onnx"
    onnx.save(hardened(), path)
    assert not jr_onnx.check(small(), path, run=False).findings


def test_no_flipped_or_lost_byte_passes(tmp_path: Path) -> None:
    original, converted = small(), hardened().SerializeToString()
    version = converted.index(b"jr_onnx.version") + len("jr_onnx.version") + 2
    path = tmp_path / "damaged.onnx"
    draw = random.Random(0)
    for _ in range(400):
        place = draw.choice([draw.randrange(2500), draw.randrange(len(converted) - 2500, len(converted))])
        if place in range(version, version + len(jr_onnx.__version__)):
            continue  # another version may have made the same file
        damaged = bytearray(converted)
        if draw.random() < 0.7:
            damaged[place] ^= 1 << draw.randrange(8)
        else:
            del damaged[place]
        path.write_bytes(damaged)
        try:
            report = jr_onnx.check(original, path, run=False)
        except jr_onnx.JrOnnxError:
            continue
        assert report.findings, (
            f"byte {place}: {converted[place - 9 : place + 9]!r}, {damaged[place - 9 : place + 9]!r}"
        )


def test_every_rule_is_documented_and_the_document_is_the_table() -> None:
    root = Path(__file__).parents[1]
    tool = [sys.executable, root / "tools" / "rules_document.py"]
    document = subprocess.run(tool, check=True, capture_output=True, encoding="utf-8").stdout
    written = (root / "docs" / "rules.md").read_text(encoding="utf-8")
    assert written == document
    assert all(f"### {rule} " in written for rule in RULES)
