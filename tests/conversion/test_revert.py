"""A hardened model leads back to its original: byte for byte by its record, and in structure without."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantized_models import KINDS, one_layer, quantized
from support import (
    EACH_TARGET,
    FLOAT,
    SHIPPED,
    TARGETS,
    make_model,
    nested_model,
    node,
    relu_model,
    value,
    without_the_way_back,
)

import jr_onnx
from jr_onnx.cli.main import main
from jr_onnx.files.source import open_bytes
from jr_onnx.files.undo import packed

DIGITS = next(path for path in SHIPPED if path.stem == "digits")
EACH_MODEL = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)

#: What else may be asked of a conversion.
ASKED: tuple[Mapping[str, Any], ...] = ({}, {"clip": True}, {"jump_input": "threshold"})


def comparable(model: onnx.ModelProto, ir_version: int) -> onnx.ModelProto:
    """The model at an IR version, which may have been raised, the attributes of its nodes in order."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = ir_version
    for one in copy.graph.node:
        one.attribute.sort(key=lambda attribute: attribute.name)
    return copy


@EACH_TARGET
@EACH_MODEL
def test_every_model_comes_back(path: Path, target: str, tmp_path: Path) -> None:
    hard, back = tmp_path / "hard.onnx", tmp_path / "back.onnx"
    for asked in ASKED:
        if "jump_input" in asked and "functions" in path.stem:
            continue  # a function sees no input
        jr_onnx.convert(path, jump=0.3, output=hard, **TARGETS[target], **asked)
        report = jr_onnx.revert(hard, output=back)
        assert (report.exact, report.why_not) == (True, "")
        assert back.read_bytes() == path.read_bytes()
        record = next(one.value for one in onnx.load(hard).metadata_props if one.key == "jr_onnx.revert")
        assert len(record) < 300 * report.sites
        in_structure = jr_onnx.revert(without_the_way_back(onnx.load(hard)))
        original = onnx.load(path)
        assert comparable(in_structure.model, 8) == comparable(original, 8)
        assert in_structure.sites == report.sites


@given(
    st.sampled_from(sorted(TARGETS)),
    st.sampled_from(SHIPPED),
    st.floats(0, 1000),
    st.lists(st.tuples(st.sampled_from(["*1*", "*2*", "*elu*"]), st.none() | st.floats(0, 9)), max_size=2),
)
def test_any_policy_is_reverted(target: str, path: Path, jump: float, rules: list[tuple[str, float | None]]) -> None:
    policy = jr_onnx.JumpReluPolicy(jump, tuple(jr_onnx.PolicyRule(match, one) for match, one in rules))
    original = onnx.load(path)
    try:
        hard = jr_onnx.convert(original, policy=policy, allow_empty=True, **TARGETS[target]).model
    except jr_onnx.OptionError:  # a rule that matches nothing
        return
    report = jr_onnx.revert(hard)
    assert report.exact
    assert report.model.SerializeToString() == original.SerializeToString()


@EACH_TARGET
@pytest.mark.parametrize("again", TARGETS)
def test_what_was_hardened_twice_leads_to_the_first_original(target: str, again: str, tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("once.onnx", "twice.onnx", "back.onnx")]
    jr_onnx.convert(DIGITS, jump=0.5, output=names[0], **TARGETS[target])
    jr_onnx.convert(names[0], jump=0.25, output=names[1], **TARGETS[again])
    assert jr_onnx.revert(names[1], output=names[2]).exact
    assert names[2].read_bytes() == DIGITS.read_bytes()


def test_the_record_does_not_grow_with_each_conversion(tmp_path: Path) -> None:
    hard = tmp_path / "hard.onnx"
    jr_onnx.convert(DIGITS, jump=0.5, output=hard)
    once = hard.stat().st_size
    for jump in (0.25, 0.75, 0.5):
        jr_onnx.convert(hard, jump=jump, output=hard, force=True)
    assert hard.stat().st_size == once


def test_a_model_in_memory_comes_back() -> None:
    model = nested_model()
    report = jr_onnx.revert(jr_onnx.convert(model, jump=0.5).model)
    assert report.exact
    assert report.model == model


