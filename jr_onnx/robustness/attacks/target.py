"""What is attacked, with what effort, what comes out, and the attacks as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from jr_onnx.robustness.gradients.backward import RELU, TRUE, Backward, smooth
from jr_onnx.runtime.data.fitting import Layout

if TYPE_CHECKING:
    from jr_onnx.robustness.gradients.gradients import Gradients


Images = npt.NDArray[np.float32]


Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Target:
    """A classifier under attack.

    Attributes:
        gradients: of the file; None where there are none, for black-box attacks.
        session_run: images [N, C, ...] float32 in pixel units -> class scores [N, classes], logits or probabilities,
            by onnxruntime on the file that ships, with the preprocessing applied.
        mean: one value a channel, or one for all, in pixel units; the model's input is (x - mean) / std.
        std: likewise.
        low: the lowest valid pixel value.
        high: the highest valid pixel value.
        layout: where the channels are, in images and in the model's input alike.
    """

    gradients: Gradients | None
    session_run: Callable[[Images], npt.NDArray[np.floating]]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    low: float = 0.0
    high: float = 1.0
    layout: Layout = "NCHW"


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
        relative_noise: [N] float64: ||r|| / ||x|| of the normalised images, in the attack's norm; the paper's measure.
    """

    images: Images
    failed: npt.NDArray[np.bool_]
    relative_noise: npt.NDArray[np.float64]


Family = Literal["paper", "adaptive", "black-box"]


@dataclass(frozen=True)
class AttackInfo:
    """One attack.

    Attributes:
        name: as the command line takes it.
        description: one line for people.
        family: "paper" follows the true gradient; "adaptive" gets around it; "black-box" asks onnxruntime only.
        needs_gradient: whether the gradients of the model are needed.
        norm: in which the perturbation is bounded, or made small by the attacks that are not bounded.
        bounded: whether the perturbation stays within `Effort.eps`; the others look for the smallest one.
        needs_source: whether the original model is needed beside the target.
        backward: the gradient of JumpReLU that it follows.
    """

    name: str
    description: str
    family: Family
    needs_gradient: bool = True
    norm: Literal["linf", "l2"] = "linf"
    bounded: bool = True
    needs_source: bool = False
    backward: Backward = TRUE


def _smooth(temperature: float) -> AttackInfo:
    text = f"PGD through a smooth step, {temperature:g} of the jump wide, on cross-entropy and on the margin"
    return AttackInfo(f"smooth-{temperature:g}", text, "adaptive", backward=smooth(temperature))


_ALL = (
    AttackInfo("ifgsm", "iterated fast gradient sign, the paper's protocol", "paper"),
    AttackInfo("pgd", "projected gradient on the cross-entropy", "paper"),
    AttackInfo("pgd-margin", "projected gradient on the margin between the classes", "paper"),
    AttackInfo("apgd", "projected gradient with a step that adapts (arXiv 2003.01690)", "paper"),
    AttackInfo("deepfool-linf", "DeepFool in Linf (arXiv 1511.04599)", "paper", bounded=False),
    AttackInfo("deepfool-l2", "DeepFool in L2 (arXiv 1511.04599)", "paper", norm="l2", bounded=False),
    AttackInfo("trust-region", "trust region in L2 (arXiv 1812.06371)", "paper", norm="l2", bounded=False),
    AttackInfo(
        "bpda", "PGD with the gradient of Relu in place of JumpReLU's (arXiv 1802.00420)", "adaptive", backward=RELU
    ),
    _smooth(0.1),
    _smooth(0.25),
    _smooth(0.5),
    AttackInfo("transfer", "adversarial images of the original model", "adaptive", needs_source=True),
    AttackInfo("square", "Square attack (arXiv 1912.00049)", "black-box", needs_gradient=False),
)

#: Name -> attack, in the order in which it makes sense to run them.
ATTACKS: Mapping[str, AttackInfo] = MappingProxyType({attack.name: attack for attack in _ALL})
