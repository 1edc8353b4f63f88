"""A model that was hardened again is clean against the one that it was made from, and against the first original."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from checking import DIGITS, hardened, initializer, node, rules, shown, small
from hypothesis import given, settings
from hypothesis import strategies as st
from support import FLOAT, SHIPPED, TARGETS, make_model, value
from support import node as new_node

import jr_onnx
from jr_onnx.conversion.sites.survey import WITH_CLIP_ONLY
from jr_onnx.conversion.sites.surveyed import jump_relus, read_side

pytest.importorskip("onnxruntime")


def again(path: Path, folder: Path, first: dict[str, Any], second: dict[str, Any]) -> tuple[Path, Path]:
    """The model hardened, and hardened again with another jump."""
    once, twice = folder / "once.onnx", folder / "twice.onnx"
    jr_onnx.convert(path, **{"jump": 0.15, "output": once, "force": True, "allow_empty": True, **first})
    jr_onnx.convert(once, **{"jump": 0.3, "output": twice, "force": True, "allow_empty": True, **second})
    return once, twice


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_any_target_after_any_target_is_clean(path: Path, tmp_path: Path) -> None:
    for before, target in product(TARGETS, TARGETS):
        once, twice = again(path, tmp_path, dict(TARGETS[before]), dict(TARGETS[target]))
        for original in (once, path, None):
            report = jr_onnx.check(original, twice, run=False)
            assert not report.findings, f"{before} -> {target}: {shown(report)}"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_it_runs_as_it_should(path: Path, tmp_path: Path) -> None:
    for before, target in pairwise(TARGETS):
        once, twice = again(path, tmp_path, dict(TARGETS[before]), dict(TARGETS[target]))
        for original in (once, path):
            report = jr_onnx.check(original, twice, library=False)
            assert not report.findings, f"{before} -> {target}: {shown(report)}"
            assert any("at jump 0" in what for what in report.checked)


@pytest.mark.parametrize("second", [{}, {"jump_input": "k"}, {"exclude": ["node_relu_1"]}], ids=str)
@pytest.mark.parametrize("first", [{}, {"jump_input": "k"}, {"exclude": ["node_relu"]}], ids=str)
def test_sites_left_out_and_jumps_that_are_inputs_are_clean(
    first: dict[str, Any], second: dict[str, Any], tmp_path: Path
) -> None:
    once, twice = again(DIGITS, tmp_path, first, second)
    report = jr_onnx.check(once, twice, library=False)
    assert not report.findings, shown(report)


@pytest.mark.parametrize("ir_version", [3, 4, 7])
def test_what_an_earlier_conversion_raised_the_ir_version_for_is_clean(ir_version: int) -> None:
    nodes = [new_node("MatMul", "x w", "h"), new_node("Relu", "h", "r"), new_node("Relu", "r", "y")]
    model = make_model(
        nodes,
        [value("x", FLOAT, [2, 3])],
        [value("y", FLOAT, [2, 3])],
        opset=13,
        ir_version=ir_version,
        initializers={"w": np.ones((3, 3), np.float32)},
    )
    firsts: list[dict[str, Any]] = [*map(dict, TARGETS.values()), {"target": "subgraph", "jump_input": "k"}]
    for first, target in product(firsts, TARGETS):
        once = hardened(model, **first)
        twice = hardened(once, jump=0.25, **TARGETS[target])
        for original in (once, model):
            report = jr_onnx.check(original, twice, run=False)
            assert not report.findings, f"{first} -> {target}: {shown(report)}"


def test_an_ir_version_that_no_conversion_gives_is_found() -> None:
    model = small()
    model.ir_version = 7
    changed = hardened(model, target="subgraph")
    changed.ir_version = 9
    assert rules(jr_onnx.check(model, changed, run=False)) == {"JR116"}


def test_relus_without_a_name_are_clean() -> None:
    model = make_model([new_node("Relu", "x", "y")], [value("x", FLOAT, [3])], [value("y", FLOAT, [3])])
    once = hardened(model, jump=0.25)
    for original in (once, model):
        report = jr_onnx.check(original, hardened(once))
        assert not report.findings, shown(report)


def test_another_original_is_told_from_the_first() -> None:
    other = small()
    other.graph.name = "other"
    twice = hardened(hardened(), jump=0.25)
    assert not jr_onnx.check(small(), twice, run=False).findings
    assert "JR120" in rules(jr_onnx.check(other, twice, run=False))
    assert "JR120" in rules(jr_onnx.check(hardened(other), twice, run=False))


def test_what_only_the_second_conversion_broke_is_found() -> None:
    def with_a_relu(model: onnx.ModelProto) -> None:
        one = node(model, "two")
        one.op_type, one.domain = "Relu", ""
        del one.input[1:]

    def with_another_weight(model: onnx.ModelProto) -> None:
        initializer(model, "b").raw_data = bytes(12)

    for change, rule in ((with_a_relu, "JR101"), (with_another_weight, "JR109")):
        once, twice = hardened(), hardened(hardened(), jump=0.25)
        change(twice)
        for original in (once, small()):
            assert rule in rules(jr_onnx.check(original, twice, run=False))


#: Every operator that is converted, and its inputs behind the value.
_OPERATORS = {"Relu": "", "Clip": " zero six", "LeakyRelu": "", "PRelu": " zeros", "Max": " zero"}


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """A chain of ReLUs under all their names; some of the nodes have no name."""
    nodes, current = [], "x"
    for number, op_type in enumerate(draw(st.lists(st.sampled_from(sorted(_OPERATORS)), min_size=1, max_size=4))):
        if draw(st.booleans()):
            nodes.append(new_node("MatMul", f"{current} w", f"m{number}", f"matmul{number}"))
            current = f"m{number}"
        name = draw(st.sampled_from([f"n{number}", f"n{number}", ""]))
        slope = {"alpha": 0.0} if op_type == "LeakyRelu" else {}
        nodes.append(new_node(op_type, current + _OPERATORS[op_type], f"r{number}", name, **slope))
        current = f"r{number}"
    nodes.append(new_node("Relu", current, "y", "last"))
    numbers = {"zero": np.float32(0), "six": np.float32(6), "zeros": np.zeros(3), "w": np.ones((3, 3))}
    return make_model(
        nodes,
        [value("x", FLOAT, [2, 3])],
        [value("y", FLOAT, [2, 3])],
        opset=draw(st.sampled_from([12, 13, 18])),
        ir_version=draw(st.sampled_from([4, 7, 8])),
        initializers={name: np.asarray(number, np.float32) for name, number in numbers.items()},
    )


@st.composite
def conversions(draw: st.DrawFn, model: onnx.ModelProto, jump_input: str) -> dict[str, Any]:
    """The arguments of a conversion; "last" is always converted."""
    arguments = dict(draw(st.sampled_from(list(TARGETS.values()))))
    arguments |= {"jump": draw(st.sampled_from([0.0, 0.1, 0.3])), "clip": draw(st.booleans())}
    if draw(st.sampled_from([True, False, False])):
        arguments["jump_input"] = jump_input
    named = [one.name for one in model.graph.node if one.name and one.op_type in _OPERATORS and one.name != "last"]
    some = draw(st.lists(st.sampled_from(named), unique=True)) if named else []
    which = draw(st.sampled_from(["all", "include", "exclude"]))
    if which == "include":
        arguments["include"] = ["last", *some]
    elif which == "exclude":
        arguments["exclude"] = some
    return arguments


@settings(max_examples=200)
@given(st.data())
def test_two_conversions_of_any_sites_to_any_targets(data: st.DataObject) -> None:
    """The file is the original with JumpReLU if the second conversion takes all sites of the first, and perhaps more.

    Otherwise it is not: sites that the second leaves out have the jump of the first, of which the file records
    nothing. Each of them is found, and nothing is wrong against the model that the second conversion was given.
    A record names the Clips that stay bare; of one without a name it cannot, and no more is demanded then.
    """
    model = data.draw(models())
    first, second = data.draw(conversions(model, "k")), data.draw(conversions(model, "l"))
    once = hardened(model, **first)
    before = {site.output: site.path for site in jump_relus(read_side(once))}
    again = jr_onnx.convert(once, **second, dry_run=True)
    taken = {site.path for site in again.sites}
    nameless = any(one.reason == WITH_CLIP_ONLY and "#" in one.path for one in again.left_alone)
    left = {output for output, path in before.items() if path not in taken}
    twice = hardened(once, **second)
    report = jr_onnx.check(once, twice, run=False)
    assert not report.findings, shown(report)
    if nameless:
        return
    report = jr_onnx.check(model, twice, run=False)
    paths = {site.output: site.path for site in jump_relus(read_side(twice))}
    unplanned = {finding.node for finding in report.findings if finding.rule == "JR102"}
    assert unplanned == {paths[output] for output in left}, shown(report)
    assert bool(report.findings) == bool(left), shown(report)


def test_names_mean_the_same_sites_the_second_time() -> None:
    nodes = [new_node("Clip", "x zero six", "h", "clip"), new_node("Relu", "h", "y", "relu")]
    numbers = {"zero": np.float32(0), "six": np.float32(6)}
    model = make_model(nodes, [value("x", FLOAT, [3])], [value("y", FLOAT, [3])], initializers=numbers)
    for before, target in product(TARGETS, TARGETS):
        once = hardened(model, clip=True, **TARGETS[before])
        twice = jr_onnx.convert(once, jump=0.25, include=["clip"], **TARGETS[target])
        assert [site.name for site in twice.sites] == ["clip"]
        # A Clip with the Relu of the model itself behind it is a site still.
        once = hardened(model, **TARGETS[before])
        assert len(jr_onnx.convert(once, jump=0.25, clip=True, **TARGETS[target]).sites) == 2