def test_a_tool_that_reads_and_writes_a_hardened_file_leaves_it_as_it_is(tmp_path: Path) -> None:
    for path in SHIPPED:
        jr_onnx.convert(path, jump=0.5, output=tmp_path / "hard.onnx", clip=True)
        onnx.save(onnx.load(tmp_path / "hard.onnx"), tmp_path / "saved.onnx")
        assert (tmp_path / "saved.onnx").read_bytes() == (tmp_path / "hard.onnx").read_bytes()


# --- Without the record, or with one that does not fit ----------------------------------------------------------------


def test_a_file_of_an_older_version_is_exact_where_its_digest_says_so() -> None:
    model = relu_model(ir_version=8)
    older = without_the_way_back(jr_onnx.convert(model, jump=0.5).model)
    report = jr_onnx.revert(older)
    assert (report.exact, report.model) == (True, model)


def test_what_raised_the_ir_version_stays_raised_and_the_report_says_so() -> None:
    model = relu_model(ir_version=7)
    report = jr_onnx.revert(without_the_way_back(jr_onnx.convert(model, jump=0.5).model))
    assert (report.exact, report.why_not) == (False, "it has no record of the way back")
    assert report.model.ir_version == 8
    assert comparable(report.model, 7) == model


def test_a_file_that_another_tool_changed_is_reverted_in_structure() -> None:
    hard = jr_onnx.convert(onnx.load(DIGITS), jump=0.5).model
    hard.graph.node[0].doc_string = "seen"
    report = jr_onnx.revert(hard)
    assert (report.exact, report.why_not) == (False, "it was changed since it was hardened")
    original = onnx.load(DIGITS)
    original.graph.node[0].doc_string = "seen"
    assert comparable(report.model, 8) == comparable(original, 8)


@pytest.mark.parametrize("record", ["", "AAAA", "é", "eJwDAAAAAAE="])
def test_a_damaged_record_damages_nothing(record: str) -> None:
    hard = jr_onnx.convert(onnx.load(DIGITS), jump=0.5).model
    next(one for one in hard.metadata_props if one.key == "jr_onnx.revert").value = record
    assert comparable(jr_onnx.revert(hard).model, 8) == comparable(onnx.load(DIGITS), 8)


def test_a_record_that_leads_to_another_model_is_not_followed() -> None:
    hard = jr_onnx.convert(relu_model(), jump=0.5).model
    other = jr_onnx.convert(relu_model(name="other"), jump=0.5).model
    entry = next(one for one in other.metadata_props if one.key == "jr_onnx.revert")
    next(one for one in hard.metadata_props if one.key == "jr_onnx.revert").value = entry.value
    assert jr_onnx.revert(hard).model == relu_model()


def test_what_stood_before_a_jump_relu_stays_as_it_was() -> None:
    fused = node("FusedGemm", "x w", "a", "gemm", domain="com.microsoft", activation="Relu")
    nodes = [fused, node("Clip", "a zero six", "b", "clip"), node("LSTM", "s w2 r", "d e c", "lstm", **RECURRENT)]
    weights = {"w": np.ones((4, 4), np.float32), "zero": np.float32(0), "six": np.float32(6)}
    weights |= {"w2": np.ones((1, 4, 4), np.float32), "r": np.ones((1, 4, 1), np.float32)}
    inputs = [value("x", FLOAT, [2, 4]), value("s", FLOAT, [2, 2, 4])]
    outputs = [value("b", FLOAT, [2, 4]), value("c", FLOAT, [1, 2, 1])]
    model = make_model(nodes, inputs, outputs, initializers=weights, domains=["com.microsoft"])
    for target in TARGETS.values():
        hard = jr_onnx.convert(model, jump=0.5, clip=True, **target).model
        assert {one.name for one in jr_onnx.find_sites(hard)} == {"gemm", "clip", "lstm"}
        assert jr_onnx.revert(hard).model == model
        assert comparable(jr_onnx.revert(without_the_way_back(hard)).model, 8) == comparable(model, 8)


RECURRENT = {"hidden_size": 1, "activations": ["Elu", "Relu", "LeakyRelu"], "activation_alpha": [0.5, 0.25]}


