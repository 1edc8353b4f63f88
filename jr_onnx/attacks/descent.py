"""Projected gradient ascent: IFGSM, PGD on either loss, with any backward, and transfer.

Ours and not ART's: every image has a random start from its own seed and stops as soon as onnxruntime agrees that it is
in a wrong class, and a gradient that is NaN or zero is a failure. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from jr_onnx.attacks.attack import Images
from jr_onnx.attacks.search import Indices, Search
from jr_onnx.attacks.view import Loss, View, maybe_wrong, to_images, usable


def ascend(search: Search, view: View, losses: Sequence[Loss], *, foreign: bool = False) -> None:
    """Every loss in every restart; the first of all starts at the image itself, the others anywhere in the ball.

    Source: Madry et al., arXiv 1706.06083; the step is 2.5 eps / steps.

    Args:
        foreign: the gradients are another model's, whose scores do not tell when to ask onnxruntime: ask at each step.
    """
    step = view.tensor(np.asarray(2.5 * search.effort.eps / search.effort.steps, np.float32))
    for run in range(search.effort.restarts * len(losses)):
        index = search.left()
        start = search.images[index] if run == 0 else _random_start(search, index)
        _climb(search, view, index, view.tensor(start), step, losses[run % len(losses)], foreign)


def signed_steps(search: Search, view: View, loss: Loss) -> None:
    """IFGSM as the authors of JumpReLU take it: signed steps of one size in normalised space, until fooled."""
    _climb(search, view, search.left(), view.tensor(search.images), search.effort.step * view.std, loss, False)


def _random_start(search: Search, index: Indices) -> Images:
    low, high = search.low[index], search.high[index]
    drawn = np.stack([search.generators[i].random(low.shape[1:], np.float32) for i in index]) if len(index) else low
    start: Images = np.clip(low + drawn * (high - low), low, high)
    return start


def _climb(search: Search, view: View, index: Indices, x: Tensor, step: Tensor, loss: Loss, foreign: bool) -> None:
    """Steps from `x`, the starts of the images `index`; an image leaves when it is done or its gradient is no use."""
    low, high, labels = (view.tensor(values[index]) for values in (search.low, search.high, search.labels))
    for _ in range(search.effort.steps):
        if not len(index):
            return
        search.queries[index] += 1
        logits, slope = view.gradient(x, labels, loss)
        going = usable(slope)
        search.failed[index[~going.cpu().numpy()]] = True
        asked = np.ones(len(index), np.bool_) if foreign else maybe_wrong(logits, labels).cpu().numpy()
        done = np.zeros(len(index), np.bool_)
        done[asked] = search.judge(index[asked], to_images(x)[asked])
        going &= torch.from_numpy(~done).to(going.device)
        x = torch.clamp(x + step * slope.nan_to_num().sign(), low, high)
        if not bool(going.all()):
            index = index[going.cpu().numpy()]
            x, low, high, labels = x[going], low[going], high[going], labels[going]
    search.judge(index, to_images(x))
