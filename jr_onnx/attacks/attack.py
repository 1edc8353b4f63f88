"""One attack on one batch. Importing this needs no torch; running an attack that needs gradients does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jr_onnx.attacks.catalogue import ATTACKS, AttackInfo
from jr_onnx.dataset.classifier import Layout
from jr_onnx.differentiable.backward import Jumps
from jr_onnx.errors import OptionError

if TYPE_CHECKING:
    from jr_onnx.differentiable.model import DifferentiableModel

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Target:
    """A classifier under attack.

    Attributes:
        differentiable: the copy that gives gradients; None where there is none, for black-box attacks.
        session_run: images [N, C, ...] float32 in pixel units -> class scores [N, classes], logits or probabilities,
            by onnxruntime on the file that ships, with the preprocessing applied.
        mean: one value a channel, or one for all, in pixel units; the model's input is (x - mean) / std.
        std: likewise.
        low: the lowest valid pixel value.
        high: the highest valid pixel value.
        layout: where the channels are, in images and in the model's input alike.
        jumps: the jumps that the copy uses in place of the file's own; see `DifferentiableModel.forward`.
    """

    differentiable: DifferentiableModel | None
    session_run: Callable[[Images], npt.NDArray[np.floating]]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    low: float = 0.0
    high: float = 1.0
    layout: Layout = "NCHW"
    jumps: Jumps = None


@dataclass(frozen=True)
class Effort:
    """How hard an attack tries.

    Attributes:
        eps: the radius of the Linf ball in pixel units; infinite for none. Attacks that look for the smallest
            perturbation take no notice of it.
        steps: gradient steps a restart, or iterations of DeepFool and trust region.
        restarts: of each loss; the first start of PGD, bpda, smooth and transfer is the image itself, the others, that
            of the second loss too, are anywhere in the ball. apgd starts there always; the other attacks start once.
        queries: model evaluations an image, for black-box attacks.
        step: of ifgsm, in normalised units, as the paper's authors take it.
    """

    eps: float = 0.1
    steps: int = 40
    restarts: int = 1
    queries: int = 1000
    step: float = 0.01


@dataclass(frozen=True)
class AttackOutcome:
    """What an attack came to. Whether an image fools the model is for the caller to find out, with onnxruntime.

    Attributes:
        images: [N, C, ...] float32 in pixel units: the best candidates; of a bounded attack within eps and the valid
            range. An image for which the attack has nothing is the image that was given.
        failed: [N] bool: the image is still in its class, and from one start at least a gradient was NaN, infinite or
            all zero, so that the attack could not go on from there.
        queries: [N] int64: forward passes spent on each image, the copy's and onnxruntime's; of apgd an upper bound.
        relative_noise: [N] float64: ||r|| / ||x|| of the normalised images, in the attack's norm; the paper's measure.
    """

    images: Images
    failed: npt.NDArray[np.bool_]
    queries: npt.NDArray[np.int64]
    relative_noise: npt.NDArray[np.float64]


def run(
    name: str,
    target: Target,
    images: Images,
    labels: Labels,
    seeds: Sequence[int],
    effort: Effort,
    *,
    source: Target | None = None,
) -> AttackOutcome:
    """Attack a batch; random numbers for each image come from its own seed, whatever else is in the batch.

    Args:
        name: a key of `ATTACKS`.
        images: [N, C, ...] float32 in pixel units.
        labels: [N] int64, the right classes.
        seeds: one for each image.
        source: the original model, for transfer.

    Raises:
        OptionError: there is no such attack, the effort makes no sense, or the target or the source lacks what the
            attack needs.
    """
    from jr_onnx.attacks.search import Search

    info = _checked(name, target, images, labels, seeds, effort, source)
    search = Search(info, target, images, labels, np.asarray(seeds), effort)
    if len(images):
        if info.needs_gradient:
            from jr_onnx.attacks.white_box import attack

            attack(search, source)
        else:
            from jr_onnx.attacks.square import square

            square(search)
    return search.outcome()


def _checked(
    name: str,
    target: Target,
    images: Images,
    labels: Labels,
    seeds: Sequence[int],
    effort: Effort,
    source: Target | None,
) -> AttackInfo:
    if name not in ATTACKS:
        raise OptionError(f"there is no attack '{name}'; there are {', '.join(ATTACKS)}")
    info = ATTACKS[name]
    if not len(images) == len(labels) == len(seeds):
        raise OptionError(f"{len(images)} images, {len(labels)} labels and {len(seeds)} seeds; each image needs both")
    if info.needs_source and source is None:
        raise OptionError(f"{name}: the original model is needed too")
    attacked = source if info.needs_source else target
    if info.needs_gradient and (attacked is None or attacked.differentiable is None):
        raise OptionError(f"{name}: it follows gradients, and there is no differentiable copy; use a black-box attack")
    if min(effort.steps, effort.restarts, effort.queries) < 1 or not effort.eps > 0 or not effort.step > 0:
        raise OptionError(f"{effort}: everything must be positive")
    if info.bounded and math.isinf(effort.eps) and name != "ifgsm":
        raise OptionError(f"{name}: eps must be finite")
    return info
