"""Projected gradient ascent within the ball: momentum, a step that falls, and a smooth gradient that sharpens.

Ours and not a library's: every image has random starts from its own seed and stops as soon as onnxruntime agrees that
it is in a wrong class, many starts run side by side, and JumpReLU's gradient changes on the way. docs/robustness.md has
the measurements by which the constants were chosen; a test compares the outcome with Auto-PGD's of ART.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from jr_onnx.robustness.attacks.search import Indices, Search
from jr_onnx.robustness.attacks.target import CYCLE, Images, Labels
from jr_onnx.robustness.attacks.view import CROSS_ENTROPY, MARGIN, Floats, View, margin, maybe_wrong, usable

#: How many numbers go through the network at once, unless one start of each image left has more already.
_AT_ONCE = 1 << 20

#: What is kept of the direction of the steps before.
_MOMENTUM = np.float32(0.75)

#: By how much the margin must rise, as a share of it and the right class's score, to be more than rounding.
_ROSE = 1e-5


def ascend(search: Search, view: View, starts: range, *, foreign: bool = False) -> None:
    """Climb from starts of these numbers: 0 is the image itself, each other one a point anywhere in the ball.

    The loss goes with the number: cross-entropy, the margin, the margin of the second rival, of the third, and again.
    The first start runs alone, for most images need no other; those after it run side by side, as many as fit.

    Sources: Madry et al., arXiv 1706.06083; momentum and falling steps after Croce and Hein, arXiv 2003.01690; rivals
    as targets after Gowal et al., arXiv 1910.09338.

    Args:
        foreign: the gradients are another model's, whose scores do not tell when to ask onnxruntime: ask at each step.
    """
    search.fail(search.left())  # until a start gets somewhere
    numbers = list(starts)
    while numbers and len(index := search.left()):
        together = 1 if len(numbers) == len(starts) else max(1, _AT_ONCE // search.images[index].size)
        now, numbers = numbers[:together], numbers[together:]
        _climb(search, view, _begun(search, view, index, now), _falling(search), _MOMENTUM, foreign)


def signed_steps(search: Search, view: View) -> None:
    """IFGSM as the authors of JumpReLU take it: signed steps of one size in normalised space, until fooled."""
    search.fail(search.left())
    step = np.float32(search.effort.step) * view.std
    _climb(search, view, _begun(search, view, search.left(), [0]), lambda _: step, np.float32(0), False)


def _falling(search: Search) -> Callable[[float], Images]:
    """From eps to nothing in a straight line."""
    eps = search.effort.eps
    return lambda spent: np.asarray(eps * (1 - spent), np.float32)


@dataclass
class _Climb:
    """Starts side by side; all are [n] or [n, ...].

    Attributes:
        index: the image that each start is for; an image may have several.
        x: where each start is.
        velocity: the direction of the steps so far.
        rivals: [n, classes], the classes that the loss compares with the right one.
        sharpness: of the loss; see `view`.
        first: the margin where the start began.
    """

    index: Indices
    x: Images
    velocity: Floats
    rivals: npt.NDArray[np.bool_]
    sharpness: Floats
    first: Floats

    def kept(self, going: npt.NDArray[np.bool_]) -> _Climb:
        """The starts that go on."""
        return self if going.all() else _Climb(*(getattr(self, one.name)[going] for one in fields(self)))


def _begun(search: Search, view: View, index: Indices, numbers: list[int]) -> _Climb:
    x = np.concatenate([_start(search, index, number) for number in numbers])
    losses = [number % CYCLE for number in numbers]
    of_loss = {loss: _rivals(search, view, index, loss) for loss in set(losses)}
    rivals = np.concatenate([of_loss[loss] for loss in losses])
    sharpness = np.repeat([CROSS_ENTROPY if loss == 0 else MARGIN for loss in losses], len(index))
    first = np.full(len(x), np.inf, np.float32)
    return _Climb(np.tile(index, len(numbers)), x, np.zeros_like(x), rivals, sharpness.astype(np.float32), first)


def _rivals(search: Search, view: View, index: Indices, loss: int) -> npt.NDArray[np.bool_]:
    """[n, classes]: all but the right one; or of each image the second or third likeliest of them."""
    labels, classes = search.labels[index], np.arange(view.classes)
    rank = min(loss - 1, view.classes - 2)
    if rank < 1:
        others: npt.NDArray[np.bool_] = classes != labels[:, None]
        return others
    scores = view.scores(search.images[index])
    scores[np.arange(len(labels)), labels] = -np.inf
    target = np.argsort(-scores, axis=1, kind="stable")[:, rank]
    chosen: npt.NDArray[np.bool_] = classes == target[:, None]
    return chosen


def _start(search: Search, index: Indices, number: int) -> Images:
    low, high = search.low[index], search.high[index]
    if number == 0:
        return search.images[index]
    drawn = np.stack([search.generator(image, number).random(low.shape[1:], np.float32) for image in index])
    start: Images = np.clip(low + drawn * (high - low), low, high)
    return start


def _climb(
    search: Search,
    view: View,
    climb: _Climb,
    length: Callable[[float], Images],
    momentum: np.float32,
    foreign: bool,
) -> None:
    """Steps from every start; an image leaves when it is done, and a start when its gradient is no use."""
    for number in range(search.effort.steps):
        if not len(climb.index):
            return
        spent, labels = number / search.effort.steps, search.labels[climb.index]
        scores, slope = view.gradient(climb.x, labels, climb.rivals, climb.sharpness, spent)
        _note_rises(search, climb, scores, labels)
        asked = np.ones(len(labels), np.bool_) if foreign else maybe_wrong(scores, labels)
        search.judge(climb.index[asked], climb.x[asked])
        going = usable(slope) & ~search.done[climb.index]
        climb, slope = climb.kept(going), slope[going]
        axes = tuple(range(1, slope.ndim))
        climb.velocity = momentum * climb.velocity + slope / np.abs(slope).mean(axis=axes, keepdims=True)
        x = climb.x + length(spent) * np.sign(climb.velocity)
        climb.x = np.clip(x, search.low[climb.index], search.high[climb.index])
    if len(climb.index):
        _note_rises(search, climb, view.scores(climb.x), search.labels[climb.index])
        search.judge(climb.index, climb.x)


def _note_rises(search: Search, climb: _Climb, scores: Floats, labels: Labels) -> None:
    """A gradient that leads nowhere need not be zero: behind a closed JumpReLU a smooth one is not."""
    now = margin(scores, labels)
    size = np.abs(now) + np.abs(scores[np.arange(len(labels)), labels])
    rose = now > climb.first + _ROSE * size
    search.failed[climb.index[rose | search.done[climb.index]]] = False
    climb.first = np.where(np.isinf(climb.first), now, climb.first)
