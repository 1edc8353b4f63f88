"""What stands behind the logits, infinities and probabilities too, hides nothing from an attack."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: attacks that follow gradients need it")

from attacked import IMAGES, LABELS, digits, head_model, right, with_head  # noqa: E402 - behind the check

from jr_onnx.robustness.attacks.attack import run  # noqa: E402
from jr_onnx.robustness.attacks.target import Effort  # noqa: E402
from jr_onnx.robustness.attacks.view import cross_entropy, margin, maybe_wrong  # noqa: E402
from jr_onnx.robustness.dataset import load_data  # noqa: E402
from jr_onnx.robustness.evaluation.campaign import run_campaign  # noqa: E402

#: Images that are right, with and without class 0.
ROWS = np.flatnonzero(right(digits(), IMAGES[:40], LABELS[:40]) & (LABELS[:40] != 0))
EFFORT = Effort(eps=0.15, steps=10, queries=150)
WHITE_BOX = ["ifgsm", "pgd", "pgd-margin", "apgd", "deepfool-linf", "trust-region"]


def broken(name: str, kind: str) -> int:
    """How many of the images that the classifier has right the attack breaks, none of them without a gradient."""
    if name == "apgd":
        pytest.importorskip("art", reason="adversarial-robustness-toolbox is not installed: apgd needs it")
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


@pytest.mark.parametrize("loss", [cross_entropy, margin])
def test_a_loss_and_its_gradient_do_not_see_a_rival_at_minus_infinity(loss: object) -> None:
    assert callable(loss)
    found = []
    for masked in (False, True):
        logits = torch.tensor([[300.0, 2.0, -50.0], [1.0, 3.0, 2.0]], requires_grad=True)
        seen = torch.cat([logits, torch.full((2, 1), -torch.inf)], 1) if masked else logits
        losses = loss(seen, torch.tensor([0, 1]))
        found.append((losses.detach(), *torch.autograd.grad(losses.sum(), logits)))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_a_copy_that_is_level_may_be_wrong() -> None:
    logits = torch.tensor([[-1e30, -1e30], [2.0, 2.0], [3.0, 2.0], [-1e30, 2.0]])
    assert maybe_wrong(logits, torch.zeros(4, dtype=torch.int64)).tolist() == [True, True, False, True]
