"""What the verdict says of a model whose gradients are broken, of one that gained, of one that lost, and of one that
did neither; and that chance alone hardly ever makes a verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from evaluation_models import DIGITS, QUICK, ROBUST, digits, masked, with_jump

from jr_onnx.robustness.evaluation.campaign import DEFAULT_ATTACKS
from jr_onnx.robustness.evaluation.evaluate import evaluate
from jr_onnx.robustness.evaluation.report import AttackRow, EvaluationReport, ModelResult
from jr_onnx.robustness.evaluation.verdict import LEVEL, judge


def evaluated(
    hardened: onnx.ModelProto | Path, *attacks: str, eps: float = 0.1, samples: int = 128
) -> EvaluationReport:
    return evaluate(DIGITS, hardened, digits(samples), eps=[eps], attacks=attacks, effort=QUICK)


def test_a_network_without_gradients_is_masking_and_its_gain_is_not_to_be_trusted() -> None:
    report = evaluated(masked(), "pgd", "pgd-margin", "transfer", eps=0.15)
    hardened, verdict = report.models["hardened"], report.verdicts["hardened"]
    assert hardened.accuracy(0, adaptive=False) > 0.9, "the true gradient finds nothing"
    assert hardened.accuracy(0) < 0.4, "and the original's gradient does"
    assert verdict.masking
    assert verdict.words.startswith("MASKING")
    assert "gradient masking" in verdict.headline
    # The staircase keeps some noise of the original from its network; more cannot be known from outside.
    assert verdict.gain != "GAIN" or "expect a better attack" in verdict.headline


def test_a_gradient_of_zero_is_a_failure_of_the_attack_and_is_counted() -> None:
    report = evaluated(masked(), "pgd", samples=64)
    (row,) = report.models["hardened"].rows
    assert row.failed == row.tried > 60
    assert row.broke == 0
    (row,) = report.models["original"].rows
    assert row.failed == 0
    assert row.broke > 10


def test_an_adversarially_trained_network_gains() -> None:
    report = evaluated(ROBUST, "pgd", "pgd-margin", "bpda", "smooth-0.25", "transfer", "square")
    verdict = report.verdicts["hardened"]
    assert verdict.gain == "GAIN"
    assert not verdict.masking
    assert "upper bound and no guarantee" in verdict.headline
    (at,) = verdict.at
    assert at.gain.difference.low > 0.1


def test_a_jump_that_hardly_changes_anything_gains_nothing() -> None:
    report = evaluated(with_jump(0.01), "pgd", "bpda", "smooth-0.25", "transfer")
    verdict = report.verdicts["hardened"]
    assert (verdict.masking, verdict.gain) == (False, "NO GAIN")
    assert verdict.headline.startswith("No measurable robustness gain")


def test_a_large_jump_on_the_digits_is_worse_than_relu() -> None:
    report = evaluated(with_jump(0.8), "pgd", "pgd-margin", "bpda", "smooth-0.25", samples=360)
    verdict = report.verdicts["hardened"]
    assert verdict.gain == "WORSE"
    assert verdict.masking


def test_without_an_attack_that_adapts_the_verdict_says_what_it_does_not_know() -> None:
    report = evaluated(with_jump(0.01), "pgd", samples=64)
    assert "No attack that adapts" in report.verdicts["hardened"].evidence[-1]


def result(
    name: str,
    survives: npt.NDArray[np.bool_],
    control: npt.NDArray[np.bool_] | None = None,
    adaptive: npt.NDArray[np.bool_] | None = None,
    rows: tuple[AttackRow, ...] = (),
) -> ModelResult:
    """What survives the true gradient, and what the two arms break of it."""
    none = np.zeros_like(survives)
    control, adaptive = (none if arm is None else arm for arm in (control, adaptive))
    true = survives & ~control
    return ModelResult(
        name, None, np.ones(survives.shape[1], bool), true, true & ~adaptive, control, adaptive, rows, ()
    )


def test_chance_makes_a_verdict_no_more_often_than_the_level_allows_however_many_eps() -> None:
    draw = np.random.default_rng(5)
    eps, wrong, masking, rounds = (0.1, 0.2, 0.3, 0.4), 0, 0, 400
    for _ in range(rounds):
        true = [draw.random((len(eps), 150)) < 0.6 for _ in range(2)]
        models = [result("", one, *(one & (draw.random(one.shape) < 0.1) for _ in range(2))) for one in true]
        verdict = judge(*models, eps, adaptive=True)
        wrong += verdict.gain != "NO GAIN"
        masking += verdict.masking
    # Three standard errors of a share of 5% in 400 rounds are 3.3 points.
    assert wrong / rounds < LEVEL + 0.033
    assert masking / rounds < LEVEL + 0.033


def test_worse_at_one_eps_is_worse_whatever_the_others_say() -> None:
    half = np.arange(100) < 50
    ones, zeros = np.ones(100, bool), np.zeros(100, bool)
    reference, hardened = np.stack([half, half]), np.stack([ones, zeros])
    verdict = judge(result("a", reference), result("b", hardened), (0.1, 0.2), adaptive=True)
    assert [one.verdict for one in verdict.at] == ["GAIN", "WORSE"]
    assert verdict.gain == "WORSE"
    assert "eps 0.2" in verdict.headline


def test_a_network_that_masks_nothing_is_not_accused_of_what_mere_effort_finds() -> None:
    """Nothing is left of the original; of the other's 900, further starts take 44, wherever their gradient is from."""
    sample = np.arange(2000)
    survives, gone = (sample < 900)[None], np.zeros((1, 2000), bool)
    control, adaptive = ((first <= sample) & (sample < first + 44) for first in (0, 30))
    verdict = judge(result("a", gone), result("b", survives, control[None], adaptive[None]), (0.1,), adaptive=True)
    assert (verdict.words, verdict.at[0].masking.difference.estimate) == ("GAIN", 0)
    verdict = judge(result("a", gone), result("b", survives, None, adaptive[None]), (0.1,), adaptive=True)
    assert verdict.words == "MASKING, GAIN", "what only the attacks that adapt break is masked"


