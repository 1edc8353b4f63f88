"""Projected gradient ascent: IFGSM, PGD on either loss, with any backward, and transfer.

Ours and not ART's: every image has a random start from its own seed and stops as soon as onnxruntime agrees that it is
in a wrong class, and a gradient that is NaN or zero is a failure. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jr_onnx.robustness.attacks.search import Indices, Search
from jr_onnx.robustness.attacks.target import Images
from jr_onnx.robustness.attacks.view import Loss, View, maybe_wrong, to_images, usable

#: How many numbers go through the network at once, unless one start of each image left has more already.
_AT_ONCE = 1 << 20


def ascend(search: Search, view: View, losses: Sequence[Loss], *, foreign: bool = False) -> None:
    """Every loss in every restart; the first of all starts at the image itself, the others anywhere in the ball.

    The first runs alone, for most images need no other; those after it run side by side, as many as fit.

    Source: Madry et al., arXiv 1706.06083; the step is 2.5 eps / steps.

    Args:
        foreign: the gradients are another model's, whose scores do not tell when to ask onnxruntime: ask at each step.
    """
    step = view.tensor(np.asarray(2.5 * search.effort.eps / search.effort.steps, np.float32))
    _climb(search, view, _from_the_images(search, losses[0]), step, foreign)
    runs = [run % len(losses) for run in range(1, search.effort.restarts * len(losses))]
    while runs and len(index := search.left()):
        together = max(1, _AT_ONCE // search.images[index].size)
        now, runs = sorted(runs[:together]), runs[together:]
        images = np.concatenate([_random_start(search, index) for _ in now])
        starts = _Starts(np.tile(index, len(now)), images, losses, np.repeat(now, len(index)))
        _climb(search, view, starts, step, foreign)


def signed_steps(search: Search, view: View, loss: Loss) -> None:
    """IFGSM as the authors of JumpReLU take it: signed steps of one size in normalised space, until fooled."""
    _climb(search, view, _from_the_images(search, loss), search.effort.step * view.std, False)


def _random_start(search: Search, index: Indices) -> Images:
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
        losses: those that are climbed.
        loss_of: [n], which of them each start climbs; ascending, so that each loss is called once a step.
    """

    index: Indices
    images: Images
    losses: Sequence[Loss]
    loss_of: Indices


def _from_the_images(search: Search, loss: Loss) -> _Starts:
    index = search.left()
    return _Starts(index, search.images, [loss], np.zeros_like(index))


def _climb(search: Search, view: View, starts: _Starts, step: Tensor, foreign: bool) -> None:
    """Steps from every start; an image leaves when it is done, and a start when its gradient is no use."""
    index, loss_of, x = starts.index, starts.loss_of, view.tensor(starts.images)
    low, high, labels = (view.tensor(values[index]) for values in (search.low, search.high, search.labels))
    for _ in range(search.effort.steps):
        if not len(index):
            return
        loss = _side_by_side(starts.losses, np.bincount(loss_of, minlength=len(starts.losses)).tolist())
        logits, slope = view.gradient(x, labels, loss)
        going = usable(slope)
        search.fail(index[~going.cpu().numpy()])
        asked = np.ones(len(index), np.bool_) if foreign else maybe_wrong(logits, labels).cpu().numpy()
        search.judge(index[asked], to_images(x)[asked])
        going &= view.tensor(~search.done[index])
        x = torch.clamp(x + step * slope.nan_to_num().sign(), low, high)
        if not bool(going.all()):
            index, loss_of = (values[going.cpu().numpy()] for values in (index, loss_of))
            x, low, high, labels = (values[going] for values in (x, low, high, labels))
    search.judge(index, to_images(x))


def _side_by_side(losses: Sequence[Loss], sizes: list[int]) -> Loss:
    """Each loss of as many rows as its size says, in order."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        rows = zip(losses, torch.split(logits, sizes), torch.split(labels, sizes), strict=True)
        return torch.cat([one(*its) for one, *its in rows])

    return loss
