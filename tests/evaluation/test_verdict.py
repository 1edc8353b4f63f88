"""What the verdict says of a model whose gradients are broken, of one that gained, of one that lost, and of one that
did neither; and that chance alone hardly ever makes a verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from evaluation_models import DIGITS, QUICK, ROBUST, digits, masked, with_jump

from jr_onnx.evaluation.evaluate import evaluate
from jr_onnx.evaluation.results import EvaluationReport, ModelResult
from jr_onnx.evaluation.verdict import LEVEL, judge

torch_missing = "the attacks that follow gradients need torch and adversarial-robustness-toolbox"


def evaluated(
    hardened: onnx.ModelProto | Path, *attacks: str, eps: float = 0.1, samples: int = 128
) -> EvaluationReport:
    pytest.importorskip("torch", reason=torch_missing)
    pytest.importorskip("art", reason=torch_missing)
    return evaluate(hardened, DIGITS, digits(samples), eps=[eps], attacks=attacks, effort=QUICK)


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


def result(name: str, true: npt.NDArray[np.bool_], worst: npt.NDArray[np.bool_]) -> ModelResult:
    return ModelResult(name, None, np.ones(true.shape[1], bool), true, worst, (), ())


def test_chance_makes_a_verdict_no_more_often_than_the_level_allows_however_many_eps() -> None:
    draw = np.random.default_rng(5)
    eps, wrong, masking, rounds = (0.1, 0.2, 0.3, 0.4), 0, 0, 400
    for _ in range(rounds):
        true = [draw.random((len(eps), 150)) < 0.6 for _ in range(2)]
        worst = [one & (draw.random(one.shape) < 0.9) for one in true]
        verdict = judge(result("a", true[0], worst[0]), result("b", true[1], worst[1]), eps, adaptive=True)
        wrong += verdict.gain != "NO GAIN"
        masking += verdict.masking
    # Three standard errors of a share of 5% in 400 rounds are 3.3 points.
    assert wrong / rounds < LEVEL + 0.033
    assert masking / rounds < LEVEL + 0.033


def test_worse_at_one_eps_is_worse_whatever_the_others_say() -> None:
    half = np.arange(100) < 50
    ones, zeros = np.ones(100, bool), np.zeros(100, bool)
    reference, hardened = np.stack([half, half]), np.stack([ones, zeros])
    verdict = judge(result("a", reference, reference), result("b", hardened, hardened), (0.1, 0.2), adaptive=True)
    assert [one.verdict for one in verdict.at] == ["GAIN", "WORSE"]
    assert verdict.gain == "WORSE"
    assert "eps 0.2" in verdict.headline


def test_what_more_effort_finds_on_both_models_is_no_masking() -> None:
    true = np.ones((1, 200), bool)
    worst = true.copy()
    worst[0, :8] = False
    verdict = judge(result("a", true, worst), result("b", true, np.roll(worst, 50)), (0.1,), adaptive=True)
    assert not verdict.masking
