"""Options and policies that make no sense: exit code 2, one line that says what is wrong where, and no file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import strange_models
from onnx import TensorProto
from support import relu_model


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.onnx"
    onnx.save(strange_models.weighted_relu(np.ones(3, np.float32)), path)
    return path


@pytest.mark.parametrize(
    "jump",
    [
        "-1",
        "-0.5",
        "-1e-300",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "1e400",
        "",
        " ",
        "half",
        "0x10",
        "0,5",
        "[1]",
        "1 2",
        "None",
    ],
)
def test_a_jump_that_is_no_number_from_0_up_is_refused(jump: str, good: Path, refused: Callable[..., str]) -> None:
    assert "jump" in refused("convert", good, f"--jump={jump}")


@pytest.mark.parametrize("element_type", [TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.BFLOAT16])
def test_a_jump_that_is_too_large_for_its_type_is_refused(
    element_type: int, tmp_path: Path, refused: Callable[..., str]
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(relu_model(element_type), path)
    assert refused("convert", path, "--jump", "1e39").startswith("node 'relu': jump 1e+39 is too large for ")


POLICIES = {
    "nothing": ("", "must be a mapping"),
    "a number": ("0.5", "must be a mapping"),
    "a list": ("[1, 2]", "must be a mapping"),
    "no YAML": ("default: [1", "not YAML"),
    "no text": (b"\xff\xfe\x00\xd8", "not YAML"),
    "a tab": ("default:\n\t- 1", "not YAML"),
    "two documents": ("default: 1\n---\ndefault: 2", "not YAML"),
    "a python object": ("default: !!python/object:os.system {}", "not YAML"),
    "an unknown key": ("defualt: 1", "unknown key 'defualt' (did you mean 'default'?)"),
    "an unknown key in a rule": ("rules:\n- {match: a, jmp: 1}", "unknown key 'jmp' (did you mean 'jump'?)"),
    "a key that is no text": ("1: 2", "unknown key 1"),
    "a key that is a list": ("? [1, 2]\n: 3", "not YAML"),
    "an unknown alias": ("default: *nothing", "not YAML"),
    "neither default nor rules": ("rules: []", "neither a default nor a rule"),
    "rules that are no list": ("rules: {match: a}", "must be a list"),
    "a rule that is no mapping": ("rules: [a]", "rule 1: must be a mapping"),
    "a rule without match": ("rules: [{jump: 1}]", "rule 1: needs 'match:'"),
    "a match that is no text": ("rules: [{match: 1, jump: 1}]", "rule 1: needs 'match:'"),
    "an empty match": ("rules: [{match: '', jump: 1}]", "rule 1: needs 'match:'"),
    "a rule without jump": ("rules: [{match: a}]", "rule 1: give either 'jump:' or 'skip: true'"),
    "a rule with both": ("rules: [{match: a, jump: 1, skip: true}]", "give either 'jump:' or 'skip: true'"),
    "a skip that is no boolean": ("rules: [{match: a, skip: 1}]", "skip: must be true or false"),
    "a jump that is none": ("rules: [{match: a, jump: }]", "is not a number"),
    "a jump that is text": ("default: '0.5'", "is not a number"),
    "a jump that is a date": ("default: 2024-01-01", "is not a number"),
    "a jump that is a boolean": ("default: true", "is not a number"),
    "a jump that is a mapping": ("default: {a: 1}", "is not a number"),
    "no jumps": ("default: []", "an empty list"),
    "a negative jump": ("default: -1", "must be a finite number >= 0"),
    "an infinite jump": ("default: .inf", "must be a finite number >= 0"),
    "a jump that is NaN": ("default: .nan", "must be a finite number >= 0"),
    "a huge jump": (f"default: 1{'0' * 400}", "must be a finite number >= 0"),
    "a jump with too many digits": (f"default: 1{'0' * 5000}", ""),
    "a bad jump among good ones": ("default: [1, -1]", "must be a finite number >= 0"),
    "jumps in jumps": ("default: [[1]]", "is not a number"),
    "a list that holds itself": ("default: &a [*a]", "is not a number"),
    "a mapping that holds itself": ("&a {default: *a}", "is not a number"),
    "a mapping that is its own key": ("&a {? *a : 1}", ""),
    "too deep a list": ("[" * 2000, "not YAML"),
    "a rule that matches nothing": ("rules: [{match: rleu, jump: 1}]", "policy rule 'rleu' matches no node"),
    "a jump a channel without channels": ("default: [1, 2]", "node 'relu': one jump a channel needs a value of shape"),
}


@pytest.mark.parametrize("what", POLICIES)
def test_a_policy_that_makes_no_sense_is_refused(
    what: str, good: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    content, complaint = POLICIES[what]
    path = tmp_path / "policy.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert complaint in refused("convert", good, "--policy", path)


def test_a_policy_that_is_not_there_is_refused(good: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    assert f"{tmp_path / 'missing'}: cannot be read" in refused("convert", good, "--policy", tmp_path / "missing")
    assert f"{tmp_path}: cannot be read" in refused("convert", good, "--policy", tmp_path)
    assert "cannot be read" in refused("convert", good, "--policy", "n" * 5000)


@pytest.mark.parametrize("option", ["--include", "--exclude"])
@pytest.mark.parametrize(("pattern", "near"), [("rleu", "(did you mean 'relu'?)"), ("", ""), ("*/*", ""), ("[", "")])
def test_a_pattern_that_matches_nothing_is_refused_with_near_names(
    option: str, pattern: str, near: str, good: Path, refused: Callable[..., str]
) -> None:
    said = refused("convert", good, "--jump", "1", option, pattern)
    assert said.startswith(f"{option} '{pattern}' matches no node")
    assert near in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--jump", "1", "--policy", "policy.yaml"],
        ["--jump"],
        ["--jump", "1", "--target", "none"],
        ["--jump", "1", "--unknown"],
        ["--jump", "1", "another.onnx"],
        ["--jump", "1", "--target", "subgraph", "--inline"],
        ["--jump", "1", "--jump-input", ""],
        ["--jump", "1", "--jump-input", "x"],
        ["--jump", "1", "--exclude", "*"],
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: list[str], good: Path, refused: Callable[..., str]) -> None:
    assert refused("convert", good, *arguments)
