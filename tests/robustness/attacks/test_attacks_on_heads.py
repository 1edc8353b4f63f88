"""What stands behind the logits, infinities and probabilities too, hides nothing from an attack."""

from __future__ import annotations

import numpy as np
import pytest
from attacked import IMAGES, LABELS, digits, head_model, right, target_of, with_head
from support import make_model, node, value

from jr_onnx.robustness.attacks.attack import run
from jr_onnx.robustness.attacks.target import Effort
from jr_onnx.robustness.attacks.view import CROSS_ENTROPY, MARGIN, View, maybe_wrong
from jr_onnx.robustness.dataset import load_data
from jr_onnx.robustness.evaluation.campaign import run_campaign
from jr_onnx.robustness.gradients.backward import TRUE

#: Images that are right, with and without class 0.
ROWS = np.flatnonzero(right(digits(), IMAGES[:40], LABELS[:40]) & (LABELS[:40] != 0))
EFFORT = Effort(eps=0.15, steps=10, queries=150)
WHITE_BOX = ["ifgsm", "pgd", "deepfool-linf", "trust-region"]


def broken(name: str, kind: str) -> int:
    """How many of the images that the classifier has right the attack breaks, none of them without a gradient."""
    target, images, labels = with_head(kind, 1.0), IMAGES[ROWS], LABELS[ROWS]
    assert right(target, images, labels).all()
    outcome = run(name, target, images, labels, ROWS.tolist(), EFFORT)
    assert not outcome.failed.any()
    return int((~right(target, outcome.images, labels)).sum())


@pytest.mark.parametrize("name", [*WHITE_BOX, "square"])
def test_a_class_that_is_masked_hides_nothing(name: str) -> None:
    plain, masked = (broken(name, kind) for kind in ("logits", "class 0 masked"))
    assert abs(plain - masked) <= 3  # class 0 is a rival no longer
    assert masked > 3


@pytest.mark.parametrize("head", ["softmax, clipped", "exp of log softmax"])
@pytest.mark.parametrize("name", WHITE_BOX)
def test_probabilities_that_are_no_softmax_at_the_end_hide_nothing(name: str, head: str) -> None:
    plain, behind = (broken(name, kind) for kind in ("logits", head))
    assert abs(plain - behind) <= 3
    assert behind > 3


@pytest.mark.parametrize("kind", ["log of softmax", "class 0 masked"])
def test_infinite_scores_are_no_gain(kind: str) -> None:
    """At this scale most probabilities are 0 in float32. Their logarithm has no gradient; transfer needs none."""
    models = {"plain": head_model("logits", 1.0), "other": head_model(kind, 1000.0)}
    some = LABELS[:64] != 0
    report = run_campaign(
        models,
        load_data((IMAGES[:64][some], LABELS[:64][some])),
        eps=[0.15],
        attacks=["pgd", "transfer"],
        effort=EFFORT,
    )
    plain, other = report.models.values()
    assert plain.clean_accuracy == other.clean_accuracy
    assert abs(int(plain.survives.sum()) - int(other.survives.sum())) <= 2
    assert plain.survives.sum() < plain.correct.sum() - 10


@pytest.mark.parametrize("sharpness", [CROSS_ENTROPY, MARGIN])
def test_the_gradient_of_a_loss_does_not_see_a_rival_at_minus_infinity(sharpness: float) -> None:
    """Two classes and three, of which one is masked."""
    x = np.asarray([[300.0, 2.0, -50.0], [1.0, 3.0, 2.0]], np.float32)
    found = []
    for classes in (3, 4):
        rows = [node("Concat", "x none", "y", axis=1)] if classes == 4 else [node("Identity", "x", "y")]
        constants = {"none": np.full((2, 1), -np.inf, np.float32)}
        model = make_model(rows, [value("x", shape=[2, 3])], [value("y", shape=[2, classes])], initializers=constants)
        found.append(View(target_of(model), TRUE, 2).gradient(x, np.asarray([0, 1]), sharpness)[1])
    np.testing.assert_array_equal(*found)
    assert (found[0] != 0).any(1).all()


def test_scores_that_are_level_may_be_wrong() -> None:
    scores = np.asarray([[-1e30, -1e30], [2.0, 2.0], [3.0, 2.0], [-1e30, 2.0]], np.float32)
    assert maybe_wrong(scores, np.zeros(4, np.int64)).tolist() == [True, True, False, True]
