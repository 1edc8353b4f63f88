"""Auto-PGD by adversarial-robustness-toolbox, on the difference of logits ratio (Croce, Hein, arXiv 2003.01690)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from art.attacks.evasion import AutoProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from jr_onnx.attacks.search import Search
from jr_onnx.attacks.view import View, cross_entropy, usable


def auto_pgd(search: Search, view: View) -> None:
    """All the restarts; ART starts each anywhere in the ball. With two classes the ratio is not defined: cross-entropy,
    as the other attacks take it.

    ART draws from NumPy's global state. It is set from the seeds of the images for the time of the attack, so the
    result depends on which images are in the batch, and on nothing else.
    """
    index = search.left()
    classes = search.target.session_run(search.images[:1]).shape[1]
    classifier = PyTorchClassifier(
        model=view,
        loss=_CrossEntropy(),
        input_shape=search.images.shape[1:],
        nb_classes=classes,
        clip_values=(search.target.low, search.target.high),
        device_type="gpu" if view.device.type == "cuda" else "cpu",
    )
    attack = AutoProjectedGradientDescent(
        classifier,
        norm=np.inf,
        eps=search.effort.eps,
        eps_step=2 * search.effort.eps,
        max_iter=search.effort.steps,
        nb_random_init=search.effort.restarts,
        batch_size=len(index),
        loss_type="difference_logits_ratio" if classes > 2 else None,
        verbose=False,
    )
    search.count(index, 2 * search.effort.steps * search.effort.restarts)
    _, slope = view.gradient(view.tensor(search.images[index]), view.tensor(search.labels[index]), cross_entropy)
    search.fail(index[~usable(slope).cpu().numpy()])
    with _global_numbers(search):
        found = attack.generate(search.images[index], search.labels[index])
    finite = np.isfinite(found).reshape(len(index), -1).all(1)
    search.fail(index[~finite])
    search.judge(index[finite], np.clip(found[finite], search.low[index[finite]], search.high[index[finite]]))


class _CrossEntropy(torch.nn.CrossEntropyLoss):
    """The loss that does not saturate, in a class from which ART knows what labels to give it."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        losses = cross_entropy(input, target)
        return losses if self.reduction == "none" else losses.mean()


@contextmanager
def _global_numbers(search: Search) -> Iterator[None]:
    """NumPy's global state seeded from the images' own generators, and put back afterwards."""
    before = np.random.get_state()
    np.random.seed([int(generator.integers(2**32)) for generator in search.generators])
    try:
        yield
    finally:
        np.random.set_state(before)