def test_a_relu_that_was_written_otherwise_is_known_by_the_record_alone() -> None:
    model = make_model(
        [node("LeakyRelu", "x", "y", "leaky", alpha=0.0)], [value("x", shape=[3])], [value("y", shape=[3])]
    )
    hard = jr_onnx.convert(model, jump=0.5).model
    assert jr_onnx.revert(hard).model == model
    report = jr_onnx.revert(without_the_way_back(hard))
    assert (report.exact, report.model.graph.node[0].op_type) == (False, "Relu")


@EACH_TARGET
def test_what_the_other_doors_hardened_is_reverted_in_structure(target: str) -> None:
    ir = pytest.importorskip("onnx_ir", reason="needs onnx-ir")
    from jr_onnx.ir import harden

    original = ir.to_proto(ir.load(DIGITS))
    live = ir.from_proto(original)
    harden(live, jump=0.5, **TARGETS[target])
    report = jr_onnx.revert(ir.to_proto(live))
    # It is the original as onnx_ir would write it, which the recorded digest shows but for a raised IR version.
    assert report.model == original
    assert report.exact


@EACH_TARGET
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_a_quantized_model_comes_back(kind: tuple[str, str], target: str) -> None:
    model = quantized(*kind)
    hard = jr_onnx.convert(model, jump=0.1, **TARGETS[target]).model
    assert jr_onnx.revert(hard).model == model
    assert comparable(jr_onnx.revert(without_the_way_back(hard)).model, model.ir_version) == comparable(
        model, model.ir_version
    )


