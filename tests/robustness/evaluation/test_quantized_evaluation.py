"""Hardened models of integers: their gradients, what is counted at their sites, and a verdict."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest
from quantized_models import KINDS, quantized_digits
from support import MODELS, Array, hardened, run

from jr_onnx.robustness.attacks.target import Effort
from jr_onnx.robustness.dataset import load_data
from jr_onnx.robustness.evaluation.evaluate import evaluate, zeroed_layers
from jr_onnx.robustness.evaluation.report import EvaluationReport

pytest.importorskip("onnx_ad", reason="gradients need onnx-ad, from the extra [attack]")

from jr_onnx.robustness.gradients.backward import RELU, TRUE, Backward, smooth
from jr_onnx.robustness.gradients.gradients import Gradients

DIGITS, TEST = MODELS / "digits.onnx", MODELS / "digits_test.npz"


def slopes(model: onnx.ModelProto, backward: Backward, samples: int = 64) -> tuple[Array, Array]:
    """The scores, and the gradient of the cross-entropy for the right labels: a row a sample."""
    data = load_data(TEST)
    gradients = Gradients(model, (1, 8, 8))
    own = np.eye(10, dtype=np.float32)[data.labels[:samples]]
    images = data.images[:samples].astype(np.float32)
    scores, (slope,) = gradients(images, -own[:, :, None], rivals=own == 0, backward=backward)
    return scores, slope.reshape(samples, -1)


@pytest.mark.parametrize("target", ["custom-op", "standard", "subgraph"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backward", [TRUE, RELU, smooth(0.25)], ids=["true", "relu", "smooth"])
def test_gradients_are_those_of_the_float_model(kind: tuple[str, str], target: str, backward: Backward) -> None:
    model = hardened(quantized_digits(*kind), target=target)
    scores, slope = slopes(model, backward)
    given = run(model, {"image": load_data(TEST).images[:64].astype(np.float32)})[0]
    np.testing.assert_allclose(scores, given, rtol=0, atol=0.02 * np.abs(given).max())  # one that is halfway may differ
    _, exact = slopes(hardened(onnx.load(DIGITS)), backward)
    likeness = (slope * exact).sum(1) / np.linalg.norm(slope, axis=1) / np.linalg.norm(exact, axis=1)
    assert np.median(likeness) > 0.97
    assert (likeness > 0.8).mean() > 0.8


def test_the_smooth_backward_reaches_what_the_jump_makes_zero() -> None:
    model = hardened(quantized_digits("QUInt8", "QDQ"), jump=1)
    without = (slopes(model, TRUE)[1] == 0).mean()
    for backward in (RELU, smooth(0.25)):
        assert (slopes(model, backward)[1] == 0).mean() < without


@pytest.mark.parametrize("jump", [0, 0.5])
@pytest.mark.parametrize("backward", [TRUE, RELU], ids=["true", "relu"])
def test_all_forms_have_the_same_gradient(backward: Backward, jump: float) -> None:
    """But for a smooth step, of which the form in float does not know that half a step of the grid was rounded."""
    called, *others = (
        slopes(hardened(quantized_digits("QUInt8", "QDQ"), jump=jump, target=target), backward)
        for target in ("custom-op", "standard", "subgraph")
    )
    for scores, slope in others:
        np.testing.assert_array_equal(scores, called[0])
        np.testing.assert_allclose(slope, called[1], rtol=0, atol=1e-5 * np.abs(slope).max())


@pytest.mark.parametrize("kind", KINDS)
def test_what_becomes_zero_is_counted_among_what_the_integers_stand_for(kind: tuple[str, str]) -> None:
    data = load_data(TEST)
    found = zeroed_layers(hardened(quantized_digits(*kind)), data)
    expected = zeroed_layers(hardened(onnx.load(DIGITS)), data)
    assert len(found) == len(expected) == 4
    for layer, as_float in zip(found, expected, strict=True):
        assert layer.share == pytest.approx(as_float.share, abs=0.05)


def evaluated(original: onnx.ModelProto) -> EvaluationReport:
    """A jump of 0.5 under all attacks."""
    data = load_data(TEST).take(np.arange(96))
    return evaluate(original, hardened(original), data, eps=0.1, effort=Effort(steps=10, restarts=4, queries=60))


@functools.cache
def of_floats() -> EvaluationReport:
    """What is found of the float model."""
    return evaluated(onnx.load(DIGITS))


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_finds_what_it_finds_of_the_float_model(kind: tuple[str, str]) -> None:
    report = evaluated(quantized_digits(*kind))
    assert report.verdicts["hardened"].outcome == of_floats().verdicts["hardened"].outcome
    for name, result in report.models.items():
        assert not (result.survives[0] & ~result.survives_true[0]).any()
        as_float = of_floats().models[name]
        assert result.survives[0].mean() == pytest.approx(as_float.survives[0].mean(), abs=0.06)
        assert result.survives_true[0].mean() == pytest.approx(as_float.survives_true[0].mean(), abs=0.06)
    breaks = report.models["hardened"]
    assert breaks.survives[0].sum() < breaks.survives_true[0].sum()
    assert [0 < layer.share < 1 for layer in report.zeroed["hardened"]] == [True] * 4