def test_plain_relu_against_itself_masks_nothing() -> None:
    report = evaluate(DIGITS, DIGITS, digits(128), eps=[0.15], attacks=DEFAULT_ATTACKS, effort=QUICK)
    verdict = report.verdicts["hardened"]
    assert verdict.words == "NO GAIN"
    for one in verdict.at:
        assert one.unmasked == pytest.approx(one.masking.difference.estimate)
        assert one.unmasked < 0.02


def test_no_gain_is_called_where_gradients_failed() -> None:
    ones, half = np.ones((1, 100), bool), (np.arange(100) < 50)[None]
    for failed, words in ((5, "GAIN"), (6, "NO GAIN")):
        row = AttackRow("pgd", False, 0.1, 100, 0, failed, 1.0)
        verdict = judge(result("a", half), result("b", ones, rows=(row,)), (0.1,), adaptive=True)
        assert verdict.words == words
        assert any("on 6.0% of the samples that it was given" in line for line in verdict.evidence) == (
            words == "NO GAIN"
        )


def test_the_originals_gradient_does_not_stand_in_for_the_hardened_models() -> None:
    ones, half = np.ones((1, 100), bool), (np.arange(100) < 50)[None]
    rows = (AttackRow("pgd", False, 0.1, 100, 0, 100, 1.0), AttackRow("transfer", True, 0.1, 100, 0, 0, 1.0))
    verdict = judge(result("a", half), result("b", ones, rows=rows), (0.1,), adaptive=True)
    assert verdict.words == "NO GAIN"
    assert any("cannot be told, for gradients failed" in line for line in verdict.evidence)


def test_what_needs_no_gradient_tells_that_gradients_are_masked() -> None:
    report = evaluated(masked(), "pgd", "square", eps=0.15)
    verdict = report.verdicts["hardened"]
    assert [row.attack for row in report.models["hardened"].rows] == ["pgd", "pgd-control", "margin-control", "square"]
    assert verdict.words.startswith("MASKING")
    assert verdict.gain != "GAIN", "no gradient of the hardened model led anywhere"


def test_the_headline_tells_how_little_a_few_samples_say() -> None:
    verdict = judge(result("a", np.ones((1, 20), bool)), result("b", np.ones((1, 20), bool)), (0.1,), adaptive=True)
    assert "(difference +0.0 points, -16.1 to +16.1)" in verdict.headline
