"""Tuning from end to end on the digits classifier, and on models where the right answer is known."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import FLOAT, MODELS, hardened, make_model, node, run, value

import jr_onnx
from jr_onnx import ModelError, OptionError, RuntimeMissingError, TuningReport, convert, tune
from jr_onnx.robustness.dataset import Dataset, load_data
from jr_onnx.robustness.tuning.robustness import AttackSettings

DIGITS, TEST = MODELS / "digits.onnx", MODELS / "digits_test.npz"

#: Enough to break a network that has nothing to withstand it with, and quick.
SETTINGS = AttackSettings(eps=0.1, steps=5, restarts=8, samples=64)


def attacks() -> AttackSettings:
    """For tests that attack; they need the package of the extra."""
    pytest.importorskip("onnx_ad", reason="attacks need onnx-ad, from the extra [attack]")
    return SETTINGS


# --- by clean accuracy ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean() -> TuningReport:
    return tune(DIGITS, TEST, objective="clean", grid=(0.1, 0.5, 0.8), max_drop=2)


def test_every_candidate_is_measured_on_the_tuning_part_alone(clean: TuningReport) -> None:
    assert (clean.tuned_on, clean.tested_on) == (180, 180)
    assert [candidate.choice.jump for candidate in clean.candidates] == [0, 0.1, 0.5, 0.8]
    assert clean.candidates[0].drop.estimate == 0
    assert clean.candidates[0].zeroed_share == 0
    shares = [candidate.zeroed_share for candidate in clean.candidates]
    assert shares == sorted(shares)
    for candidate in clean.candidates:
        assert candidate.clean.estimate * 180 == pytest.approx(round(candidate.clean.estimate * 180))
        assert candidate.drop.estimate == pytest.approx(
            clean.candidates[0].clean.estimate - candidate.clean.estimate, abs=1e-12
        )
        assert candidate.within_budget is (candidate.drop.estimate <= 0.02)
        assert candidate.adaptive is candidate.true_gradient is None


def test_the_largest_jump_within_the_budget_is_chosen_and_confirmed_on_other_samples(clean: TuningReport) -> None:
    assert clean.chosen is clean.candidates[2]
    assert clean.policy == jr_onnx.JumpReluPolicy(0.5)
    assert clean.confirmation is not None
    assert clean.confirmation.verdict is None
    # Both parts together are all samples: the accuracies add up to that of the converted model on all of them.
    data = np.load(TEST)
    (scores,) = run(hardened(onnx.load(DIGITS), 0.5), {"image": data["x"]})
    right = round(180 * clean.chosen.clean.estimate) + round(180 * clean.confirmation.clean.estimate)
    assert right == (scores.argmax(axis=1) == data["y"]).sum()


def test_the_same_seed_gives_the_same_report_and_another_splits_otherwise(clean: TuningReport) -> None:
    again = tune(DIGITS, TEST, objective="clean", grid=(0.1, 0.5, 0.8), max_drop=2)
    assert again.candidates == clean.candidates
    other = tune(DIGITS, TEST, objective="clean", grid=(0.1, 0.5, 0.8), max_drop=2, seed=1)
    assert other.candidates != clean.candidates


def test_a_model_in_memory_gives_the_same(clean: TuningReport) -> None:
    again = tune(onnx.load(DIGITS), load_data(TEST), objective="clean", grid=(0.1, 0.5, 0.8), max_drop=2)
    assert again.candidates == clean.candidates
    assert again.source is None


def test_the_report_is_json(clean: TuningReport) -> None:
    plain = json.loads(json.dumps(clean.to_dict()))
    assert plain["chosen"] == 2
    assert plain["policy"] == {"default": 0.5, "rules": []}
    assert plain["candidates"][2]["zeroed"][0]["path"] == "node_relu"
    assert plain["confirmation"]["jump"] == 0.5


@pytest.mark.parametrize("per_layer", [False, True])
def test_a_quantile_zeroes_about_that_share(per_layer: bool) -> None:
    report = tune(DIGITS, TEST, objective="clean", quantiles=(0.1, 0.3), per_layer=per_layer, max_drop=100)
    for candidate, share in zip(report.candidates[1:], (0.1, 0.3), strict=True):
        assert candidate.choice.quantile == share
        assert candidate.zeroed_share == pytest.approx(share, abs=0.03)
        if per_layer:
            assert all(site.share == pytest.approx(share, abs=0.05) for site in candidate.zeroed)
    if per_layer:
        assert report.policy is not None
        converted = convert(DIGITS, policy=report.policy, dry_run=True)
        jumps = {site.path: site.jump for site in converted.sites}
        assert jumps == pytest.approx(dict(report.candidates[-1].choice.jumps), rel=1e-6)  # float32


def test_without_labels_agreement_with_the_original_counts() -> None:
    report = tune(DIGITS, load_data((np.load(TEST)["x"], None)), objective="clean", grid=(0.8,), max_drop=0)
    assert not report.labels
    assert report.candidates[0].clean.estimate == 1
    assert report.candidates[1].clean.estimate < 1
    assert report.chosen is report.confirmation is report.policy is None
    assert report.sentence.startswith("no jump keeps the clean accuracy within 0 points")


def test_the_budget_is_met_exactly() -> None:
    full = tune(DIGITS, TEST, objective="clean", grid=(0.8,), max_drop=100)
    drop = full.candidates[1].drop.estimate
    for max_drop, inside in ((100 * drop, True), (100 * drop - 0.01, False)):
        report = tune(DIGITS, TEST, objective="clean", grid=(0.8,), max_drop=max_drop)
        assert report.candidates[1].within_budget is inside


def test_choosing_by_clean_accuracy_imports_no_package_that_it_does_not_need() -> None:
    code = (
        "import sys, jr_onnx\n"
        f"jr_onnx.tune({str(DIGITS)!r}, {str(TEST)!r}, objective='clean')\n"
        "print([name for name in ('torch', 'onnx_ad', 'matplotlib', 'PIL', 'dask') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, jr_onnx, jr_onnx.robustness.dataset, jr_onnx.cli.tune\nprint([n for n in sys.modules if n in %r])"
    )
    heavy = ("torch", "onnx_ad", "onnxruntime", "matplotlib", "PIL", "dask", "rich")
    done = subprocess.run([sys.executable, "-c", code % (heavy,)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"objective": "best"}, "unknown objective 'best'; it is adaptive or clean"),
        ({"max_drop": -1}, "`max_drop` -1: give a number >= 0"),
        ({"max_drop": float("nan")}, "`max_drop` nan: give a number >= 0"),
        ({"test_share": 2}, "`test_share` 2: give a number between 0 and 1"),
        ({"grid": ()}, "`grid` is empty"),
        ({"workers": 0}, "`workers` 0: at least 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        tune(DIGITS, TEST, **{"objective": "clean", **options})


def test_an_optimised_model_is_refused_by_its_name(tmp_path: Path) -> None:
    jr_onnx.convert(DIGITS, jump=0.5, output=tmp_path / "hard.onnx")
    jr_onnx.optimize(tmp_path / "hard.onnx", output=tmp_path / "fast.onnx")
    with pytest.raises(ModelError, match=r"fast\.onnx: was optimised for one machine"):
        tune(tmp_path / "fast.onnx", TEST, objective="clean")


def test_parts_of_a_few_samples_are_refused() -> None:
    data = np.load(TEST)
    few = load_data((data["x"][:20], data["y"][:20]))
    assert tune(DIGITS, few, objective="clean", grid=(0.1,)).tested_on == 10
    with pytest.raises(OptionError, match=r"data: 16 samples to choose on and 4 to confirm on; 10 of each"):
        tune(DIGITS, few, objective="clean", test_share=0.2)


def test_an_eps_that_makes_no_sense_is_refused_before_anything_is_measured() -> None:
    settings = attacks()
    with pytest.raises(OptionError, match="write 8/255, not 8"):
        tune("no.onnx", "no.npz", attacks=replace(settings, eps=8))


def test_data_that_were_loaded_for_another_model_are_refused() -> None:
    data = np.load(TEST)
    with pytest.raises(OptionError, match="the model takes"):
        tune(DIGITS, load_data((data["x"][:, :, :4], data["y"])), objective="clean")
    with pytest.raises(OptionError, match="the label 19 is not one of the model's 10 classes"):
        tune(DIGITS, load_data((data["x"], data["y"] + 10)), objective="clean")


def test_without_the_extra_the_error_names_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RuntimeMissingError, match=r"needs onnx-ad: pip install onnx-ad, or .*clean"):
        tune(DIGITS, TEST)


# --- by what attacks leave --------------------------------------------------------------------------------------------


def noisy_classifier(background: int = 40) -> tuple[onnx.ModelProto, Dataset]:
    """A model for which a jump is a true defence, and the data that it knows.

    Class 1 is a light first pixel, class 0 a greyer one. All others are dark, and count for class 0: an attack that
    lights each of them a little adds up, unless a jump cuts it off before the sum.
    """
    weights = np.zeros((background + 1, 2), np.float32)
    weights[0, 1], weights[1:, 0] = 4, 1
    nodes = [node("Relu", "x", "h", "relu"), node("Gemm", "h w b", "y")]
    ends = [value("x", FLOAT, ["N", background + 1])], [value("y", FLOAT, ["N", 2])]
    model = make_model(nodes, *ends, initializers={"w": weights, "b": np.array([2, 0], np.float32)})
    labels = np.arange(160) % 2
    pixels = np.zeros((160, background + 1), np.float32)
    pixels[:, 0] = np.where(labels, 0.9, 0.3)
    return model, load_data((pixels, labels))


def test_a_jump_that_truly_helps_is_chosen() -> None:
    settings = attacks()
    model, data = noisy_classifier()
    report = tune(model, data, grid=(0.01, 0.2), attacks=settings)
    original, small, large = report.candidates
    assert original.adaptive is not None
    assert original.adaptive.estimate == pytest.approx(0.5, abs=0.15)  # class 0, which nothing endangers
    assert small.adaptive is not None
    assert small.adaptive.estimate == original.adaptive.estimate
    assert large.adaptive is not None
    assert large.adaptive.estimate == 1
    assert report.chosen is large
    assert report.policy == jr_onnx.JumpReluPolicy(0.2)
    assert report.confirmation is not None
    assert report.confirmation.verdict is not None
    assert report.confirmation.verdict.words == "GAIN"
    assert report.sentence.startswith("jump 0.2, on the test part: harder to fool than the original: ")
    json.dumps(report.to_dict())


def test_where_nothing_is_gained_nothing_is_chosen() -> None:
    settings = attacks()
    report = tune(DIGITS, TEST, grid=(0.5, 2.0), max_drop=5, attacks=replace(settings, samples=180))
    original, middle, large = report.candidates
    for candidate in (original, middle):
        assert candidate.adaptive is not None
        assert candidate.true_gradient is not None
        assert candidate.adaptive.estimate <= candidate.true_gradient.estimate <= candidate.clean.estimate + 0.05
    assert not large.within_budget
    assert large.adaptive is None  # what cannot be chosen is not attacked
    assert report.chosen is report.policy is None
    assert report.sentence.startswith("no jump is worth it: ")
    assert (report.attacked, report.eps) == (180, 0.1)
    # Where the attacks that adapt find more than a control of as many starts, the report says what that is.
    masked = [candidate.masking for candidate in report.candidates]
    assert not masked[0]
    assert any("(gradient masking)" in note for note in report.notes) == any(masked)


def test_at_an_eps_that_nothing_survives_the_report_says_so() -> None:
    settings = attacks()
    model, data = noisy_classifier()
    strong = replace(settings, eps=0.6, samples=32)
    report = tune(model, data, grid=(0.05,), attacks=strong)
    assert report.candidates[0].adaptive is not None
    assert report.candidates[0].adaptive.estimate == 0
    assert any("choose a smaller one" in note for note in report.notes)


def test_finished_attacks_are_taken_from_the_journal(tmp_path: Path) -> None:
    settings = attacks()
    model, data = noisy_classifier()
    seen: list[tuple[str, int, int]] = []
    one = tune(model, data, grid=(0.2,), attacks=settings, journal=tmp_path, progress=lambda *step: seen.append(step))
    first, *_, last = (step for step in seen if step[0] == "attack")
    assert first[1] == 0
    assert last[1] == last[2], "what was left at first is the most that could come"
    seen.clear()
    again = tune(model, data, grid=(0.2,), attacks=settings, journal=tmp_path, progress=lambda *step: seen.append(step))
    assert [step for step in seen if step[0] == "attack"][-1] == last
    assert again.candidates == one.candidates


@pytest.mark.parametrize("field", ["steps", "restarts", "samples"])
def test_attacks_of_no_strength_are_refused(field: str) -> None:
    with pytest.raises(OptionError, match="at least 1"):
        AttackSettings(**{field: 0})
