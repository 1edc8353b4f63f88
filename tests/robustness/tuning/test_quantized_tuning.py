"""Tuning models of integers: the session answers as each converted file does, and jumps count in steps."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from quantized_models import KINDS, quantized_digits
from support import MODELS, hardened, run

from jr_onnx import find_sites, tune
from jr_onnx.conversion.quantization import Quantization
from jr_onnx.robustness.activations import site_inputs
from jr_onnx.robustness.dataset import load_data, read_classifier
from jr_onnx.robustness.tuning.jump_inputs import harden
from jr_onnx.robustness.tuning.robustness import AttackSettings
from jr_onnx.robustness.tuning.runs import jump_session

DATA = load_data(MODELS / "digits_test.npz").take(np.arange(100))


def quantization_of(model: onnx.ModelProto) -> list[Quantization]:
    """How the integers of each site stand for numbers."""
    return [site.quantization for site in find_sites(model) if site.quantization is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_the_session_answers_as_each_converted_file_does(kind: tuple[str, str]) -> None:
    model = quantized_digits(*kind)
    prepared, classifier = harden(model, clip=False), read_classifier(model)
    paths = [path for path, _ in prepared.model.sites]
    assert len(paths) == 4
    jumps = (0.0, 0.3, 0.8)
    with jump_session(prepared, classifier) as session:
        found = session.run(DATA, [dict.fromkeys(paths, jump) for jump in jumps], lambda *_: None)
    images = DATA.batch(slice(None))
    for jump, counts in zip(jumps, found, strict=True):
        assert counts.predictions.tolist() == run(hardened(model, jump), {"image": images})[0].argmax(axis=1).tolist()
    batches = list(site_inputs(prepared.model, classifier, DATA))  # what goes in at jump 0
    assert found[0].positive == {path: sum((batch[path] > 0).sum() for batch in batches) for path in paths}
    assert found[0].kept == found[0].positive
    first = paths[0]
    for jump, counts in zip(jumps, found, strict=True):
        assert counts.kept[first] == sum((batch[first] > np.float32(jump)).sum() for batch in batches)


def test_a_model_that_is_hardened_already_gets_other_jumps() -> None:
    model = quantized_digits("QUInt8", "QDQ")
    for before in (hardened(model, 0.4), hardened(model, 0.4, target="standard")):
        report = tune(before, DATA, objective="clean", grid=[0.5], max_drop=20)
        assert report.policy is not None
        after = hardened(before, policy=report.policy, jump=None)
        images = {"image": DATA.batch(slice(None))}
        np.testing.assert_array_equal(run(after, images)[0], run(hardened(model, 0.5), images)[0])


def test_jumps_that_give_the_same_thresholds_are_tried_once() -> None:
    model = quantized_digits("QUInt8", "QDQ")
    steps = [one.scale for one in quantization_of(model)]
    grid = [min(steps) / 2, 2.5 * max(steps), 2.5 * max(steps) * (1 + 1e-7)]
    report = tune(model, DATA, objective="clean", grid=grid)
    assert [candidate.choice.jump for candidate in report.candidates] == [0, grid[1]]


@pytest.mark.parametrize("per_layer", [True, False])
def test_quantiles_are_of_what_the_integers_stand_for(per_layer: bool) -> None:
    model = quantized_digits("QInt8", "QDQ")
    quantiles = (0.1, 0.3)
    report = tune(model, DATA, objective="clean", quantiles=quantiles, per_layer=per_layer)
    as_float = tune(MODELS / "digits.onnx", DATA, objective="clean", quantiles=quantiles, per_layer=per_layer)
    for found, expected in zip(report.candidates[1:], as_float.candidates[1:], strict=True):
        assert found.zeroed_share == pytest.approx(expected.zeroed_share, abs=0.05)
        jumps = zip(found.choice.jumps.values(), expected.choice.jumps.values(), strict=True)
        steps = [one.scale for one in quantization_of(model)]
        for (jump, other), step in zip(jumps, steps, strict=True):
            assert abs(jump - other) <= max(2 * step, 0.05 * other)


def test_candidates_are_attacked_as_they_would_ship() -> None:
    pytest.importorskip("onnx_ad", reason="attacks need onnx-ad, from the extra [attack]")
    settings = AttackSettings(eps=0.1, steps=5, restarts=4, samples=32)
    report = tune(quantized_digits("QUInt8", "QDQ"), DATA, grid=[0.3], max_drop=20, attacks=settings)
    assert [candidate.adaptive is not None for candidate in report.candidates] == [True, True]
