"""`jr-onnx convert` and `jr-onnx inspect` as a user types them: what they write, print and return."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import (
    FLOAT,
    MODELS,
    assert_same_bits,
    assert_same_but_for_the_sign_of_zero,
    check,
    hardened,
    make_model,
    node,
    relu_model,
    run,
    value,
)

from jr_onnx import __version__
from jr_onnx.reference import jump_relu

VALUES = np.array([-1, 0, 0.2, 0.25, 0.3, 0.5, 0.75, 1, 2, 3], np.float32)


def jump_relu_of_file(path: Path, **feeds: Any) -> Any:
    """What the hardened file gives for the values of these tests."""
    return run(path, {"x": VALUES, **feeds})[0]


# --- convert ----------------------------------------------------------------------------------------------------------


def test_the_output_stands_beside_the_model_with_the_ending_jumprelu_onnx(command: Any, model: Path) -> None:
    result = command("convert", model, "--jump", "0.5")
    assert (result.code, result.err) == (0, "")
    output = model.with_name("net.jumprelu.onnx")
    check(onnx.load(output))
    assert_same_bits(jump_relu_of_file(output), jump_relu(VALUES, 0.5))
    assert str(output) in result.out


@pytest.mark.parametrize(("name", "stem"), [("net.bin", "net.bin"), ("net", "net"), ("a.b.onnx", "a.b")])
def test_any_name_gets_the_ending(command: Any, model: Path, name: str, stem: str) -> None:
    renamed = model.rename(model.with_name(name))
    assert command("convert", renamed, "--jump", "0.5").code == 0
    assert sorted(path.name for path in model.parent.iterdir()) == sorted([name, f"{stem}.jumprelu.onnx"])


@pytest.mark.parametrize("option", ["-o", "--output"])
def test_the_output_can_be_named(command: Any, model: Path, tmp_path: Path, option: str) -> None:
    wanted = tmp_path / "elsewhere" / "hard.onnx"
    wanted.parent.mkdir()
    assert command("convert", model, "--jump", "0.5", option, wanted).code == 0
    assert [path.name for path in wanted.parent.iterdir()] == ["hard.onnx"]
    assert not model.with_name("net.jumprelu.onnx").exists()


def test_the_input_stays_as_it_is(command: Any, model: Path) -> None:
    before = model.read_bytes()
    assert command("convert", model, "--jump", "0.5").code == 0
    assert model.read_bytes() == before


def test_an_earlier_output_is_replaced(command: Any, model: Path) -> None:
    for jump in ("0.5", "1.5"):
        assert command("convert", model, "--jump", jump).code == 0
    assert_same_bits(jump_relu_of_file(model.with_name("net.jumprelu.onnx")), jump_relu(VALUES, 1.5))


def test_the_input_itself_is_replaced_with_force_only(command: Any, model: Path) -> None:
    before = model.read_bytes()
    result = command("convert", model, "--jump", "0.5", "-o", model)
    assert result.code == 2
    assert "--force" in result.err
    assert model.read_bytes() == before
    assert command("convert", model, "--jump", "0.5", "-o", model, "--force").code == 0
    check(onnx.load(model))
    assert_same_bits(jump_relu_of_file(model), jump_relu(VALUES, 0.5))


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], ["JumpReLU"]),
        (["--target", "custom-op"], ["JumpReLU"]),
        (["--target", "subgraph"], ["Relu", "Greater", "Cast", "Mul"]),
        (["--target", "standard"], ["ThresholdedRelu"]),
        (["--inline"], ["LessOrEqual", "Where"]),
        (["--target=custom-op", "--inline"], ["LessOrEqual", "Where"]),
    ],
    ids=" ".join,
)
def test_each_target_can_be_asked_for(command: Any, model: Path, arguments: list[str], wanted: list[str]) -> None:
    assert command("convert", model, "--jump", "0.5", *arguments).code == 0
    written = onnx.load(model.with_name("net.jumprelu.onnx"))
    assert [item.op_type for item in written.graph.node] == wanted


def test_the_table_shows_scopes_types_forms_and_jumps(command: Any, mixed: Path) -> None:
    result = command("convert", mixed, "--jump", "0.1", "--target", "standard")
    assert result.code == 0
    table = [line.split() for line in result.lines[:4]]
    assert table == [
        ["scope", "sites", "was", "type", "is", "now", "jump"],
        ["(main", "graph)", "1", "Relu", "float", "ThresholdedRelu", "0.1"],
        ["(main", "graph)", "1", "Relu", "float16", "ThresholdedRelu", "0.1"],
        ["If_3/then_branch", "1", "Relu", "float", "ThresholdedRelu", "0.1"],
    ]
    assert "left alone: relu6 (Clip): a Clip is converted with --clip only" in result.lines
    assert "left alone: own (ThresholdedRelu): the model's own threshold: alpha = 1.5" in result.lines
    assert "left alone: whole (Relu): int64 is not floating point" in result.lines
    assert "note: ThresholdedRelu differs from the definition: NaN becomes 0" in result.lines
    assert result.lines[-2].startswith(f"wrote {mixed.with_name('mixed.jumprelu.onnx')} (")
    assert "measure what it buys" in result.lines[-1]


def test_sites_that_are_alike_share_a_line(command: Any) -> None:
    result = command("convert", MODELS / "residual.torchscript.onnx", "--jump", "0.5", "--dry-run")
    assert result.lines[1].split() == ["(main", "graph)", "5", "Relu", "float", "JumpReLU", "0.5"]


def test_the_reason_for_another_form_is_printed(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "double.onnx"
    onnx.save(relu_model(onnx.TensorProto.DOUBLE), path)
    result = command("convert", path, "--jump", "0.5", "--target", "standard")
    why = "onnxruntime has no ThresholdedRelu for double on CPU"
    assert f"note: Where(LessOrEqual) is written instead, because {why}" in result.lines


def test_a_new_ir_version_is_printed(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "old.onnx"
    onnx.save(relu_model(ir_version=3), path)
    assert "note: IR version 3 -> 8" in command("convert", path, "--jump", "0.5").lines


def test_of_many_nodes_that_stay_a_few_are_listed_and_all_are_counted(command: Any, tmp_path: Path) -> None:
    nodes = [node("ThresholdedRelu", "x", f"y{i}", f"own{i}", alpha=1.0) for i in range(30)]
    nodes.append(node("Relu", "x", "y", "relu"))
    path = tmp_path / "many.onnx"
    onnx.save(make_model(nodes, [value("x", FLOAT, [10])], [value("y", FLOAT, [10])]), path)
    listed = [line for line in command("convert", path, "--jump", "1").lines if line.startswith("left alone:")]
    assert len(listed) == 13
    assert listed[-1] == "left alone: 18 more (--json lists all)"
    assert len(command("convert", path, "--jump", "1", "--json").json["left_alone"]) == 30


def test_one_jump_a_channel_is_printed_as_a_range(command: Any, tmp_path: Path) -> None:
    path, policy = tmp_path / "net.onnx", tmp_path / "policy.yaml"
    onnx.save(relu_model(shape=(1, 3)), path)
    policy.write_text("default: [0.25, 0.5, 1]")
    result = command("convert", path, "--policy", policy)
    assert result.code == 0
    assert "0.25 to 1 (3 channels)" in result.out


def test_json_is_the_same_report_for_machines(command: Any, mixed: Path) -> None:
    result = command("convert", mixed, "--jump", "0.1", "--json")
    assert (result.code, result.err) == (0, "")
    report = result.json
    assert report["source"] == str(mixed)
    assert report["output"] == str(mixed.with_name("mixed.jumprelu.onnx"))
    assert report["written"] is True
    assert report["target"] == "custom-op"
    assert report["size"] == mixed.with_name("mixed.jumprelu.onnx").stat().st_size
    assert 0 < report["seconds"] < 60
    assert (report["ir_version"], report["ir_version_before"]) == (8, 8)
    assert report["external_data"] == []
    assert report["external_mode"] is None
    assert [(s["path"], s["scope"], s["element_type"], s["shape"], s["jump"]) for s in report["sites"]] == [
        ("stem/relu", "", "float", [10], float(np.float32(0.1))),
        ("half", "", "float16", ["N", 3], float(np.float16(0.1))),
        ("If_3/then_branch/relu_1", "If_3/then_branch", "float", [10], float(np.float32(0.1))),
    ]
    assert [left["path"] for left in report["left_alone"]] == ["relu6", "own", "whole"]
    assert "model" not in report


@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=["text", "json"])
def test_a_dry_run_writes_nothing(command: Any, model: Path, arguments: list[str]) -> None:
    result = command("convert", model, "--jump", "0.5", "--dry-run", *arguments)
    assert (result.code, result.err) == (0, "")
    assert [path.name for path in model.parent.iterdir()] == ["net.onnx"]
    if arguments:
        assert result.json["written"] is False
    else:
        assert result.lines[-1].startswith(f"dry run, would write {model.with_name('net.jumprelu.onnx')} (")


def test_a_dry_run_prints_the_plan_of_a_policy(command: Any, mixed: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("default: 0.5\nrules:\n  - {match: 'If_3/*', jump: 0.25}\n  - {match: half, skip: true}\n")
    report = command("convert", mixed, "--policy", policy, "--dry-run", "--json").json
    assert {site["path"]: site["jump"] for site in report["sites"]} == {
        "stem/relu": 0.5,
        "If_3/then_branch/relu_1": 0.25,
    }
    assert {"path": "half", "name": "half", "op_type": "Relu", "reason": "policy rule 'half' skips it"} in [
        {key: left[key] for key in ("path", "name", "op_type", "reason")} for left in report["left_alone"]
    ]


def test_include_and_exclude_can_be_given_several_times(command: Any, mixed: Path) -> None:
    report = command(
        "convert", mixed, "--jump", "1", "--include", "stem/*", "--include", "If_3/*", "--exclude", "*/relu_1", "--json"
    ).json
    assert [site["path"] for site in report["sites"]] == ["stem/relu"]


def test_clip_is_converted_if_asked_for(command: Any, mixed: Path) -> None:
    report = command("convert", mixed, "--jump", "1", "--clip", "--json").json
    assert "relu6" in [site["path"] for site in report["sites"]]


@pytest.mark.parametrize(("arguments", "name"), [(["--jump-input"], "jump"), (["--jump-input", "k"], "k")])
def test_the_jump_can_become_an_input(command: Any, model: Path, arguments: list[str], name: str) -> None:
    assert command("convert", model, "--jump", "0.5", *arguments).code == 0
    output = model.with_name("net.jumprelu.onnx")
    assert_same_but_for_the_sign_of_zero(
        jump_relu_of_file(output, **{name: np.asarray(1, np.float32)}),
        np.where(VALUES <= 1, 0, VALUES).astype(np.float32),
    )


def test_a_model_without_relu_is_no_error_if_that_is_allowed(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    onnx.save(make_model([node("Neg", "x", "y")], [value("x", FLOAT, [10])], [value("y", FLOAT, [10])]), path)
    assert command("convert", path, "--jump", "0.5").code == 2
    result = command("convert", path, "--jump", "0.5", "--allow-empty")
    assert result.code == 0
    assert result.lines[-1].startswith("wrote ")


def test_converting_again_says_so(command: Any, model: Path) -> None:
    assert command("convert", model, "--jump", "0.5").code == 0
    again = command("convert", model.with_name("net.jumprelu.onnx"), "--jump", "1")
    assert again.code == 0
    assert "note: the model was hardened before: its jumps are replaced" in again.lines
    assert model.with_name("net.jumprelu.jumprelu.onnx").exists()


# --- inspect ----------------------------------------------------------------------------------------------------------


def test_inspect_lists_every_node_and_what_becomes_of_it(command: Any, mixed: Path) -> None:
    result = command("inspect", mixed)
    assert (result.code, result.err) == (0, "")
    assert result.lines[0] == f"{mixed}: IR version 8, opset ai.onnx 18, 0 functions"
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in result.lines[2:]}
    assert rows == {
        "stem/relu": "Relu float 10 18 - yes JumpReLU in its place",
        "If_3/then_branch/relu_1": "Relu float 10 18 - yes JumpReLU in its place",
        "relu6": "Clip float 10 18 - yes JumpReLU behind it, with --clip",
        "own": "ThresholdedRelu - ? - - no the model's own threshold: alpha = 1.5",
        "half": "Relu float16 Nx3 18 - yes JumpReLU in its place",
        "whole": "Relu - ? - - no int64 is not floating point",
    }


def test_inspect_says_the_same_in_json(command: Any, mixed: Path) -> None:
    report = command("inspect", mixed, "--json").json
    assert report["source"] == str(mixed)
    assert (report["ir_version"], report["opsets"], report["functions"]) == (8, {"": 18}, 0)
    assert report["hardened"] == {}
    assert {entry["path"]: entry["converted"] for entry in report["nodes"]} == {
        "stem/relu": True,
        "If_3/then_branch/relu_1": True,
        "relu6": True,
        "own": False,
        "half": True,
        "whole": False,
    }
    half = next(entry for entry in report["nodes"] if entry["path"] == "half")
    assert (half["element_type"], half["shape"], half["opset"], half["op_type"]) == ("float16", ["N", 3], 18, "Relu")


def test_inspect_shows_where_a_hardened_model_comes_from(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "hard.onnx"
    onnx.save(hardened(relu_model(), 0.25, target="standard"), path)
    result = command("inspect", path)
    assert f"jr_onnx.version = {__version__}" in result.lines
    assert "jr_onnx.target = standard" in result.lines
    assert "jr_onnx.jump = 0.25" in result.lines
    assert re.search(r" 0\.25 +yes +is a JumpReLU; its jump is replaced", result.out)
    report = command("inspect", path, "--json").json
    assert report["hardened"]["jr_onnx.jump"] == "0.25"
    assert [entry["jump"] for entry in report["nodes"]] == [0.25]


def test_inspect_of_a_model_without_relu_says_so(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    onnx.save(make_model([node("Neg", "x", "y")], [value("x", FLOAT, [10])], [value("y", FLOAT, [10])]), path)
    result = command("inspect", path)
    assert result.code == 0
    assert result.lines[-1] == "no node that is a ReLU or looks like one"


def test_inspect_writes_nothing(command: Any, model: Path) -> None:
    command("inspect", model)
    assert [path.name for path in model.parent.iterdir()] == ["net.onnx"]
