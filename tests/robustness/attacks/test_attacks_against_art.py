"""Our attacks against those of adversarial-robustness-toolbox, where it has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: ART's classifier needs it")
pytest.importorskip("art", reason="adversarial-robustness-toolbox is not installed: nothing to compare with")

from art.attacks.evasion import (  # noqa: E402 - behind the checks
    AutoProjectedGradientDescent,
    DeepFool,
    SquareAttack,
)
from art.estimators.classification import PyTorchClassifier  # noqa: E402
from attacked import IMAGES, LABELS, digits, right  # noqa: E402

from jr_onnx.robustness.attacks.attack import run  # noqa: E402
from jr_onnx.robustness.attacks.target import CYCLE, Effort  # noqa: E402
from jr_onnx.robustness.attacks.view import View  # noqa: E402
from jr_onnx.robustness.gradients.backward import TRUE  # noqa: E402

X, Y = IMAGES[:40], LABELS[:40]


class Scores(torch.autograd.Function):  # type: ignore[misc]
    """A view's scores and gradients for torch."""

    @staticmethod
    def forward(ctx: Any, x: Any, view: View) -> Any:
        ctx.x, ctx.view = x.detach().numpy(), view
        return torch.from_numpy(view.scores(ctx.x))

    @staticmethod
    def backward(ctx: Any, weights: Any) -> Any:
        return torch.from_numpy(ctx.view.sums(ctx.x, weights.numpy()[:, :, None])[1][0]), None


class Model(torch.nn.Module):  # type: ignore[misc]
    """The digits classifier."""

    def __init__(self, jump: float) -> None:
        super().__init__()
        self.view = View(digits(jump), TRUE, 4)

    def forward(self, x: Any) -> Any:
        return Scores.apply(x, self.view)


def classifier(jump: float) -> Any:
    """ART's view of the digits classifier."""
    return PyTorchClassifier(Model(jump), torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0.0, 1.0))


def test_deepfool_needs_about_the_noise_that_art_needs() -> None:
    """ART linearises at the same points; it oversteps by a millionth, and we by the authors' two hundredths."""
    few = X[:12]
    theirs = DeepFool(classifier(0.0), max_iter=40, epsilon=0.02, nb_grads=10, batch_size=40, verbose=False).generate(
        few
    )
    ours = run("deepfool-l2", digits(), few, Y[:12], range(12), Effort(steps=40)).images
    assert not right(digits(), ours, Y[:12]).any()
    noise = [np.linalg.norm((found - few).reshape(12, -1), axis=1).mean() for found in (ours, theirs)]
    assert noise[0] == pytest.approx(noise[1], rel=0.1)


def test_square_does_about_what_arts_does() -> None:
    np.random.seed(0)
    theirs = SquareAttack(classifier(0.0), eps=0.15, max_iter=100, p_init=0.8, batch_size=40, verbose=False).generate(
        X, Y
    )
    ours = run("square", digits(), X, Y, range(40), Effort(eps=0.15, queries=102)).images
    left = [int(right(digits(), found, Y).sum()) for found in (ours, theirs)]
    assert abs(left[0] - left[1]) <= 8


@pytest.mark.parametrize("jump", [0.0, 0.4])
@pytest.mark.parametrize("loss", ["cross_entropy", "difference_logits_ratio"])
def test_one_cycle_of_pgd_leaves_no_more_than_auto_pgd_of_art(jump: float, loss: str) -> None:
    np.random.seed(0)
    eps, steps = 0.06, 20
    theirs = AutoProjectedGradientDescent(
        classifier(jump),
        norm=np.inf,
        eps=eps,
        eps_step=2 * eps,
        max_iter=steps,
        nb_random_init=CYCLE,
        batch_size=40,
        loss_type=loss,
        verbose=False,
    ).generate(X, Y)
    ours = run("pgd", digits(jump), X, Y, range(40), Effort(eps=eps, steps=steps)).images
    left = [int(right(digits(jump), found, Y).sum()) for found in (ours, theirs)]
    assert left[0] <= left[1]
    assert 0 < left[0] < 40
