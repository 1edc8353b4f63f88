"""`jr-onnx check` makes the plan again from what it is told and what the file records, and says which it was."""

from __future__ import annotations

import onnx
import pytest
from checking import DIGITS, hardened, node, rules, shown, small

import jr_onnx


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
    with pytest.raises(jr_onnx.OptionError, match="a list of them is needed"):
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
