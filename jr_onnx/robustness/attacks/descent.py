"""Projected gradient ascent: IFGSM, PGD on either loss, with any backward, and transfer.

Ours and not ART's: every image has a random start from its own seed and stops as soon as onnxruntime agrees that it is
in a wrong class, and a gradient that is NaN or zero is a failure. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jr_onnx.robustness.attacks.search import Indices, Search
from jr_onnx.robustness.attacks.target import Images
from jr_onnx.robustness.attacks.view import View, maybe_wrong, usable

#: How many numbers go through the network at once, unless one start of each image left has more already.
_AT_ONCE = 1 << 20


def ascend(search: Search, view: View, losses: Sequence[float], *, foreign: bool = False) -> None:
    """Every loss in every restart; the first of all starts at the image itself, the others anywhere in the ball.

    The first runs alone, for most images need no other; those after it run side by side, as many as fit.

    Source: Madry et al., arXiv 1706.06083; the step is 2.5 eps / steps.

    Args:
        losses: the sharpness of each; see `view`.
        foreign: the gradients are another model's, whose scores do not tell when to ask onnxruntime: ask at each step.
    """
    step = np.asarray(2.5 * search.effort.eps / search.effort.steps, np.float32)
    _climb(search, view, _from_the_images(search, losses[0]), step, foreign)
    runs = [losses[run % len(losses)] for run in range(1, search.effort.restarts * len(losses))]
    while runs and len(index := search.left()):
        together = max(1, _AT_ONCE // search.images[index].size)
        now, runs = runs[:together], runs[together:]
        images = np.concatenate([random_start(search, index) for _ in now])
        starts = _Starts(np.tile(index, len(now)), images, np.repeat(np.asarray(now, np.float32), len(index)))
        _climb(search, view, starts, step, foreign)


def signed_steps(search: Search, view: View, loss: float) -> None:
    """IFGSM as the authors of JumpReLU take it: signed steps of one size in normalised space, until fooled."""
    _climb(search, view, _from_the_images(search, loss), np.float32(search.effort.step) * view.std, False)


def random_start(search: Search, index: Indices) -> Images:
    """A point anywhere in the ball around each image, from its own generator."""
    low, high = search.low[index], search.high[index]
    drawn = np.stack([search.generators[i].random(low.shape[1:], np.float32) for i in index])
    start: Images = np.clip(low + drawn * (high - low), low, high)
    return start


@dataclass(frozen=True)
class _Starts:
    """Where to climb from, side by side.

    Attributes:
        index: [n], the image that each start is for; an image may have several.
        images: [n, C, ...].
        losses: [n], the sharpness of the loss that each start climbs.
    """

    index: Indices
    images: Images
    losses: Images


def _from_the_images(search: Search, loss: float) -> _Starts:
    index = search.left()
    return _Starts(index, search.images[index], np.full(len(index), loss, np.float32))


def _climb(search: Search, view: View, starts: _Starts, step: Images, foreign: bool) -> None:
    """Steps from every start; an image leaves when it is done, and a start when its gradient is no use."""
    index, sharpness, x = starts.index, starts.losses, starts.images
    low, high, labels = search.low[index], search.high[index], search.labels[index]
    for _ in range(search.effort.steps):
        if not len(index):
            return
        scores, slope = view.gradient(x, labels, sharpness)
        going = usable(slope)
        search.fail(index[~going])
        asked = np.ones(len(index), np.bool_) if foreign else maybe_wrong(scores, labels)
        search.judge(index[asked], x[asked])
        going &= ~search.done[index]
        x = np.clip(x + step * np.sign(np.nan_to_num(slope)), low, high)
        if not going.all():
            index, labels = index[going], labels[going]
            sharpness, x, low, high = (values[going] for values in (sharpness, x, low, high))
    search.judge(index, x)
