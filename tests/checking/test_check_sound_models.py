"""`jr-onnx check` finds nothing in what convert wrote, and lets no damage to it pass."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from checking import DIGITS, hardened, node, rules, shown, small
from support import FLOAT, SHIPPED, TARGETS, make_model, value
from support import node as new_node

import jr_onnx
from jr_onnx.checking.rules import RULES
from jr_onnx.checking.validity import check_validity
from jr_onnx.files.source import open_proto

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


def test_a_jump_input_that_sites_left_alone_keep_is_not_made_again() -> None:
    first = hardened(onnx.load(DIGITS), jump_input="jump")
    again = jr_onnx.check(first, hardened(first, jump=0.25, jump_input="jump"), run=False)
    assert not again.findings, shown(again)
    second = hardened(first, jump=0.25, exclude=["node_relu_1"])
    report = jr_onnx.check(first, second, run=False)
    assert not report.findings, shown(report)
    assert report.notes == ("left alone by the record: node_relu_1",)


def test_what_onnxruntime_adds_to_onnxs_own_domain_is_no_fault_of_the_model() -> None:
    """It fuses LayerNormalization at opsets that have none in ONNX, also for `optimize`."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 13]>
        g (float[2, 3] x) => (float[2, 3] y) <float[3] scale = {1, 2, 3}, float[2, 3] h>
        { h = LayerNormalization<axis = -1, epsilon = 0.001>(x, scale) [site] r = Relu(h) y = Neg(r) }
    """)
    for original in (model, None):
        report = jr_onnx.check(original, hardened(model))
        assert not report.findings, shown(report)


def test_large_strings_and_attributes_are_not_mistaken_for_missing_ones() -> None:
    model = small()
    model.graph.initializer.append(onnx.helper.make_tensor("text", onnx.TensorProto.STRING, [2], [b"a" * 5000, b"b"]))
    for name, given in {"value_string": "a" * 6000, "value_ints": list(range(3000))}.items():
        made = onnx.helper.make_node("Constant", [], [name], name=name, **{name: given})
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


@pytest.mark.parametrize("target", TARGETS)
def test_a_sparse_initializer_is_dense_to_the_relu_that_takes_it(target: str) -> None:
    nodes = [new_node("Relu", "weights", "r", "relu"), new_node("Add", "x r", "y")]
    model = make_model(nodes, [value("x", FLOAT, [5])], [value("y", FLOAT, [5])])
    values = onnx.numpy_helper.from_array(np.array([1, -2, 0.25], np.float32), "weights")
    indices = onnx.numpy_helper.from_array(np.array([0, 2, 3]))
    model.graph.sparse_initializer.add(values=values, indices=indices, dims=[5])
    assert [site.shape for site in jr_onnx.find_sites(model)] == [(5,)]
    report = jr_onnx.check(model, hardened(model, **TARGETS[target]))
    assert not report.findings, shown(report)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_an_original_that_imports_our_domain_for_no_use(target: str, first: bool) -> None:
    ends = [value("x", FLOAT, [3])], [value("y", FLOAT, [3])]
    model = make_model([new_node("Relu", "x", "y")], *ends, domains=["jr_onnx", "other"])
    if first:
        model.opset_import.sort(key=lambda opset: opset.domain, reverse=True)
    once = hardened(model, **TARGETS[target])
    for again in (once, *(hardened(once, **options) for options in TARGETS.values())):
        report = jr_onnx.check(model, again, run=False)
        assert not report.findings, shown(report)


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
    root = Path(__file__).parents[2]
    tool = [sys.executable, root / "tools" / "rules_document.py"]
    document = subprocess.run(tool, check=True, capture_output=True, encoding="utf-8").stdout
    written = (root / "docs" / "rules.md").read_text(encoding="utf-8")
    assert written == document
    assert all(f"### {rule} " in written for rule in RULES)
