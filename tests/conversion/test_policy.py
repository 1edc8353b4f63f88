"""Which site gets which jump: rules in their order, patterns, and policy files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import FLOAT, TARGETS, assert_same_but_for_the_sign_of_zero, make_model, node, report_of, run, value

from jr_onnx import ConversionReport, JumpReluPolicy, OptionError, PolicyRule, read_policy
from jr_onnx.conversion.policy import matches


def policy_file(folder: Path, text: str) -> Path:
    """A policy file."""
    path = folder / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def three_relus() -> onnx.ModelProto:
    """x -> stem/Relu -> layer1/Relu -> layer[2]/Relu -> y, of shape [2, 3]."""
    names = ("stem/Relu", "layer1/Relu", "layer[2]/Relu")
    nodes = [node("Relu", f"v{i}", f"v{i + 1}", name) for i, name in enumerate(names)]
    nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    return make_model(nodes, [value("x", FLOAT, [2, 3])], [value("y", FLOAT, [2, 3])])


def jumps(report: ConversionReport) -> dict[str, object]:
    """Path -> jump of what is converted."""
    return {site.path: site.jump for site in report.sites}


def with_policy(default: float | None, *rules: PolicyRule, **options: object) -> ConversionReport:
    """The report for three Relu."""
    return report_of(three_relus(), None, policy=JumpReluPolicy(default, rules), **options)


# --- rules ------------------------------------------------------------------------------------------------------------


def test_without_a_rule_every_site_gets_the_default() -> None:
    assert jumps(with_policy(0.5)) == {"stem/Relu": 0.5, "layer1/Relu": 0.5, "layer[2]/Relu": 0.5}


def test_the_first_rule_that_matches_decides() -> None:
    report = with_policy(0.5, PolicyRule("layer1/*", 0.25), PolicyRule("*", 0.75), PolicyRule("stem/*", 2.0))
    assert jumps(report) == {"stem/Relu": 0.75, "layer1/Relu": 0.25, "layer[2]/Relu": 0.75}


def test_a_rule_can_skip_a_site() -> None:
    report = with_policy(0.5, PolicyRule("stem/*", None))
    assert set(jumps(report)) == {"layer1/Relu", "layer[2]/Relu"}
    (left,) = report.left_alone
    assert (left.path, left.reason) == ("stem/Relu", "policy rule 'stem/*' skips it")


def test_a_skip_behind_a_jump_for_the_same_site_has_no_say() -> None:
    report = with_policy(None, PolicyRule("stem/*", 0.5), PolicyRule("*", None))
    assert jumps(report) == {"stem/Relu": 0.5}


def test_without_a_default_what_no_rule_matches_is_left_alone() -> None:
    report = with_policy(None, PolicyRule("stem/*", 0.5))
    assert jumps(report) == {"stem/Relu": 0.5}
    assert {left.reason for left in report.left_alone} == {"no policy rule matches it, and the policy has no default"}


def test_jump_zero_is_a_jump_and_not_a_skip() -> None:
    assert jumps(with_policy(0.5, PolicyRule("stem/*", 0.0)))["stem/Relu"] == 0.0


@pytest.mark.parametrize("target", TARGETS)
def test_different_jumps_reach_their_sites(target: str) -> None:
    rules = (PolicyRule("stem/Relu", 0.25), PolicyRule("layer1/Relu", (0.5, 1.0, 2.0)))
    report = with_policy(0.75, *rules, **TARGETS[target])
    assert report.model is not None
    x = np.array([[0.25, 0.8, 2.0], [0.76, 1.5, 3.0]], np.float32)
    want = np.array([[0, 0, 0], [0.76, 1.5, 3.0]], np.float32)
    assert_same_but_for_the_sign_of_zero(run(report.model, {"x": x})[0], want)


def test_a_rule_that_matches_nothing_is_an_error_that_suggests_near_names() -> None:
    with pytest.raises(OptionError, match=r"policy rule 'layer1/Rleu' matches no node \(did you mean 'layer1/Relu'"):
        with_policy(0.5, PolicyRule("layer1/Rleu", 0.25))


# --- include and exclude ----------------------------------------------------------------------------------------------


def test_include_leaves_all_others_alone() -> None:
    report = with_policy(0.5, include=["layer1/*", "stem/Relu"])
    assert set(jumps(report)) == {"stem/Relu", "layer1/Relu"}
    assert [left.reason for left in report.left_alone] == ["not among `include`"]


def test_exclude_wins_over_include() -> None:
    report = with_policy(0.5, include=["*"], exclude=["stem/*"])
    assert set(jumps(report)) == {"layer1/Relu", "layer[2]/Relu"}
    assert [left.reason for left in report.left_alone] == ["`exclude` 'stem/*'"]


def test_exclude_wins_over_a_rule() -> None:
    report = with_policy(0.5, PolicyRule("stem/*", 0.25), exclude=["stem/*"])
    assert "stem/Relu" not in jumps(report)


def test_a_site_that_is_included_still_gets_the_jump_of_its_rule() -> None:
    assert jumps(with_policy(0.5, PolicyRule("stem/*", 0.25), include=["stem/*"])) == {"stem/Relu": 0.25}


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_is_an_error_that_suggests_near_names(option: str) -> None:
    wanted = rf"`{option}` 'sten/Relu' matches no node \(did you mean 'stem/Relu'.*\?\); jr-onnx inspect lists them"
    with pytest.raises(OptionError, match=wanted):
        with_policy(0.5, **{option: ["sten/Relu"]})


def test_a_literal_name_with_brackets_is_taken_literally() -> None:
    assert set(jumps(with_policy(0.5, include=["layer[2]/Relu"]))) == {"layer[2]/Relu"}


def test_a_character_class_is_a_character_class() -> None:
    assert set(jumps(with_policy(0.5, include=["layer[123]/Relu"]))) == {"layer1/Relu"}


# --- patterns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "path", "name", "matched"),
    [
        ("relu", "If_3/then_branch/relu", "relu", True),
        ("If_3/*", "If_3/then_branch/relu", "relu", True),
        ("If_3/*/relu", "If_3/then_branch/relu", "relu", True),
        ("If_?/then_branch/relu", "If_3/then_branch/relu", "relu", True),
        ("then_branch/relu", "If_3/then_branch/relu", "relu", False),
        ("RELU", "relu", "relu", False),
        ("*", "Relu#0", "", True),
        ("", "Relu#0", "", False),
        ("a[0]", "a[0]", "a[0]", True),
        ("a[0]", "a0", "a0", True),
    ],
)
def test_a_pattern_matches_a_whole_name_or_a_whole_path(pattern: str, path: str, name: str, matched: bool) -> None:
    assert matches(pattern, path, name) is matched


@given(st.text(min_size=1))
def test_every_name_matches_itself(name: str) -> None:
    assert matches(name, "somewhere/else", name)
    assert matches(name, name, "")


# --- one jump a channel -----------------------------------------------------------------------------------------------


def test_a_list_of_the_wrong_length_names_the_site_and_the_number_of_channels() -> None:
    with pytest.raises(OptionError, match=r"node 'stem/Relu': 2 jumps, but the value has 3 channels"):
        with_policy(0.5, PolicyRule("stem/*", (0.1, 0.2)))


def test_a_list_for_a_value_without_channels_is_an_error() -> None:
    model = make_model([node("Relu", "x", "y", "relu")], [value("x", FLOAT, [3])], [value("y", FLOAT, [3])])
    with pytest.raises(OptionError, match=r"'relu': one jump a channel needs .* \[N, C, \.\.\.\].*rank 1"):
        report_of(model, (0.1, 0.2, 0.3))


def test_a_list_for_a_value_of_unknown_rank_is_an_error() -> None:
    model = make_model([node("Relu", "x", "y", "relu")], [value("x", FLOAT)], [value("y", FLOAT)])
    with pytest.raises(OptionError, match=r"'relu': one jump a channel needs .* unknown rank"):
        report_of(model, (0.1, 0.2, 0.3))


def test_a_list_for_an_unknown_number_of_channels_is_an_error() -> None:
    model = make_model([node("Relu", "x", "y", "relu")], [value("x", FLOAT, [2, "C"])], [value("y", FLOAT, [2, "C"])])
    with pytest.raises(OptionError, match="'relu': 3 jumps, but"):
        report_of(model, (0.1, 0.2, 0.3))


def test_a_list_is_fine_where_the_batch_is_unknown() -> None:
    model = make_model([node("Relu", "x", "y")], [value("x", FLOAT, ["N", 3])], [value("y", FLOAT, ["N", 3])])
    (site,) = report_of(model, (0.25, 0.5, 1.0)).sites
    assert site.jump == (0.25, 0.5, 1.0)


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-1.0, float("nan"), float("inf"), True, "0.5", None, [], {}], ids=repr)
def test_what_is_no_jump_is_refused_wherever_it_stands(jump: object) -> None:
    with pytest.raises(OptionError):
        with_policy(0.5, PolicyRule("stem/*", jump if jump is not None else ()))  # type: ignore[arg-type]
    if jump is not None:
        with pytest.raises(OptionError):
            JumpReluPolicy(jump)  # type: ignore[arg-type]


@pytest.mark.parametrize("jump", [(0.5, -1.0), (0.5, float("nan")), ("a",)], ids=repr)
def test_every_number_of_a_list_is_checked(jump: tuple[float, ...]) -> None:
    with pytest.raises(OptionError):
        JumpReluPolicy(0.5, (PolicyRule("*", jump),))


@pytest.mark.parametrize("jump", [1, np.float32(0.5), np.float64(0.5), np.int64(2)], ids=repr)
def test_a_number_of_any_kind_is_a_jump(jump: float) -> None:
    report = report_of(three_relus(), jump)
    assert {site.jump for site in report.sites} == {float(jump)}
    assert report.model is not None
    (written,) = (entry.value for entry in report.model.metadata_props if entry.key == "jr_onnx.jump")
    assert written == repr(float(jump))


@pytest.mark.parametrize(
    "jump", [[0.25, 0.5, 1], np.array([0.25, 0.5, 1]), (0.25, 0.5, 1)], ids=lambda v: type(v).__name__
)
def test_a_sequence_of_any_kind_is_one_jump_a_channel(jump: object) -> None:
    assert {site.jump for site in report_of(three_relus(), jump).sites} == {(0.25, 0.5, 1.0)}


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", "+1.0e-03"])
def test_numbers_may_have_an_exponent(text: str, tmp_path: Path) -> None:
    assert read_policy(policy_file(tmp_path, f"default: {text}\n")).default == 0.001


def test_a_key_that_is_given_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'default' is given twice"):
        read_policy(policy_file(tmp_path, "default: 0.1\ndefault: 0.2\n"))


def test_a_file_says_the_same_as_the_policy_in_python(tmp_path: Path) -> None:
    text = """
    default: 0.5          # every other site
    rules:
      - match: "layer1/*"
        jump: 0.2
      - match: "stem/Relu"
        jump: [0.1, 0.2, 1]
      - {match: "head/*", skip: true}
    """
    read = read_policy(policy_file(tmp_path, text))
    rules = (PolicyRule("layer1/*", 0.2), PolicyRule("stem/Relu", (0.1, 0.2, 1.0)), PolicyRule("head/*", None))
    assert read == JumpReluPolicy(0.5, rules)


def test_the_digest_is_of_the_meaning_alone(tmp_path: Path) -> None:
    first = read_policy(policy_file(tmp_path, "default: 0.5\nrules:\n  - {match: a, jump: 1}"))
    second = read_policy(policy_file(tmp_path, "# a comment\nrules: [{jump: 1.0, match: 'a'}]\ndefault: 5.0e-1\n"))
    other = read_policy(policy_file(tmp_path, "default: 0.5\nrules:\n  - {match: a, jump: 2}"))
    assert first.digest == second.digest
    assert first.digest != other.digest


def test_skip_false_needs_a_jump(tmp_path: Path) -> None:
    read = read_policy(policy_file(tmp_path, "rules: [{match: a, skip: false, jump: 1}]"))
    assert read.rules == (PolicyRule("a", 1.0),)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must be a mapping"),
        ("0.5", "must be a mapping"),
        ("[1, 2]", "must be a mapping"),
        ("defualt: 0.5", r"unknown key 'defualt' \(did you mean 'default'\?\)"),
        ("default: 0.5\nrule: []", r"unknown key 'rule' \(did you mean 'rules'\?\)"),
        ("default: 0.5\nrules: 3", "rules: must be a list"),
        ("default: 0.5\nrules: {match: a}", "rules: must be a list"),
        ("rules: []", "neither a default nor a rule"),
        ("default: null", "neither a default nor a rule"),
        ("default: -1", "finite number >= 0"),
        ("default: .nan", "finite number >= 0"),
        ("default: .inf", "finite number >= 0"),
        ("default: half", "not a number"),
        ("default: true", "not a number"),
        ("default: 1e400", "number"),
        ("default: []", "empty list"),
        ("rules: [{jump: 1}]", "rule 1: needs 'match:'"),
        ("rules: [{match: '', jump: 1}]", "rule 1: needs 'match:'"),
        ("rules: [{match: 3, jump: 1}]", "rule 1: needs 'match:'"),
        ("rules: [{match: a}]", "rule 1: give either 'jump:' or 'skip: true'"),
        ("rules: [{match: a, jump: 1}, {match: b, jump: 1, skip: true}]", "rule 2: give either"),
        ("rules: [{match: a, skip: maybe}]", "rule 1: skip: must be true or false"),
        ("rules: [{match: a, jump: null}]", "not a number|empty list"),
        ("rules: [{match: a, jump: [1, [2]]}]", "not a number"),
        ("rules: [{match: a, jmup: 1}]", r"rule 1: unknown key 'jmup' \(did you mean 'jump'\?\)"),
        ("rules: [a]", "rule 1: must be a mapping"),
        ("default: [1", "not YAML"),
        ("default: !!python/object:os.system x", "not YAML"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_its_name(tmp_path: Path, text: str, complaint: str) -> None:
    path = policy_file(tmp_path, text)
    with pytest.raises(OptionError, match=complaint) as raised:
        read_policy(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"nowhere\.yaml: cannot be read"):
        read_policy(tmp_path / "nowhere.yaml")


@given(st.binary(max_size=200))
def test_no_bytes_make_reading_a_policy_fail_in_another_way(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    try:
        read_policy(path)
    except OptionError as error:
        assert "\n" not in str(error)
