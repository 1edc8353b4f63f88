"""The attacks that follow gradients, by name. Importing this needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from art.attacks.evasion import AutoProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from jr_onnx.robustness.attacks.descent import ascend, signed_steps
from jr_onnx.robustness.attacks.nearest import deep_fool, trust_region
from jr_onnx.robustness.attacks.search import Search
from jr_onnx.robustness.attacks.target import Target
from jr_onnx.robustness.attacks.view import View, cross_entropy, margin, usable


def _auto_pgd(search: Search, view: View) -> None:

    auto_pgd(search, view)


_BOTH = (cross_entropy, margin)

_METHODS: Mapping[str, Callable[[Search, View], None]] = {
    "ifgsm": lambda search, view: signed_steps(search, view, cross_entropy),
    "pgd": lambda search, view: ascend(search, view, [cross_entropy]),
    "pgd-margin": lambda search, view: ascend(search, view, [margin]),
    "bpda": lambda search, view: ascend(search, view, _BOTH),
    "smooth-0.1": lambda search, view: ascend(search, view, _BOTH),
    "smooth-0.25": lambda search, view: ascend(search, view, _BOTH),
    "smooth-0.5": lambda search, view: ascend(search, view, _BOTH),
    "transfer": lambda search, view: ascend(search, view, _BOTH, foreign=True),
    "apgd": _auto_pgd,
    "deepfool-linf": deep_fool,
    "deepfool-l2": deep_fool,
    "trust-region": trust_region,
}


def attack(search: Search, source: Target | None) -> None:
    """Run the attack that the search is for, with the gradients of the target's copy, or of the source's."""
    gradients = source if search.info.needs_source and source is not None else search.target
    _METHODS[search.info.name](search, View(gradients, search.info.backward, search.images.ndim))


# --- Auto-PGD by adversarial-robustness-toolbox, on the difference of logits ratio (Croce, Hein, arXiv 2003.01690) ----


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
