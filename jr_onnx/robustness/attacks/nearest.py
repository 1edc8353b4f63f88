"""The smallest perturbation: DeepFool in L2 and Linf, and a trust region method.

Source: Moosavi-Dezfooli et al., arXiv 1511.04599; Yao et al., arXiv 1812.06371. Both run in normalised space, as the
authors of JumpReLU run them, and stop as soon as onnxruntime agrees that an image is in a wrong class. Ours and not
ART's, which has DeepFool in L2 only, divides by the norm of a gradient that may be zero, and takes one image at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jr_onnx.robustness.attacks.search import Indices, Search
from jr_onnx.robustness.attacks.view import View, maybe_wrong, to_images

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

    classes: Tensor
    gaps: Tensor
    normals: Tensor

    def distances(self, order: int) -> Tensor:
        """[N, K], for normals measured in the norm of that order; infinite where there is no usable gradient."""
        norms = torch.linalg.vector_norm(self.normals, order, dim=2)
        distances = self.gaps.clamp(min=0) / norms
        return torch.where(torch.isfinite(distances) & (norms > 0), distances, torch.inf)


def deep_fool(search: Search, view: View) -> None:
    """Step onto the nearest boundary of the linearised model and a little beyond, again and again."""
    order = 1 if search.info.norm == "linf" else 2  # of the gradient: the norm that is dual to the perturbation's
    index, x = search.left(), view.tensor(search.images)
    for _ in range(search.effort.steps):
        if not len(index):
            return
        index, x, planes = _unfooled(search, view, index, x)
        distances, nearest = planes.distances(order).min(1)
        index, x, (distances, nearest, normals) = _drop_unusable(
            search, index, x, torch.isfinite(distances), (distances, nearest, planes.normals)
        )
        normal = normals[torch.arange(len(index)), nearest]
        way = normal.sign() if order == 1 else _unit(normal)
        x = _moved(search, view, x, way * ((distances + _BEYOND) * _OVERSHOOT)[:, None])
    search.judge(index, to_images(x))


def trust_region(search: Search, view: View) -> None:
    """Towards the class whose boundary is nearest at first, no farther at a time than a radius that adapts.

    The radius grows by a fifth where the model did at least 90% of what its gradient promised, and shrinks where it
    did less than half. It is a share of the image's norm, so that it needs no tuning to a data set.
    """
    index, x = search.left(), view.tensor(search.images)
    index, x, planes = _unfooled(search, view, index, x)
    nearest, choice = planes.distances(2).min(1)
    goal = planes.classes[torch.arange(len(index)), choice]
    size = torch.linalg.vector_norm(((x - view.mean) / view.std).flatten(1), dim=1)
    index, x, (goal, size) = _drop_unusable(search, index, x, torch.isfinite(nearest), (goal, size))
    radius = size * _RADIUS
    for _ in range(search.effort.steps):
        if not len(index):
            return
        labels = view.tensor(search.labels[index])
        gap, slope = _gap(view, x, labels, goal)
        norm = torch.linalg.vector_norm(slope, dim=1)
        index, x, (labels, goal, size, radius, gap, slope, norm) = _drop_unusable(
            search, index, x, torch.isfinite(norm) & (norm > 0), (labels, goal, size, radius, gap, slope, norm)
        )
        length = torch.minimum(gap.clamp(min=0) / norm, radius)
        x = _moved(search, view, x, _unit(slope) * ((length + _BEYOND) * _OVERSHOOT)[:, None])
        with torch.no_grad():
            logits = view(x)
        gained = gap - (logits.gather(1, labels[:, None]) - logits.gather(1, goal[:, None])).squeeze(1)
        ratio = gained / (norm * (length + _BEYOND) * _OVERSHOOT)
        radius = torch.where(ratio > 0.9, radius * 1.2, torch.where(ratio < 0.5, radius / 1.2, radius))
        radius = torch.clamp(radius, size * _RADIUS_MIN, size * _RADIUS_MAX)
        keep = ~_judged(search, index, x, maybe_wrong(logits, labels))
        index, x, goal, size, radius = index[keep.cpu().numpy()], x[keep], goal[keep], size[keep], radius[keep]
    search.judge(index, to_images(x))


def _unfooled(search: Search, view: View, index: Indices, x: Tensor) -> tuple[Indices, Tensor, _Planes]:
    """The images that are not in a wrong class yet, with the boundaries around them."""
    labels = view.tensor(search.labels[index])
    pixels = x.detach().requires_grad_()
    logits = view(pixels)
    keep = ~_judged(search, index, x, maybe_wrong(logits, labels))
    own = logits.gather(1, labels[:, None])
    others = logits.detach().scatter(1, labels[:, None], -torch.inf)
    classes = others.topk(min(_CLASSES, logits.shape[1] - 1), 1).indices
    gaps = own - logits.gather(1, classes)
    normals = [
        torch.autograd.grad(-gaps[:, k].sum(), pixels, retain_graph=k < gaps.shape[1] - 1)[0] * view.std
        for k in range(gaps.shape[1])
    ]
    planes = _Planes(classes[keep], gaps.detach()[keep], torch.stack(normals, 1).flatten(2)[keep])
    return index[keep.cpu().numpy()], x[keep], planes


def _gap(view: View, x: Tensor, labels: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """Score of the right class less the goal's, and the gradient, in normalised units, that makes it small."""
    pixels = x.detach().requires_grad_()
    logits = view(pixels)
    gap = (logits.gather(1, labels[:, None]) - logits.gather(1, goal[:, None])).squeeze(1)
    (slope,) = torch.autograd.grad(-gap.sum(), pixels)
    return gap.detach(), (slope * view.std).flatten(1)


def _judged(search: Search, index: Indices, x: Tensor, wrong: Tensor) -> Tensor:
    """Which of the images that the copy may have wrong onnxruntime has wrong too."""
    asked = wrong.cpu().numpy()
    done = np.zeros(len(index), np.bool_)
    done[asked] = search.judge(index[asked], to_images(x)[asked])
    return torch.from_numpy(done).to(x.device)


def _drop_unusable(
    search: Search, index: Indices, x: Tensor, good: Tensor, rest: tuple[Tensor, ...]
) -> tuple[Indices, Tensor, tuple[Tensor, ...]]:
    """Count the images whose gradient is no use as failures, and go on with the others."""
    kept = good.cpu().numpy()
    search.fail(index[~kept])
    return index[kept], x[good], tuple(values[good] for values in rest)


def _unit(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / lengths


def _moved(search: Search, view: View, x: Tensor, step: Tensor) -> Tensor:
    """The images after a step in normalised units, within the valid range."""
    return torch.clamp(x + step.reshape(x.shape) * view.std, search.target.low, search.target.high)
