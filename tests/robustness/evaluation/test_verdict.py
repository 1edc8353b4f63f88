"""What the verdict says of networks that gained, that lost, that are dead, whose gradients mislead, and of one network
written in many ways; what it needs before it says GAIN; and that chance alone hardly ever makes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from evaluation_models import DIGITS, QUICK, ROBUST, digits, masked, with_jump
from onnx import TensorProto, helper, numpy_helper

import jr_onnx
from jr_onnx.robustness.evaluation.campaign import DEFAULT_ATTACKS
from jr_onnx.robustness.evaluation.evaluate import evaluate
from jr_onnx.robustness.evaluation.report import AttackRow, Doubling, EvaluationReport, ModelResult
from jr_onnx.robustness.evaluation.verdict import LEVEL, Verdict, judge

ADAPTIVE = ("pgd", "smooth", "bpda", "transfer")


def evaluated(
    hardened: onnx.ModelProto | Path,
    *attacks: str,
    original: onnx.ModelProto | Path = DIGITS,
    eps: float = 0.1,
    samples: int = 128,
    max_drop: float = 1.0,
) -> EvaluationReport:
    data = digits(samples)
    return evaluate(original, hardened, data, eps=[eps], attacks=attacks, effort=QUICK, max_drop=max_drop)


def verdict_on(hardened: onnx.ModelProto | Path, *attacks: str, **options: Any) -> Verdict:
    return evaluated(hardened, *attacks, **options).verdicts["hardened"]


# --- Networks ---------------------------------------------------------------------------------------------------------


def test_an_adversarially_trained_network_gains() -> None:
    verdict = verdict_on(ROBUST, *ADAPTIVE, "square", samples=64)
    assert verdict.words == "GAIN"
    assert verdict.headline.startswith("Harder to fool than the original: ")
    (at,) = verdict.at
    assert at.gain.difference.low > 0.1


def test_a_jump_that_hardly_changes_anything_gains_nothing() -> None:
    verdict = verdict_on(with_jump(0.01), *ADAPTIVE, samples=64)
    assert verdict.words == "NO GAIN"
    assert verdict.headline.startswith("No measurable gain: ")


def test_a_large_jump_on_the_digits_masks_and_costs_too_much() -> None:
    report = evaluated(with_jump(0.8), "pgd", "smooth", samples=200)
    verdict = report.verdicts["hardened"]
    assert verdict.words == "MASKING, TOO COSTLY"
    assert "at most 1 point may be lost" in verdict.headline
    assert "(gradient masking)" in verdict.headline


def test_a_dead_network_gains_nothing_whatever_survives() -> None:
    """It says the same to everything, so what it has right survives; the original loses all."""
    dead = with_jump(1000)
    verdict = verdict_on(dead, *ADAPTIVE, samples=64, eps=0.3)
    assert verdict.words == "TOO COSTLY"
    verdict = verdict_on(dead, *ADAPTIVE, samples=64, eps=0.3, max_drop=100)
    assert verdict.words == "GRADIENTS FAILED"
    assert verdict.at[0].gain.difference.low > 0
    assert verdict.at[0].failures == 1


def test_a_network_without_gradients_is_masking_and_its_gain_is_not_to_be_trusted() -> None:
    report = evaluated(masked(), "pgd", "transfer", eps=0.15)
    hardened, verdict = report.models["hardened"], report.verdicts["hardened"]
    assert hardened.accuracy(0, adaptive=False) > 0.9, "the true gradient finds nothing"
    assert hardened.accuracy(0) < 0.4, "and the original's gradient does"
    assert verdict.masking
    assert verdict.words.startswith("MASKING")
    assert "gradient masking" in verdict.headline


def test_a_gradient_of_zero_is_a_failure_of_the_attack_and_is_counted() -> None:
    report = evaluated(masked(), "pgd", samples=64)
    (row,) = report.models["hardened"].rows
    assert row.failed == row.tried - row.broke > 55, "only a start at random breaks one now and then"
    (row,) = report.models["original"].rows
    assert row.failed == 0
    assert row.broke > 10


def test_what_needs_no_gradient_tells_that_gradients_are_masked() -> None:
    report = evaluated(masked(), "pgd", "square", eps=0.15)
    verdict = report.verdicts["hardened"]
    assert [row.attack for row in report.models["hardened"].rows] == ["pgd", "square"]
    assert verdict.words == "MASKING, NO ADAPTIVE ATTACK"


@pytest.mark.parametrize("attacks", [("square",), ("pgd",)])
def test_without_an_attack_that_adapts_there_is_neither_gain_nor_masking(attacks: tuple[str, ...]) -> None:
    verdict = evaluated(ROBUST, *attacks, eps=0.15).verdicts["hardened"]
    assert verdict.at[0].gain.difference.low > 0, "many more survive"
    assert verdict.words == "NO ADAPTIVE ATTACK"
    assert "No attack that adapts" in verdict.evidence[-1]


def test_plain_relu_against_itself_masks_nothing() -> None:
    report = evaluate(DIGITS, DIGITS, digits(128), eps=[0.15], attacks=DEFAULT_ATTACKS, effort=QUICK)
    verdict = report.verdicts["hardened"]
    assert verdict.words == "NO GAIN"
    for one in verdict.at:
        assert one.unmasked == pytest.approx(one.masking.difference.estimate)
        assert one.unmasked < 0.02


# --- One network written in many ways: one verdict --------------------------------------------------------------------


def behind(model: onnx.ModelProto, op_type: str, *constants: float) -> onnx.ModelProto:
    """A node behind the scores."""
    (score,) = model.graph.output
    model.graph.initializer.extend(
        numpy_helper.from_array(np.float32(value), f"c{number}") for number, value in enumerate(constants)
    )
    names = [score.name, *(f"c{number}" for number in range(len(constants)))]
    model.graph.node.append(helper.make_node(op_type, names, ["behind"], name="behind"))
    score.name = "behind"
    return model


def normalised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network takes pixels from 0 to 255 as if they were normalised, and undoes it in itself."""
    given = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == given else name for name in node.input]
    for name, value in (("mean", 0.25), ("std", 0.5)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    before = (
        ("Sub", given, "mean", "a"),
        ("Div", "a", "std", "b"),
        ("Mul", "b", "std", "c"),
        ("Add", "c", "mean", "pixels"),
    )
    nodes = [helper.make_node(op, [x, y], [z], name=f"norm_{z}") for op, x, y, z in before]
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """All of it in 16 bits, its input and its scores too."""
    for one in model.graph.initializer:
        if one.data_type == TensorProto.FLOAT:
            one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one).astype(np.float16), one.name))
    for end in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if end.type.tensor_type.elem_type == TensorProto.FLOAT:
            end.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


