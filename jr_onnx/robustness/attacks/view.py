"""Scores and gradients of a target, in pixel units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.robustness.attacks.search import normalisation
from jr_onnx.robustness.attacks.target import Images, Labels, Target
from jr_onnx.robustness.gradients.backward import Backward

Floats = npt.NDArray[np.float32]

#: The sharpness of a loss that an attack makes large: log(sum of exp(sharpness * score) over the rivals) less the right
#: class's score. With all other classes as rivals it rises with the cross-entropy, so its gradient has the same signs;
#: but it keeps its size where the right class has a probability of 1 in floating point, and the cross-entropy's
#: gradient is 0. 0 stands for a sharpness of 1, or less where the scores lie very far apart: else only one rival would
#: count. The sharpest is the margin: the best rival alone.
CROSS_ENTROPY, MARGIN = 0.0, 1e30


class View:
    """A target's gradients with respect to pixels.

    Attributes:
        mean, std: of the preprocessing, in a shape that broadcasts against the images.
        classes: how many scores there are.
    """

    def __init__(self, target: Target, backward: Backward, rank: int) -> None:
        if target.gradients is None:
            raise TypeError("a target without gradients")
        self._gradients, self._backward = target.gradients, backward
        self.mean, self.std = normalisation(target, rank)
        self.classes = target.gradients.classes

    def gradient(
        self, x: Images, labels: Labels, rivals: npt.NDArray[np.bool_], sharpness: Floats, spent: float = 0.0
    ) -> tuple[Floats, Floats]:
        """The scores [N, classes], and the gradient of each image's loss with respect to its pixels [N, ...].

        Args:
            rivals: [N, classes], which classes the loss counts.
            sharpness: [N], of each loss.
            spent: the share of the steps that are done, for a backward that changes on the way.
        """
        own = np.eye(self.classes, dtype=np.float32)[labels]
        backward = self._backward.at(spent)
        scores, slopes = self._run(x, -own[:, :, None], rivals=rivals, sharpness=sharpness, backward=backward)
        return scores, slopes[0]

    def sums(self, x: Images, weights: Floats) -> tuple[Floats, Floats]:
        """The scores, and the gradients [sums, N, ...] of their sums with weights [N, classes, sums]."""
        return self._run(x, weights, backward=self._backward)

    def scores(self, x: Images) -> Floats:
        """[N, classes]."""
        return self.sums(x, np.zeros((len(x), self.classes, 1), np.float32))[0]

    def _run(self, x: Images, weights: Floats, **options: Any) -> tuple[Floats, Floats]:
        given = ((x - self.mean) / self.std).astype(np.float32)
        scores, slopes = self._gradients(given, weights.astype(np.float32), **options)
        return scores, slopes / self.std


def margin(scores: Floats, labels: Labels) -> Floats:
    """[N], the best of the other classes less the right one."""
    rows = np.arange(len(labels))
    others = scores.copy()
    others[rows, labels] = -np.inf
    found: Floats = others.max(1) - scores[rows, labels]
    return found


def maybe_wrong(scores: Floats, labels: Labels) -> npt.NDArray[np.bool_]:
    """[N]: where another class is ahead or level, so that the file may have the image in a wrong class."""
    wrong: npt.NDArray[np.bool_] = margin(scores, labels) >= 0
    return wrong


def usable(gradient: Floats) -> npt.NDArray[np.bool_]:
    """[N]: the gradients that are finite, and not all zero."""
    rows = flat(gradient)
    good: npt.NDArray[np.bool_] = np.isfinite(rows).all(1) & (rows != 0).any(1)
    return good


def flat(values: Floats) -> Floats:
    """[N, all the rest]."""
    return values.reshape(len(values), math.prod(values.shape[1:]))
