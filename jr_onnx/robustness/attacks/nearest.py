"""The smallest perturbation: DeepFool in L2 and Linf, and a trust region method.

Source: Moosavi-Dezfooli et al., arXiv 1511.04599; Yao et al., arXiv 1812.06371. Both run in normalised space, as the
authors of JumpReLU run them, and stop as soon as onnxruntime agrees that an image is in a wrong class. Ours and not
ART's, which has DeepFool in L2 only, divides by the norm of a gradient that may be zero, and takes one image at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jr_onnx.robustness.attacks.search import Array, Indices, Search
from jr_onnx.robustness.attacks.target import Images, Labels
from jr_onnx.robustness.attacks.view import Floats, View, flat, maybe_wrong

#: How many classes are looked at, the likeliest ones; the authors take nine beside the right one.
_CLASSES = 9

#: What is added to a step, in normalised units, and what it is multiplied by; the authors' values.
_BEYOND, _OVERSHOOT = 1e-4, 1.02

#: The trust radius as a share of the L2 norm of the image: at first, at least and at most.
_RADIUS, _RADIUS_MIN, _RADIUS_MAX = 1e-2, 1e-3, 1e-1


@dataclass(frozen=True)
class _Planes:
    """The boundaries of the linearised model around some images.

    Attributes:
        classes: [N, K] the classes beyond them, the likeliest first.
        gaps: [N, K] score of the right class less that of the other.
        normals: [N, K, D] gradient, in normalised units, of the other's score less the right one's.
    """

    classes: Labels
    gaps: Floats
    normals: Floats

    def distances(self, order: int) -> Floats:
        """[N, K], for normals measured in the norm of that order; infinite where there is no usable gradient."""
        norms = np.linalg.norm(self.normals, order, axis=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            distances = np.maximum(self.gaps, 0) / norms
        return np.where(np.isfinite(distances) & (norms > 0), distances, np.inf)


def deep_fool(search: Search, view: View) -> None:
    """Step onto the nearest boundary of the linearised model and a little beyond, again and again."""
    order = 1 if search.info.norm == "linf" else 2  # of the gradient: the norm that is dual to the perturbation's
    index, x = search.left(), search.images[search.left()]
    for _ in range(search.effort.steps):
        if not len(index):
            return
        index, x, planes = _unfooled(search, view, index, x)
        distances = planes.distances(order)
        nearest = distances.argmin(1)
        rows = np.arange(len(index))
        distances = distances[rows, nearest]
        index, x, (distances, normal) = _drop_unusable(
            search, index, x, np.isfinite(distances), (distances, planes.normals[rows, nearest])
        )
        way = np.sign(normal) if order == 1 else _unit(normal)
        x = _moved(search, view, x, way * ((distances + _BEYOND) * _OVERSHOOT)[:, None])
    search.judge(index, x)


def trust_region(search: Search, view: View) -> None:
    """Towards the class whose boundary is nearest at first, no farther at a time than a radius that adapts.

    The radius grows by a fifth where the model did at least 90% of what its gradient promised, and shrinks where it
    did less than half. It is a share of the image's norm, so that it needs no tuning to a data set.
    """
    index, x = search.left(), search.images[search.left()]
    index, x, planes = _unfooled(search, view, index, x)
    distances = planes.distances(2)
    goal = planes.classes[np.arange(len(index)), distances.argmin(1)]
    size = np.linalg.norm(flat((x - view.mean) / view.std), axis=1)
    index, x, (goal, size) = _drop_unusable(
        search, index, x, np.isfinite(distances.min(1, initial=np.inf)), (goal, size)
    )
    radius: Array = size * _RADIUS
    _, gap, slope = _towards(search, view, index, x, goal)
    for _ in range(search.effort.steps):
        norm = np.linalg.norm(slope, axis=1)
        index, x, (goal, size, radius, gap, slope, norm) = _drop_unusable(
            search, index, x, np.isfinite(norm) & (norm > 0), (goal, size, radius, gap, slope, norm)
        )
        if not len(index):
            return
        length = np.minimum(np.maximum(gap, 0) / norm, radius)
        x = _moved(search, view, x, _unit(slope) * ((length + _BEYOND) * _OVERSHOOT)[:, None])
        before = gap
        scores, gap, slope = _towards(search, view, index, x, goal)
        ratio = (before - gap) / (norm * (length + _BEYOND) * _OVERSHOOT)
        radius = np.where(ratio > 0.9, radius * 1.2, np.where(ratio < 0.5, radius / 1.2, radius))
        radius = np.clip(radius, size * _RADIUS_MIN, size * _RADIUS_MAX)
        keep = ~_judged(search, index, x, scores)
        index, x, goal = index[keep], x[keep], goal[keep]
        size, radius, gap, slope = (values[keep] for values in (size, radius, gap, slope))
    search.judge(index, x)


def _unfooled(search: Search, view: View, index: Indices, x: Images) -> tuple[Indices, Images, _Planes]:
    """The images that are not in a wrong class yet, with the boundaries around them."""
    labels = search.labels[index]
    rows = np.arange(len(index))
    scores = view.scores(x)
    others = scores.copy()
    others[rows, labels] = -np.inf
    classes = np.argsort(-others, axis=1, kind="stable")[:, : min(_CLASSES, view.classes - 1)]
    gaps = scores[rows, labels][:, None] - scores[rows[:, None], classes]
    own = np.eye(view.classes, dtype=np.float32)
    _, slopes = view.sums(x, np.moveaxis(own[classes] - own[labels][:, None], 1, 2))
    normals = np.stack([flat(slope * view.std) for slope in slopes], 1)
    keep = ~_judged(search, index, x, scores)
    return index[keep], x[keep], _Planes(classes[keep], gaps[keep], normals[keep])


def _towards(search: Search, view: View, index: Indices, x: Images, goal: Labels) -> tuple[Floats, Floats, Floats]:
    """The scores; that of the right class less the goal's; the gradient, in normalised units, that makes it small."""
    labels, own, rows = search.labels[index], np.eye(view.classes, dtype=np.float32), np.arange(len(index))
    scores, (slope,) = view.sums(x, (own[goal] - own[labels])[:, :, None])
    return scores, scores[rows, labels] - scores[rows, goal], flat(slope * view.std)


def _judged(search: Search, index: Indices, x: Images, scores: Floats) -> npt.NDArray[np.bool_]:
    """Which of the images that may be in a wrong class by their scores onnxruntime has there too."""
    asked = maybe_wrong(scores, search.labels[index])
    done = np.zeros(len(index), np.bool_)
    done[asked] = search.judge(index[asked], x[asked])
    return done


def _drop_unusable(
    search: Search, index: Indices, x: Images, good: npt.NDArray[np.bool_], rest: tuple[Array, ...]
) -> tuple[Indices, Images, tuple[Array, ...]]:
    """Count the images whose gradient is no use as failures, and go on with the others."""
    search.fail(index[~good])
    return index[good], x[good], tuple(values[good] for values in rest)


def _unit(vectors: Array) -> Array:
    lengths: Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def _moved(search: Search, view: View, x: Images, step: Array) -> Images:
    """The images after a step in normalised units, within the valid range."""
    moved = x + step.reshape(x.shape) * view.std
    return np.clip(moved, search.target.low, search.target.high).astype(np.float32)
