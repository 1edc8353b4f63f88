"""Auto-PGD on the difference of logits ratio: projected ascent with momentum and a step that adapts.

Source: Croce and Hein, arXiv 2003.01690. Ours and not ART's, which needs PyTorch and draws the starts of all images
from one stream; a test compares what the two break.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from jr_onnx.robustness.attacks.descent import random_start
from jr_onnx.robustness.attacks.search import Indices, Search
from jr_onnx.robustness.attacks.target import Images, Labels
from jr_onnx.robustness.attacks.view import CROSS_ENTROPY, MARGIN, Floats, View, margin, maybe_wrong, usable

#: The share of a step that is taken from the gradient; the rest is momentum.
_FRESH = 0.75

#: A step is halved where fewer than this share of the steps since the last checkpoint made the loss larger.
_RISING = 0.75


@dataclass
class _Climb:
    """The state of each image; all are [n] or [n, ...]."""

    index: Indices
    x: Images
    before: Images
    loss: Floats
    slope: Floats
    best: Images
    best_loss: Floats
    best_slope: Floats
    step: Floats
    rises: npt.NDArray[np.int64]
    best_at_checkpoint: Floats
    halved: npt.NDArray[np.bool_]

    def kept(self, going: npt.NDArray[np.bool_]) -> _Climb:
        """The images that go on."""
        return self if going.all() else _Climb(*(getattr(self, one.name)[going] for one in fields(self)))


def auto_pgd(search: Search, view: View) -> None:
    """Every restart starts anywhere in the ball."""
    search.judge(search.left(), search.images)
    for _ in range(search.effort.restarts):
        index = search.left()
        if not len(index):
            return
        x = random_start(search, index)
        loss, slope = _look(search, view, index, x)
        going = usable(slope)
        search.fail(index[~going])
        step = np.full(len(index), 2 * search.effort.eps, np.float32)
        none = np.zeros(len(index), np.int64)
        climb = _Climb(index, x, x, loss, slope, x, loss, slope, step, none, loss, none > 0)
        climb = climb.kept(going & ~search.done[index])
        checkpoints = _checkpoints(search.effort.steps)
        for number in range(1, search.effort.steps + 1):
            if not len(climb.index):
                break
            climb = _step(search, view, climb, first=number == 1)
            if number in checkpoints:
                _adapt(climb, number - checkpoints[number])


def _step(search: Search, view: View, climb: _Climb, *, first: bool) -> _Climb:
    low, high = search.low[climb.index], search.high[climb.index]
    length = climb.step.reshape(-1, *[1] * (climb.x.ndim - 1))
    fresh = np.clip(climb.x + length * np.sign(np.nan_to_num(climb.slope)), low, high)
    share = np.float32(1 if first else _FRESH)
    x = np.clip(climb.x + share * (fresh - climb.x) + (1 - share) * (climb.x - climb.before), low, high)
    loss, slope = _look(search, view, climb.index, x)
    climb.rises += loss > climb.loss
    climb.before, climb.x, climb.loss, climb.slope = climb.x, x, loss, slope
    better = loss > climb.best_loss
    climb.best, climb.best_slope = (
        np.where(better.reshape(length.shape), new, old) for new, old in ((x, climb.best), (slope, climb.best_slope))
    )
    climb.best_loss = np.maximum(loss, climb.best_loss)
    return climb.kept(~search.done[climb.index])


def _adapt(climb: _Climb, steps: int) -> None:
    """At a checkpoint: where the loss rose too seldom, or has no new best at the same step, halve it and go back."""
    halve = (climb.rises < _RISING * steps) | (~climb.halved & (climb.best_loss <= climb.best_at_checkpoint))
    climb.step = np.where(halve, climb.step / 2, climb.step).astype(np.float32)
    for now, best in ((climb.x, climb.best), (climb.before, climb.best), (climb.slope, climb.best_slope)):
        now[halve] = best[halve]
    climb.loss = np.where(halve, climb.best_loss, climb.loss)
    climb.halved, climb.best_at_checkpoint, climb.rises = halve, climb.best_loss, np.zeros_like(climb.rises)


def _checkpoints(steps: int) -> dict[int, int]:
    """Each checkpoint, as the number of a step -> the one before it."""
    found, at, length, before = {}, 0.22, 0.22, 0
    while at <= 1:
        number = int(np.ceil(at * steps))
        if number > before:
            found[number], before = before, number
        length = max(length - 0.03, 0.06)
        at += length
    return found


def _look(search: Search, view: View, index: Indices, x: Images) -> tuple[Floats, Floats]:
    """The loss and its gradient; the images that may be in a wrong class are judged."""
    labels = search.labels[index]
    if view.classes == 2:  # the ratio is not defined
        scores, slope = view.gradient(x, labels, MARGIN)
        loss = margin(scores, labels)
    else:
        scores = view.scores(x)
        loss, weights = _ratio(scores, labels)
        slope = view.sums(x, weights[:, :, None])[1][0]
        blind = ~usable(slope)  # the ratio has no gradient where the best rivals are level and do not move
        if blind.any():
            slope[blind] = view.gradient(x[blind], labels[blind], CROSS_ENTROPY)[1]
    asked = maybe_wrong(scores, labels)
    search.judge(index[asked], x[asked])
    return loss, slope


def _ratio(scores: Floats, labels: Labels) -> tuple[Floats, Floats]:
    """[N], the best rival's score less the right one's over the first less the third; [N, classes], its gradient."""
    order, rows = np.argsort(-scores, axis=1, kind="stable"), np.arange(len(labels))
    rival = np.where(order[:, 0] == labels, order[:, 1], order[:, 0])
    ahead = scores[rows, rival] - scores[rows, labels]
    spread = scores[rows, order[:, 0]] - scores[rows, order[:, 2]] + np.float32(1e-12)
    one = np.eye(scores.shape[1], dtype=np.float32)
    numerator, denominator = one[rival] - one[labels], one[order[:, 0]] - one[order[:, 2]]
    # Times the spread: of the gradient only the signs count.
    return ahead / spread, numerator - (ahead / spread)[:, None] * denominator
