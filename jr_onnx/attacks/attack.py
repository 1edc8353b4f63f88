"""One attack on one batch. Importing this needs no torch; running an attack that needs gradients does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jr_onnx.attacks.catalogue import ATTACKS
from jr_onnx.errors import OptionError

if TYPE_CHECKING:
    from jr_onnx.differentiable.model import DifferentiableModel

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Jumps = Mapping[str, float] | float | None


@dataclass(frozen=True)
class Target:
    """A classifier under attack.

    Attributes:
        differentiable: the copy that gives gradients; None where there is none, for black-box attacks.
        session_run: images [N, C, ...] float32 in pixel units -> logits [N, classes], by onnxruntime on the file that
            ships, with the preprocessing applied.
        mean: one value a channel (axis 1), or one for all, in pixel units; the model's input is (x - mean) / std.
        std: likewise.
        low: the lowest valid pixel value.
        high: the highest valid pixel value.
        jumps: the jumps that the copy uses in place of the file's own; see `DifferentiableModel.forward`.
    """

    differentiable: DifferentiableModel | None
    session_run: Callable[[Images], npt.NDArray[np.floating]]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    low: float = 0.0
    high: float = 1.0
    jumps: Jumps = None


@dataclass(frozen=True)
class Effort:
    """How hard an attack tries.

    Attributes:
        eps: the radius of the Linf ball in pixel units; infinite for none. Attacks that look for the smallest
            perturbation take no notice of it.
        steps: gradient steps a restart, or iterations of DeepFool and trust region.
        restarts: the first one of PGD starts at the image itself, the others anywhere in the ball.
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
        failed: [N] bool: a gradient was NaN, infinite or all zero, so the attack could not go on.
        queries: [N] int64: forward passes spent on each image.
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
        OptionError: there is no such attack, or the target or the source lacks what it needs.
    """
    raise NotImplementedError
