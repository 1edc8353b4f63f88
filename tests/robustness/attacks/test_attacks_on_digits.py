"""What every attack promises, on the digits classifier: bounds, seeds, and that a success is onnxruntime's."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from attacked import IMAGES, LABELS, digits, right, with_head, without_gradient
from support import Array

from jr_onnx import OptionError
from jr_onnx.robustness.attacks import ascent
from jr_onnx.robustness.attacks.attack import run
from jr_onnx.robustness.attacks.search import Search, margin_of
from jr_onnx.robustness.attacks.target import ATTACKS, AttackOutcome, Effort

EACH_ATTACK = pytest.mark.parametrize("name", ATTACKS)
WHITE_BOX = [name for name, info in ATTACKS.items() if info.needs_gradient]
EFFORT = Effort(eps=0.1, steps=6, restarts=2, queries=40)
N = 10


def attack(name: str, jump: float = 0.4, effort: Effort = EFFORT, index: slice = slice(0, N)) -> AttackOutcome:
    """The attack on some of the first images, each with its own seed."""
    images, labels = IMAGES[:N][index], LABELS[:N][index]
    return run(name, digits(jump), images, labels, range(100, 100 + N)[index], effort, source=digits())


@EACH_ATTACK
def test_an_attack_keeps_to_its_bounds(name: str) -> None:
    before = IMAGES[:N].copy()
    outcome = attack(name)
    np.testing.assert_array_equal(IMAGES[:N], before)
    assert outcome.images.dtype == np.float32
    assert outcome.images.shape == before.shape
    assert outcome.images.min() >= 0
    assert outcome.images.max() <= 1
    if ATTACKS[name].bounded:
        assert np.abs(outcome.images - before).max() <= EFFORT.eps + 1e-6


@EACH_ATTACK
def test_an_attack_does_harm(name: str) -> None:
    """No attack is so broken that it leaves the classifier as it was."""
    effort = dataclasses.replace(EFFORT, eps=0.2, steps=20)
    outcome = attack(name, effort=effort)
    assert right(digits(0.4), outcome.images, LABELS[:N]).sum() <= N // 2


@EACH_ATTACK
def test_the_same_seeds_give_the_same_images(name: str) -> None:
    np.testing.assert_array_equal(attack(name).images, attack(name).images)


@EACH_ATTACK
def test_what_an_image_gets_does_not_depend_on_the_others_in_its_batch(name: str) -> None:
    together = attack(name)
    for index in (slice(0, 4), slice(4, N)):
        alone = attack(name, index=index)
        np.testing.assert_allclose(alone.images, together.images[index], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(alone.failed, together.failed[index])


@pytest.mark.parametrize("name", ["pgd", "smooth", "transfer"])
def test_starts_side_by_side_break_what_starts_one_after_another_break(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    effort = Effort(eps=0.08, steps=6)
    together = attack(name, effort=effort)
    monkeypatch.setattr(ascent, "_AT_ONCE", 1)
    alone = attack(name, effort=effort)
    broken = [~right(digits(0.4), outcome.images, LABELS[:N]) for outcome in (together, alone)]
    np.testing.assert_array_equal(*broken)
    assert 0 < broken[0].sum() < N


def test_of_several_candidates_for_an_image_the_one_that_came_nearest_is_kept() -> None:
    search = Search(ATTACKS["pgd"], digits(), IMAGES[:2], LABELS[:2], np.arange(2), Effort())
    noise = np.random.default_rng(5).random((6, 1, 8, 8), np.float32)
    index = np.array([0, 0, 0, 1, 1, 1])
    candidates = np.clip(IMAGES[index] + noise * 0.5, 0, 1).astype(np.float32)
    margins = margin_of(digits().session_run(candidates), LABELS[index])
    search.judge(index, candidates)
    for image in (0, 1):
        nearest = min(np.flatnonzero(index == image), key=lambda one: margins[one])
        np.testing.assert_array_equal(search.best[image], candidates[nearest])
        assert search.margins[image] == margins[nearest]


@pytest.mark.parametrize("name", ["pgd", "smooth", "square"])
def test_other_seeds_give_other_images(name: str) -> None:
    effort = Effort(eps=0.02, steps=2, queries=20)  # too weak to end before it draws
    images, labels = IMAGES[:N], LABELS[:N]
    one = run(name, digits(), images, labels, range(N), effort)
    other = run(name, digits(), images, labels, range(50, 50 + N), effort)
    assert not np.array_equal(one.images, other.images)


@pytest.mark.parametrize("name", WHITE_BOX)
@pytest.mark.parametrize("kind", ["zero", "nan"])
def test_a_gradient_that_is_no_use_is_a_failure_and_no_success(name: str, kind: str) -> None:
    target = without_gradient(kind)
    images = np.random.default_rng(0).random((6, 1, 3, 3), np.float32)
    labels = np.asarray(target.session_run(images)).argmax(1)
    outcome = run(name, target, images, labels, range(6), Effort(eps=0.001, steps=4), source=target)
    assert outcome.failed.all()
    assert np.isfinite(outcome.images).all()
    assert right(target, outcome.images, labels).all()


def test_the_square_attack_needs_no_gradient() -> None:
    target = without_gradient("zero")
    images = np.random.default_rng(0).random((6, 1, 3, 3), np.float32)
    labels = np.asarray(target.session_run(images)).argmax(1)
    blind = dataclasses.replace(target, gradients=None)
    outcome = run("square", blind, images, labels, range(6), Effort(eps=0.3, queries=100))
    assert not outcome.failed.any()
    assert not right(target, outcome.images, labels).any()


@pytest.mark.parametrize("name", ["pgd", "deepfool-l2", "trust-region", "square"])
def test_scores_that_are_nan_are_no_success(name: str) -> None:
    target = digits()
    broken = dataclasses.replace(target, session_run=lambda x: np.asarray(target.session_run(x)) * np.nan)
    outcome = run(name, broken, IMAGES[:N], LABELS[:N], range(N), EFFORT)
    np.testing.assert_array_equal(outcome.images, IMAGES[:N])


@pytest.mark.parametrize("name", ["pgd", "ifgsm", "deepfool-linf", "trust-region"])
def test_an_attack_goes_on_until_onnxruntime_agrees(name: str) -> None:
    """The copy is fooled long before a file that never is; the attack must not stop at the copy."""
    target, asked = digits(), {"soft": 0, "hard": 0}

    def soft(x: Array) -> Array:
        asked["soft"] += len(x)
        return np.asarray(target.session_run(x))

    def hard(x: Array) -> Array:
        asked["hard"] += len(x)
        return np.tile(np.eye(10)[LABELS[0]], (len(x), 1))

    index = [i for i in range(60) if LABELS[i] == LABELS[0]][:3]
    effort = dataclasses.replace(EFFORT, eps=0.4, steps=40)
    for session_run in (soft, hard):
        one = dataclasses.replace(target, session_run=session_run)
        run(name, one, IMAGES[index], LABELS[index], range(3), effort)
    assert asked["hard"] > asked["soft"]


def test_the_smooth_gradient_finds_what_the_true_one_does_not() -> None:
    """Gradient masking, in the numbers of one model: jump 0.4, eps 0.1, 100 images."""
    effort = Effort(eps=0.1, steps=20)
    left = {
        name: right(
            digits(0.4), run(name, digits(0.4), IMAGES[:100], LABELS[:100], range(100), effort).images, LABELS[:100]
        ).sum()
        for name in ("pgd", "smooth")
    }
    assert left["smooth"] <= left["pgd"] - 4


@pytest.mark.parametrize("name", ["pgd", "bpda", "smooth", "transfer", "ifgsm"])
@pytest.mark.parametrize("jump", [0.0, 0.4])
def test_a_model_that_is_sure_of_itself_is_broken_as_often_as_one_that_is_not(name: str, jump: float) -> None:
    """The same classes, and logits forty times as far apart: in float32 the cross-entropy has no gradient left."""
    effort = Effort(eps=0.1, steps=20)
    sure, unsure = (
        run(name, with_head("logits", scale, jump), IMAGES[:64], LABELS[:64], range(64), effort, source=source)
        for scale, source in ((40.0, with_head("logits", 40.0)), (1.0, with_head("logits", 1.0)))
    )
    assert not sure.failed.any()
    left = [int(right(digits(jump), outcome.images, LABELS[:64]).sum()) for outcome in (sure, unsure)]
    assert left[0] - left[1] <= 2
    assert left[0] < 60


@pytest.mark.parametrize("head", ["softmax", "softmax, identity", "softmax, flatten"])
@pytest.mark.parametrize("name", ["pgd", "deepfool-linf", "square"])
def test_a_softmax_in_the_file_hides_nothing(name: str, head: str) -> None:
    """Its probability of the right class is 1 in float32 for most of these images.

    Square has the file's scores alone, so it must not be all: where the others are 0 there is nothing to go by.
    """
    effort, scale = Effort(eps=0.15, steps=10, queries=150), 3.0 if name == "square" else 40.0
    behind, plain = (
        run(name, with_head(kind, scale), IMAGES[:64], LABELS[:64], range(64), effort) for kind in (head, "logits")
    )
    left = [int(right(digits(), outcome.images, LABELS[:64]).sum()) for outcome in (behind, plain)]
    assert abs(left[0] - left[1]) <= 2
    assert left[0] < 55


def test_transfer_finds_what_its_last_step_has_lost_again() -> None:
    """A target that is wrong about one step of the way, and right before and behind it."""
    clean, labels = IMAGES[:4], LABELS[:4]
    effort = Effort(eps=0.1, steps=4)

    def scores(images: Array) -> Array:
        far = np.abs(images - clean[:1]).reshape(len(images), -1).max(1)
        midway = (far > 0.05) & (far < 0.08)
        return np.eye(10)[np.where(midway, (labels[0] + 1) % 10, labels[0])]

    target = dataclasses.replace(digits(), session_run=scores)
    outcome = run("transfer", target, clean[:1], labels[:1], [0], effort, source=digits())
    assert scores(outcome.images).argmax(1) != labels[:1]


def test_more_steps_leave_fewer() -> None:
    few, many = (
        right(digits(), run("pgd", digits(), IMAGES[:60], LABELS[:60], range(60), effort).images, LABELS[:60]).sum()
        for effort in (Effort(eps=0.15, steps=1), Effort(eps=0.15, steps=20))
    )
    assert many < few


@pytest.mark.parametrize("name", ["pgd", "smooth", "bpda"])
def test_later_starts_go_on_from_where_the_first_ones_ended(name: str) -> None:
    """Start by start and all at once are the same: random numbers go with the number of a start."""
    effort, rows = Effort(eps=0.06, steps=5), np.arange(40)
    at_once = run(name, digits(0.4), IMAGES[rows], LABELS[rows], rows, effort, starts=range(8))
    left = rows
    for start in range(8):
        found = run(name, digits(0.4), IMAGES[left], LABELS[left], left, effort, starts=range(start, start + 1))
        left = left[right(digits(0.4), found.images, LABELS[left])]
    np.testing.assert_array_equal(left, rows[right(digits(0.4), at_once.images, LABELS[rows])])
    assert 0 < len(left) < 40


def test_a_gradient_that_moves_nothing_is_a_failure() -> None:
    """Behind a jump that lets nothing through the smooth gradient is not zero, and no step changes a score."""
    dead = digits(1000.0)
    labels = np.asarray(dead.session_run(IMAGES[:8])).argmax(1)
    outcome = run("smooth", dead, IMAGES[:8], labels, range(8), Effort(eps=0.1, steps=5))
    assert outcome.failed.all()


def test_transfer_takes_its_gradients_from_the_source_alone() -> None:
    target = digits(0.4)
    blind = dataclasses.replace(target, gradients=None)
    outcome = run("transfer", blind, IMAGES[:N], LABELS[:N], range(N), EFFORT, source=digits())
    np.testing.assert_array_equal(outcome.images, attack_transfer().images)


def attack_transfer() -> AttackOutcome:
    """The same with a target that has gradients."""
    return run("transfer", digits(0.4), IMAGES[:N], LABELS[:N], range(N), EFFORT, source=digits())


@EACH_ATTACK
def test_no_images_are_no_work(name: str) -> None:
    outcome = run(name, digits(), IMAGES[:0], LABELS[:0], [], EFFORT, source=digits())
    assert len(outcome.images) == len(outcome.failed) == len(outcome.relative_noise) == 0


@EACH_ATTACK
def test_an_image_in_a_wrong_class_already_is_left_as_it_is(name: str) -> None:
    wrong = (LABELS[:4] + 1) % 10
    outcome = run(name, digits(), IMAGES[:4], wrong, range(4), EFFORT, source=digits())
    np.testing.assert_array_equal(outcome.images, IMAGES[:4])


@pytest.mark.parametrize(
    "name, effort, problem",
    [
        ("fgsm", EFFORT, "there is no attack 'fgsm'; there are ifgsm, "),
        ("pgd", dataclasses.replace(EFFORT, steps=0), "steps=0"),
        ("pgd", dataclasses.replace(EFFORT, eps=-0.1), r"eps=-0\.1"),
        ("pgd", dataclasses.replace(EFFORT, eps=float("nan")), "eps=nan"),
        ("square", dataclasses.replace(EFFORT, eps=float("inf")), "square: eps must be finite"),
        ("transfer", EFFORT, "transfer: the original model is needed too"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, effort: Effort, problem: str) -> None:
    with pytest.raises(OptionError, match=problem):
        run(name, digits(), IMAGES[:2], LABELS[:2], range(2), effort)


def test_an_attack_that_follows_gradients_needs_a_copy() -> None:
    blind = dataclasses.replace(digits(), gradients=None)
    with pytest.raises(OptionError, match="pgd: it follows gradients, and the target has none"):
        run("pgd", blind, IMAGES[:2], LABELS[:2], range(2), EFFORT)
    with pytest.raises(OptionError, match="2 images, 2 labels and 3 seeds"):
        run("pgd", digits(), IMAGES[:2], LABELS[:2], range(3), EFFORT)


def test_attacks_can_be_imported_without_onnxruntime_and_onnx_ad() -> None:
    code = (
        "import sys, jr_onnx.robustness.attacks.attack, jr_onnx.robustness.gradients.errors;"
        "assert not {'torch', 'art', 'onnx_ad', 'onnxruntime'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