DISGUISES: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "16 bits": halved,
    "logits times 1000": lambda model: behind(model, "Mul", 1000),
    "Softmax": lambda model: behind(model, "Softmax"),
    "LogSoftmax": lambda model: behind(model, "LogSoftmax"),
    "normalisation inside": normalised,
}


def compared(original: onnx.ModelProto, **options: Any) -> Verdict:
    """An original, and what `convert` makes of it with jump 0.5."""
    made = jr_onnx.convert(original, **options).model
    assert made is not None
    return verdict_on(made, "pgd", "smooth", original=original, samples=64, max_drop=5)


@pytest.fixture(scope="module")
def plain() -> Verdict:
    return compared(onnx.load(DIGITS), jump=0.5)


def check_alike(verdict: Verdict, plain: Verdict) -> None:
    assert verdict.words == plain.words == "WORSE"
    for one, other in zip(verdict.at, plain.at, strict=True):
        assert one.reference == pytest.approx(other.reference, abs=0.05)
        assert one.hardened == pytest.approx(other.hardened, abs=0.05)


@pytest.mark.parametrize("name", DISGUISES)
def test_the_verdict_does_not_depend_on_how_a_network_is_written(name: str, plain: Verdict) -> None:
    check_alike(compared(DISGUISES[name](onnx.load(DIGITS)), jump=0.5), plain)


def test_nor_on_where_the_jump_is(plain: Verdict) -> None:
    check_alike(compared(onnx.load(DIGITS), jump=0.5, jump_input="jump"), plain)
    channels = jr_onnx.PolicyRule("node_relu", (0.5,) * 16)
    check_alike(compared(onnx.load(DIGITS), policy=jr_onnx.JumpReluPolicy(0.5, (channels,))), plain)


# --- What is judged, by hand ------------------------------------------------------------------------------------------


