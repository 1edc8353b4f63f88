"""What an attack has found so far, and whether onnxruntime agrees."""

from __future__ import annotations

import zlib
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.robustness.attacks.target import AttackInfo, AttackOutcome, Effort, Images, Labels, Target
from jr_onnx.runtime.data.dataset import per_channel

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

#: Stands for a probability of 0 in a logarithm; below all that a float32 can hold.
_LEAST = 1e-50

#: Stands for infinity; the sum over all classes is still finite.
_MOST = 1e300


class Search:
    """One attack on one batch.

    Attributes:
        best: for each image, the candidate that came nearest.
        done: which images onnxruntime puts in a wrong class.
        failed: where a gradient could not be used.
        margins: of the best candidates, as onnxruntime sees them; infinite where none was judged.
    """

    def __init__(
        self, info: AttackInfo, target: Target, images: Images, labels: Labels, seeds: Array, effort: Effort
    ) -> None:
        self.info, self.target, self.labels, self.effort = info, target, labels, effort
        self.images = np.ascontiguousarray(images, np.float32)
        self._seeds, self._salt = seeds, zlib.crc32(info.name.encode())
        self.best = self.images.copy()
        self.done = np.zeros(len(images), np.bool_)
        self.failed = np.zeros(len(images), np.bool_)
        self.margins = np.full(len(images), np.inf)

    @cached_property
    def low(self) -> Images:
        """The lowest value that each pixel may take."""
        return self._bound(-self.effort.eps)

    @cached_property
    def high(self) -> Images:
        """The highest value that each pixel may take."""
        return self._bound(self.effort.eps)

    def _bound(self, distance: float) -> Images:
        reach = distance if self.info.bounded else np.copysign(np.inf, distance)
        bound: Images = np.clip(self.images + np.float32(reach), self.target.low, self.target.high)
        return bound.astype(np.float32)

    def generator(self, image: int, start: int = 0) -> np.random.Generator:
        """A source of random numbers that depends on the image's seed, the attack and the number of the start alone."""
        return np.random.default_rng([int(self._seeds[image]), self._salt, start])

    @cached_property
    def generators(self) -> list[np.random.Generator]:
        """One for each image, for an attack that starts once."""
        return [self.generator(image) for image in range(len(self.images))]

    def left(self) -> npt.NDArray[np.int64]:
        """The indices of the images that are still in the right class."""
        return np.flatnonzero(~self.done)

    def fail(self, index: Indices) -> None:
        """A gradient could not be used, for each of the images `index`."""
        self.failed[index] = True

    def judge(self, index: Indices, candidates: Images) -> npt.NDArray[np.bool_]:
        """Ask onnxruntime which candidates, of the images `index`, are put in a wrong class; keep the best ones.

        An image may have several candidates.
        """
        if not len(index):
            return np.zeros(0, np.bool_)
        margins = margin_of(np.asarray(self.target.session_run(candidates)), self.labels[index])
        best_last = np.argsort(-margins, kind="stable")
        better = best_last[(margins < self.margins[index])[best_last]]
        self.best[index[better]] = candidates[better]
        self.margins[index[better]] = margins[better]
        fooled = margins < 0
        self.done[index[fooled]] = True
        return fooled

    def outcome(self) -> AttackOutcome:
        """What the search came to."""
        noise = relative_noise(self.target, self.images, self.best, self.info.norm)
        return AttackOutcome(self.best, self.failed & ~self.done, noise)


def margin_of(logits: Array, labels: Labels) -> npt.NDArray[np.float64]:
    """The score of the right class less the best of the others; infinite where a score is NaN.

    Negative is a success: the answer is another class, as `Classifier.predictions` has it. An infinite score counts
    like any other, a NaN is no answer, and a tie goes to the lowest number: that is what a deployment of the file
    does, and how clean accuracy counts. A tie that is lost so has the smallest margin below 0.

    Of a row of probabilities the logarithms are compared: where the right class has 1 in float32, its rivals still
    differ.

    Args:
        logits: [N, classes], or probabilities: from 0 to 1, with a sum of 1 to a thousandth.
        labels: [N], the right classes.
    """
    scores = np.clip(logits.astype(np.float64), -_MOST, _MOST)
    likely = ((scores >= 0) & (scores <= 1)).all(1) & (np.abs(scores.sum(1) - 1) <= 1e-3)
    scores[likely] = np.log(np.maximum(scores[likely], _LEAST))
    rows = np.arange(len(labels))
    own = scores[rows, labels]
    scores[rows, labels] = -np.inf
    margins = own - scores.max(1)
    lost = logits.argmax(1) != labels
    margins[lost] = np.minimum(margins[lost], -np.finfo(np.float64).tiny)
    return np.where(np.isnan(logits).any(1), np.inf, margins)


def relative_noise(target: Target, images: Images, attacked: Images, norm: str) -> npt.NDArray[np.float64]:
    """||r|| / ||x|| of each image, both normalised by mean and standard deviation; arXiv 1904.03750's measure."""
    mean, std = normalisation(target, images.ndim)
    flat = (len(images), int(np.prod(images.shape[1:])))
    clean = ((images - mean) / std).reshape(flat).astype(np.float64)
    noise = ((attacked - images) / std).reshape(flat).astype(np.float64)
    order = np.inf if norm == "linf" else 2
    size: npt.NDArray[np.float64] = np.linalg.norm(clean, order, axis=1)
    change: npt.NDArray[np.float64] = np.linalg.norm(noise, order, axis=1)
    return change / np.maximum(size, np.finfo(np.float64).tiny)


def normalisation(target: Target, rank: int) -> tuple[Images, Images]:
    """Mean and standard deviation in shapes that broadcast to images of that rank."""
    mean, std = (
        per_channel(np.asarray(values, np.float32), target.layout, rank) for values in (target.mean, target.std)
    )
    return mean, std
