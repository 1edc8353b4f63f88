"""What is tried, which of it is chosen, and what a policy makes of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import FLOAT, hardened, make_model, node, report_of, value

from jr_onnx import JumpReluPolicy, OptionError, find_sites, read_policy
from jr_onnx.conversion.policy import policy_text
from jr_onnx.conversion.sites.surveyed import jump_of
from jr_onnx.robustness.evaluation.verdict import Outcome
from jr_onnx.robustness.statistics import Interval, PositiveHistogram, proportion_interval
from jr_onnx.robustness.tuning.grid import QUANTILES, Choice, check_grid, from_grid, from_quantiles, policy_of
from jr_onnx.robustness.tuning.report import Candidate, Confirmation, best_of, nothing_found, outcome

PATHS = ("a", "b", "c")


def histogram(values: Any) -> PositiveHistogram:
    result = PositiveHistogram()
    result.add(np.asarray(values, np.float32))
    return result


# --- the grid ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1e30), max_size=8))
def test_a_grid_is_jump_zero_and_then_each_jump_once_in_order(grid: list[float]) -> None:
    choices = from_grid(grid, PATHS)
    jumps = [choice.jump for choice in choices]
    assert jumps == sorted({0.0, *grid})
    assert all(choice.jumps == dict.fromkeys(PATHS, choice.jump) for choice in choices)


@given(
    st.lists(st.floats(0.001, 0.999), min_size=1, max_size=6),
    st.lists(st.lists(st.floats(2**-20, 2**20), min_size=1, max_size=50), min_size=3, max_size=3),
    st.booleans(),
)
def test_quantiles_zero_about_the_share_that_they_name(
    quantiles: list[float], values: list[list[float]], per_layer: bool
) -> None:
    known = {path: histogram(own) for path, own in zip(PATHS, values, strict=True)}
    choices = from_quantiles(quantiles, known, PATHS, per_layer=per_layer)
    assert choices[0] == Choice(dict.fromkeys(PATHS, 0.0))
    for before, after in pairwise(choices):
        assert all(before.jumps[path] <= after.jumps[path] for path in PATHS)
        assert before.jumps != after.jumps
    for choice in choices[1:]:
        groups = [known[path] for path in PATHS] if per_layer else [histogram(sum(values, []))]  # noqa: RUF017
        for jump, own in zip(choice.jumps.values(), groups if per_layer else groups * 3, strict=True):
            assert choice.quantile in quantiles
            assert jump == pytest.approx(own.quantile(choice.quantile or 0), rel=0.0051)  # three digits of it


def test_a_pooled_quantile_weighs_every_activation_alike() -> None:
    known = {"a": histogram(np.full(90, 0.5)), "b": histogram(np.full(10, 8.0)), "c": histogram([])}
    low, high = from_quantiles([0.5, 0.95], known, PATHS, per_layer=False)[1:]
    assert low.jump == pytest.approx(0.5, rel=0.01)
    assert high.jump == pytest.approx(8, rel=0.01)


def test_a_layer_without_positive_activations_keeps_relu() -> None:
    known = {"a": histogram([1, 2, 3]), "b": histogram([-1]), "c": histogram([5])}
    (_, choice) = from_quantiles([0.5], known, PATHS, per_layer=True)
    assert choice.jumps["b"] == 0
    assert choice.jump is None
    assert choice.label == "0 to 5.03"


def test_quantiles_of_a_site_that_cannot_be_seen_are_refused() -> None:
    known = {"a": histogram([1]), "b": histogram([1])}
    assert from_quantiles([0.5], known, PATHS, per_layer=False)[1].jumps.keys() == set(PATHS)
    with pytest.raises(OptionError, match="'c' is in the body"):
        from_quantiles([0.5], known, PATHS, per_layer=True)
    with pytest.raises(OptionError, match="'a' is in the body"):
        from_quantiles([0.5], {}, PATHS, per_layer=False)
    with pytest.raises(OptionError, match="no activation is positive"):
        from_quantiles([0.5], {"a": histogram([])}, ("a",), per_layer=False)


@pytest.mark.parametrize(
    ("grid", "quantiles", "per_layer", "complaint"),
    [
        ((0.1,), (0.1,), False, "either `grid` or `quantiles`"),
        ((0.1,), None, True, "leave out `per_layer`, or give `quantiles`"),
        ((), None, False, "`grid` is empty"),
        ((0.0,), None, False, "no jump above 0"),
        (None, (), False, "`quantiles` is empty"),
        ((-0.1,), None, False, "finite number >= 0"),
        ((np.inf,), None, False, "finite number >= 0"),
        ((np.nan,), None, False, "finite number >= 0"),
        (None, (0.0,), False, "between 0 and 1"),
        (None, (1.0,), True, "between 0 and 1"),
        (None, (np.nan,), True, "between 0 and 1"),
    ],
)
def test_what_makes_no_grid_is_refused(grid: Any, quantiles: Any, per_layer: bool, complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        check_grid(grid, quantiles, per_layer)


def test_the_default_is_a_grid() -> None:
    check_grid(None, QUANTILES, per_layer=True)


# --- the policy -------------------------------------------------------------------------------------------------------

NAMES = ("relu", "a/relu", "[x]*", "x", "b/a/relu", "re?u")


def model_with_sites(names: tuple[str, ...]) -> onnx.ModelProto:
    values = ["x", *(f"v{number}" for number in range(len(names)))]
    nodes = [
        node("Relu", f"{a} {b}".split()[0], b, name) for a, b, name in zip(values, values[1:], names, strict=False)
    ]
    return make_model(nodes, [value("x", FLOAT, ["N", 3])], [value(values[-1], FLOAT, ["N", 3])])


def test_a_policy_gives_each_site_its_own_jump_whatever_its_name(tmp_path: Path) -> None:
    jumps = {name: float(number + 1) for number, name in enumerate(NAMES)}
    policy = policy_of(Choice(jumps), ())
    (tmp_path / "policy.yaml").write_text(policy_text(policy, "chosen\nby hand"))
    assert read_policy(tmp_path / "policy.yaml") == policy
    report = report_of(model_with_sites(NAMES), None, policy=policy)
    assert {site.path: site.jump for site in report.sites} == jumps


def test_a_site_whose_path_ends_as_another_in_a_body_keeps_its_own_jump() -> None:
    # A rule matches a plain name as well as a path: "relu" must not decide about "choose/then_branch/relu".
    then = onnx.helper.make_graph([node("Relu", "h", "t", "relu")], "then", [], [value("t", FLOAT, ["N", 3])])
    other = onnx.helper.make_graph([node("Neg", "h", "e")], "else", [], [value("e", FLOAT, ["N", 3])])
    made = make_model(
        [node("Relu", "x", "h", "relu"), node("If", "c", "y", "choose", then_branch=then, else_branch=other)],
        [value("x", FLOAT, ["N", 3])],
        [value("y", FLOAT, ["N", 3])],
        initializers={"c": np.bool_(True)},
    )
    jumps = {"relu": 0.25, "choose/then_branch/relu": 0.75}
    result = hardened(made, None, policy=policy_of(Choice(jumps), ()))
    assert {site.path: float(jump_of(site)) for site in find_sites(result)} == jumps  # type: ignore[arg-type]


def test_one_jump_for_all_is_a_default_and_sites_that_are_not_tuned_are_skipped() -> None:
    policy = policy_of(Choice({"a": 0.5, "b": 0.5}), ("rnn",))
    assert policy.default == 0.5
    assert [(rule.match, rule.jump) for rule in policy.rules] == [("rnn", None)]
    assert policy_text(JumpReluPolicy(0.5)) == "default: 0.5\n"


# --- the choice -------------------------------------------------------------------------------------------------------


def candidate(jump: float, *, lost: int = 0, survive: int | None = None) -> Candidate:
    """Measured on 100 samples, of which jump 0 has 90 right; a budget of one point."""
    clean = proportion_interval(90 - lost, 100)
    under = None if survive is None else proportion_interval(survive, 100)
    return Candidate(Choice({"a": jump}), clean, clean, (), lost <= 1, under, under)


@pytest.mark.parametrize(
    ("candidates", "objective", "jump"),
    [
        ([candidate(0), candidate(0.1), candidate(0.2, lost=1), candidate(0.3, lost=2)], "clean", 0.2),
        # Clean accuracy need not fall step by step.
        ([candidate(0), candidate(0.1, lost=2), candidate(0.2, lost=1)], "clean", 0.2),
        ([candidate(0), candidate(0.1, lost=2)], "clean", None),
        ([candidate(0)], "clean", None),
        ([candidate(0, survive=20), candidate(0.1, survive=30), candidate(0.2, survive=25)], "adaptive", 0.1),
        ([candidate(0, survive=20), candidate(0.1, survive=30), candidate(0.2, survive=30)], "adaptive", 0.1),
        ([candidate(0, survive=20), candidate(0.1, survive=20)], "adaptive", None),
        ([candidate(0, survive=20), candidate(0.1, survive=10)], "adaptive", None),
        ([candidate(0, survive=20), candidate(0.1, lost=5)], "adaptive", None),
    ],
)
def test_the_best_is_within_the_budget_and_better_than_jump_zero(
    candidates: list[Candidate], objective: Any, jump: float | None
) -> None:
    best = best_of(candidates, objective)
    assert (None if best is None else best.choice.jump) == jump


def test_where_nothing_is_found_the_sentence_says_why() -> None:
    assert "no jump keeps the clean accuracy within 1 point of" in nothing_found(
        [candidate(0), candidate(0.1, lost=5)], 1.0
    )
    assert "no jump is worth it: under attack, none" in nothing_found(
        [candidate(0, survive=20), candidate(0.1, survive=20)], 1.0
    )


def confirmation(outcome: str = "GAIN", drop: float = 0.0) -> Confirmation:
    """Of the jump 0.5."""
    verdict: Any = SimpleNamespace(outcome=outcome, headline=f"The verdict is {outcome}.")
    clean = proportion_interval(90, 100)
    return Confirmation(Choice({"a": 0.5}), clean, Interval(drop, drop - 0.05, drop + 0.05), verdict)


BEST = candidate(0.5, survive=40)


def test_only_a_gain_on_the_test_part_is_a_gain() -> None:
    sentence, gained = outcome(BEST, confirmation(), 1.0)
    assert gained
    assert sentence == (
        "jump 0.5, on the test part: the verdict is GAIN; clean accuracy on the test part 90.0% (82.6 to 94.5)"
    )
    for verdict in get_args(Outcome):
        sentence, gained = outcome(BEST, confirmation(verdict), 1.0)
        assert gained is (verdict == "GAIN")
        said = f"no jump is worth it: jump 0.5 seemed best, but on the test part: the verdict is {verdict}"
        assert gained or sentence == said


def test_masking_on_the_part_that_chose_is_reason_enough_to_choose_nothing() -> None:
    sentence, gained = outcome(replace(BEST, masking=True), confirmation(), 1.0)
    assert not gained
    assert sentence.startswith("no jump is worth it: jump 0.5 seemed best, but on the tuning part")
    assert "gradient masking" in sentence


def test_a_budget_that_the_test_part_exceeds_is_in_the_sentence() -> None:
    sentence, gained = outcome(BEST, confirmation(drop=0.03), 1.0)
    assert gained
    assert sentence.endswith(
        ". Warning: on the test part it loses 3.0 points (-2.0 to 8.0), more than the budget of 1 point"
    )
    assert "budget" not in outcome(BEST, confirmation(drop=0.01), 1.0)[0]


def test_without_attacks_the_sentence_claims_no_robustness() -> None:
    sentence, gained = outcome(BEST, replace(confirmation(), verdict=None), 1.0)
    assert gained
    assert "is the largest within the budget on the tuning part" in sentence
    assert sentence.endswith("no robustness was measured")


@pytest.mark.parametrize("attacked", [False, True])
def test_a_loss_on_the_test_part_that_is_no_chance_is_no_choice(attacked: bool) -> None:
    for drop, chosen in ((0.055, True), (0.065, False)):  # at best 0.5 and 1.5 points
        found = confirmation(drop=drop)
        sentence, gained = outcome(BEST, found if attacked else replace(found, verdict=None), 1.0)
        assert gained is chosen
        assert sentence.startswith("no jump is chosen: jump 0.5 is within the budget on the tuning part, but") is (
            not chosen
        )
        assert "more than the budget of 1" in sentence