def test_a_jump_relu_of_integers_is_not_guessed_at() -> None:
    model = one_layer(0.03, np.uint8(0), (4, 1))
    hard = without_the_way_back(jr_onnx.convert(model, jump=0.1).model)
    taken = next(one for one in hard.graph.node if one.op_type == "QuantizedJumpReLU").input[0]
    hard.graph.node.append(node("Identity", taken, "seen"))
    with pytest.raises(jr_onnx.ModelError, match="what was in front of this JumpReLU of integers"):
        jr_onnx.revert(hard)


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A model with its weights in a file of their own."""
    folder = tmp_path / "given"
    folder.mkdir()
    onnx.save(onnx.load(DIGITS), folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return folder / "model.onnx"


def test_external_data_are_shared_in_the_folder_and_copied_into_another(external: Path, tmp_path: Path) -> None:
    hard = external.with_name("hard.onnx")
    jr_onnx.convert(external, jump=0.5, output=hard)
    assert jr_onnx.revert(hard, output=external.with_name("back.onnx")).exact
    assert external.with_name("back.onnx").read_bytes() == external.read_bytes()
    report = jr_onnx.revert(hard, output=tmp_path / "back.onnx")
    assert (report.exact, report.external_data) == (True, ("w.bin",))
    assert (tmp_path / "back.onnx").read_bytes() == external.read_bytes()
    assert (tmp_path / "w.bin").read_bytes() == external.with_name("w.bin").read_bytes()


def test_external_data_that_got_another_name_keep_it(external: Path, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"other data")
    hard = tmp_path / "hard.onnx"
    jr_onnx.convert(external, jump=0.5, output=hard, force=True)
    report = jr_onnx.revert(hard, output=tmp_path / "back.onnx")
    assert (report.exact, report.external_data) == (False, ("w.1.bin",))
    ours, theirs = (onnx.load(path).graph for path in (tmp_path / "back.onnx", external))
    assert [one.raw_data for one in ours.initializer] == [one.raw_data for one in theirs.initializer]


def test_external_data_get_another_name_where_others_have_it(external: Path, tmp_path: Path) -> None:
    hard = external.with_name("hard.onnx")
    jr_onnx.convert(external, jump=0.5, output=hard)
    (tmp_path / "w.bin").write_bytes(b"other data")
    with pytest.raises(jr_onnx.OutputError, match="another file stands here"):
        jr_onnx.revert(hard, output=tmp_path / "back.onnx")
    report = jr_onnx.revert(hard, output=tmp_path / "back.onnx", force=True)
    assert report.external_data == ("w.1.bin",)
    assert (tmp_path / "w.bin").read_bytes() == b"other data"
    ours, theirs = (onnx.load(path).graph for path in (tmp_path / "back.onnx", external))
    assert [one.raw_data for one in ours.initializer] == [one.raw_data for one in theirs.initializer]


def test_a_record_that_names_data_elsewhere_is_not_followed(external: Path) -> None:
    evil = onnx.load(external, load_external_data=False)
    for tensor in evil.graph.initializer:
        next(one for one in tensor.external_data if one.key == "location").value = "../../secret"
    serialized = evil.SerializeToString()
    hard = external.with_name("hard.onnx")
    jr_onnx.convert(external, jump=0.5, output=hard)
    model = onnx.load(hard, load_external_data=False)
    forged = {"jr_onnx.revert": packed([serialized]), "jr_onnx.source_sha256": open_bytes(serialized).digest}
    for entry in model.metadata_props:
        entry.value = forged.get(entry.key, entry.value)
    hard.write_bytes(model.SerializeToString())
    report = jr_onnx.revert(hard, output=external.with_name("back.onnx"))
    assert (report.exact, report.external_data) == (False, ("w.bin",))


def test_the_hardened_file_itself_is_replaced_with_force_only(tmp_path: Path) -> None:
    hard = tmp_path / "hard.onnx"
    jr_onnx.convert(DIGITS, jump=0.5, output=hard)
    with pytest.raises(jr_onnx.OutputError, match="is the input itself"):
        jr_onnx.revert(hard, output=hard)
    jr_onnx.revert(hard, output=hard, force=True)
    assert hard.read_bytes() == DIGITS.read_bytes()


def test_what_is_not_hardened_or_was_optimised_is_refused(tmp_path: Path) -> None:
    with pytest.raises(jr_onnx.ModelError, match=r"digits\.onnx: is not hardened"):
        jr_onnx.revert(DIGITS, output=tmp_path / "back.onnx")
    hard = jr_onnx.convert(onnx.load(DIGITS), jump=0.5).model
    hard.metadata_props.add(key="jr_onnx.optimized_for", value="{}")
    with pytest.raises(jr_onnx.ModelError, match="optimised for one machine; revert the model that it was made from"):
        jr_onnx.revert(hard)
    assert not (tmp_path / "back.onnx").exists()


def test_a_model_of_which_a_jump_relu_is_lost_is_refused() -> None:
    hard = jr_onnx.convert(onnx.load(DIGITS), jump=0.5).model
    for one in hard.graph.node:
        if one.op_type == "JumpReLU":
            one.op_type, one.domain = "Mul", ""
            break
    with pytest.raises(jr_onnx.ModelError, match="only 3 of the JumpReLUs can be found"):
        jr_onnx.revert(hard)


def test_the_command_says_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hard, back = tmp_path / "hard.onnx", tmp_path / "back.onnx"
    jr_onnx.convert(DIGITS, jump=0.5, output=hard)
    assert main(["revert", str(hard), "-o", str(back)]) == 0
    assert "4 JumpReLUs reverted: the original, byte for byte" in capsys.readouterr().out
    assert main(["revert", str(hard), "-o", str(back), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exact"] is True
    onnx.save(without_the_way_back(jr_onnx.convert(relu_model(ir_version=7), jump=0.5).model), hard)
    assert main(["revert", str(hard), "-o", str(back)]) == 0
    assert "1 JumpReLU reverted to Relu: the original in structure, not byte for byte" in capsys.readouterr().out


@EACH_TARGET
def test_a_type_that_is_no_longer_declared_is_not_needed(target: str) -> None:
    nodes = [node("Own", "x", "h", domain="own"), node("Relu", "h", "y", "relu")]
    model = make_model(nodes, [value("x", FLOAT, [4])], [value("y", FLOAT, [4])], opset=17, domains=["own"])
    model.graph.value_info.append(value("h", FLOAT, [4]))
    hard = without_the_way_back(jr_onnx.convert(model, jump=0.5, **TARGETS[target]).model)
    del hard.graph.value_info[:]
    hard.graph.output[0].ClearField("type")
    reverted = jr_onnx.revert(hard).model
    assert [one.op_type for one in reverted.graph.node] == ["Own", "Relu"]
    assert not reverted.graph.initializer