def row(attack: str, failed: int = 0, broke: int = 0) -> AttackRow:
    return AttackRow(attack, attack in ("smooth", "transfer"), 0.1, 100, broke, failed, 1.0)


#: An attack, its control, and one that adapts.
ROWS = (row("pgd"), row("smooth"))

Bools = npt.NDArray[np.bool_]


def result(
    survives: Bools,
    control: Bools | None = None,
    adaptive: Bools | None = None,
    rows: tuple[AttackRow, ...] = ROWS,
    curve: tuple[float, ...] | None = None,
    correct: Bools | None = None,
) -> ModelResult:
    """What survives the true gradient, what the two arms break of it, and what is left while the effort doubles."""
    none = np.zeros_like(survives)
    control, adaptive = (none if arm is None else arm for arm in (control, adaptive))
    left = survives & ~control & ~adaptive
    doublings = tuple(
        tuple(Doubling(2**number, share) for number, share in enumerate(curve or (level.mean(), level.mean())))
        for level in left
    )
    clean = np.ones(survives.shape[1], bool) if correct is None else correct
    return ModelResult("", None, clean, survives & ~control, left, control, adaptive, rows, (), doublings)


ONES, HALF = np.ones((1, 100), bool), (np.arange(100) < 50)[None]


def test_a_gain_needs_both_models_converged() -> None:
    assert judge(result(HALF), result(ONES), (0.1,)).words == "GAIN"
    falling = judge(result(HALF), result(ONES, curve=(1.0, 0.98)), (0.1,))
    assert falling.words == "NOT CONVERGED"
    assert any("100.0% at 1 times, 98.0% at 2 times: NOT CONVERGED" in line for line in falling.evidence)
    assert judge(result(HALF, curve=(0.6, 0.5)), result(ONES), (0.1,)).words == "NOT CONVERGED"
    assert judge(result(HALF), result(ONES, curve=(1.1, 1.01, 1.0)), (0.1,)).words == "GAIN", "the last doubling counts"
    assert judge(result(HALF), result(ONES, curve=(1.0,)), (0.1,)).words == "NOT CONVERGED", "it was not doubled"
    unknown = replace(result(ONES), convergence=())
    assert judge(result(HALF), unknown, (0.1,)).words == "NOT CONVERGED"
    assert judge(result(~ONES, curve=(0.0,)), result(ONES), (0.1,)).words == "GAIN", "nothing is left to break"


def test_worse_needs_the_original_converged() -> None:
    assert judge(result(ONES), result(HALF, curve=(0.6, 0.5)), (0.1,)).words == "WORSE"
    assert judge(result(ONES, curve=(1.0, 0.9)), result(HALF), (0.1,)).words == "NOT CONVERGED"


def test_while_masking_stands_a_gain_is_unproven_at_every_eps() -> None:
    sample = np.arange(1000)
    survives = np.stack([sample < 900, sample < 800])
    adaptive = np.stack([sample < 50, sample < 0])
    gone = result(np.zeros_like(survives))
    verdict = judge(gone, result(survives, None, adaptive), (0.1, 0.2))
    assert verdict.words == "MASKING, GAIN UNPROVEN"
    assert [(one.masked, one.outcome) for one in verdict.at] == [(True, "GAIN UNPROVEN"), (False, "GAIN UNPROVEN")]
    assert "a better attack is likely to leave less" in verdict.headline


def test_a_network_that_masks_nothing_is_not_accused_of_what_mere_effort_finds() -> None:
    """Nothing is left of the original; of the other's 900, further starts take 44, wherever their gradient is from."""
    sample = np.arange(2000)
    survives, gone = (sample < 900)[None], np.zeros((1, 2000), bool)
    control, adaptive = ((first <= sample) & (sample < first + 44) for first in (0, 30))
    verdict = judge(result(gone), result(survives, control[None], adaptive[None]), (0.1,))
    assert (verdict.words, verdict.at[0].masking.difference.estimate) == ("GAIN", 0)
    verdict = judge(result(gone), result(survives, None, adaptive[None]), (0.1,))
    assert verdict.masking, "what only the attacks that adapt break is masked"


