"""A model that was hardened again is clean against the one that it was made from, and against the first original."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from checking import DIGITS, hardened, initializer, node, rules, shown, small
from support import FLOAT, SHIPPED, TARGETS, make_model, value
from support import node as new_node

import jr_onnx

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