def test_masking_needs_a_control_and_a_gain_an_attack_that_follows_a_gradient_of_the_model() -> None:
    alone, foreign = (row("smooth"),), (row("pgd"), row("transfer"))
    for rows, words in (
        (alone, "NO ADAPTIVE ATTACK"),
        (ROWS, "MASKING, GAIN UNPROVEN"),
        (foreign, "MASKING, NO ADAPTIVE ATTACK"),
    ):
        verdict = judge(result(~ONES), result(ONES, None, HALF, rows), (0.1,))
        assert verdict.words == words


@pytest.mark.parametrize(("lost", "words"), [(1, "GAIN"), (2, "TOO COSTLY")])
def test_a_network_that_lost_more_than_may_be_lost_is_too_costly(lost: int, words: str) -> None:
    right = (np.arange(100) >= lost)[None]
    hardened = result(right, correct=right[0])
    assert judge(result(HALF), hardened, (0.1,)).words == words
    assert judge(result(HALF), hardened, (0.1,), max_drop=2).words == "GAIN"
    assert judge(result(HALF), hardened, (0.1,), max_drop=0).words == "TOO COSTLY"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((row("pgd", 5), row("smooth", 5)), "GAIN"),
        ((row("pgd", 6), row("smooth", 6)), "GRADIENTS FAILED"),
        # One attack's gradient may fail where another's of the same kind does not.
        ((row("ifgsm", 100), row("pgd"), row("smooth")), "GAIN"),
        # A smooth step is nowhere quite flat, so a network that is dead shows by its true gradient.
        ((row("pgd", 100), row("smooth", 0)), "GRADIENTS FAILED"),
        ((row("pgd", 0), row("smooth", 100)), "GRADIENTS FAILED"),
        # Of the survivors, not of all: of what was left, no gradient led anywhere.
        ((row("pgd", 4, 96), row("smooth", 4, 96)), "GRADIENTS FAILED"),
        # The original's gradient does not stand in for the hardened model's.
        ((row("pgd"), row("smooth", 100), row("transfer")), "GRADIENTS FAILED"),
    ],
)
def test_a_gain_needs_gradients_that_lead_somewhere_on_the_survivors(rows: tuple[AttackRow, ...], words: str) -> None:
    verdict = judge(result(HALF), result(ONES, rows=rows), (0.1,))
    assert verdict.words == words
    assert any("cannot be told, for gradients failed" in line for line in verdict.evidence) == (words != "GAIN")


def test_worse_at_one_eps_is_worse_whatever_the_others_say() -> None:
    reference, hardened = np.concatenate([HALF, HALF]), np.concatenate([ONES, ~ONES])
    verdict = judge(result(reference), result(hardened), (0.1, 0.2))
    assert [one.outcome for one in verdict.at] == ["GAIN", "WORSE"]
    assert verdict.outcome == "WORSE"
    assert "at most 0.2 (eps)" in verdict.headline


def test_what_is_not_known_at_one_eps_is_not_hidden_by_a_gain_at_another() -> None:
    reference, hardened = np.concatenate([HALF, HALF]), np.concatenate([ONES, ONES])
    curves = ((Doubling(1, 1.0), Doubling(2, 1.0)), (Doubling(1, 1.1), Doubling(2, 1.0)))
    verdict = judge(result(reference), replace(result(hardened), convergence=curves), (0.1, 0.2))
    assert [one.outcome for one in verdict.at] == ["GAIN", "NOT CONVERGED"]
    assert verdict.outcome == "NOT CONVERGED"


def test_chance_makes_a_verdict_no_more_often_than_the_level_allows_however_many_eps() -> None:
    draw = np.random.default_rng(5)
    eps, wrong, masking, rounds = (0.1, 0.2, 0.3, 0.4), 0, 0, 400
    for _ in range(rounds):
        true = [draw.random((len(eps), 150)) < 0.6 for _ in range(2)]
        models = [result(one, *(one & (draw.random(one.shape) < 0.1) for _ in range(2))) for one in true]
        verdict = judge(*models, eps)
        wrong += verdict.outcome != "NO GAIN"
        masking += verdict.masking
    # Three standard errors of a share of 5% in 400 rounds are 3.3 points.
    assert wrong / rounds < LEVEL + 0.033
    assert masking / rounds < LEVEL + 0.033


def test_the_headline_tells_how_little_a_few_samples_say() -> None:
    verdict = judge(result(np.ones((1, 20), bool)), result(np.ones((1, 20), bool)), (0.1,))
    assert "(difference +0.0 points, -16.1 to +16.1)" in verdict.headline
