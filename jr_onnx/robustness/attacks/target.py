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

#: The losses that an attack climbs, one a start: after so many starts the first comes again.
CYCLE = 4


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
        steps: gradient steps from a start, or iterations of DeepFool and trust region.
        restarts: the most starts of an attack that climbs within eps (pgd, smooth, bpda, transfer): it begins with one
            for each of its four losses, and their number doubles until that breaks hardly anything more.
        queries: model evaluations an image, for black-box attacks.
        step: of ifgsm, in normalised units, as the paper's authors take it.
    """

    eps: float = 0.1
    steps: int = 40
    restarts: int = 32
    queries: int = 1000
    step: float = 0.01


@dataclass(frozen=True)
class AttackOutcome:
    """What an attack came to. Whether an image fools the model is for the caller to find out, with onnxruntime.

    Attributes:
        images: [N, C, ...] float32 in pixel units: the best candidates; of a bounded attack within eps and the valid
            range. An image for which the attack has nothing is the image that was given.
        failed: [N] bool: the image is still in its class, and the gradient led nowhere: it was NaN, infinite or all
            zero, or from no start did the best wrong class come nearer.
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
        method: how it searches.
        norm: in which the perturbation is bounded, or made small by the attacks that are not bounded.
        needs_source: whether the original model is needed beside the target.
        backward: the gradient of JumpReLU that it follows.
    """

    name: str
    description: str
    family: Family
    method: Literal["ascent", "ifgsm", "deepfool", "trust-region", "square"] = "ascent"
    norm: Literal["linf", "l2"] = "linf"
    needs_source: bool = False
    backward: Backward = TRUE

    @property
    def needs_gradient(self) -> bool:
        """Whether the gradients of the model are needed."""
        return self.method != "square"

    @property
    def adapts(self) -> bool:
        """Whether it gets around JumpReLU's gradient: by another gradient, or by none."""
        return self.family != "paper"

    @property
    def bounded(self) -> bool:
        """Whether the perturbation stays within `Effort.eps`; the others look for the smallest one."""
        return self.method not in ("deepfool", "trust-region")


_ALL = (
    AttackInfo("ifgsm", "iterated fast gradient sign, the paper's protocol", "paper", "ifgsm"),
    AttackInfo("pgd", "projected gradient on cross-entropy and margins, with momentum and falling steps", "paper"),
    AttackInfo("deepfool-linf", "DeepFool in Linf (arXiv 1511.04599)", "paper", "deepfool"),
    AttackInfo("deepfool-l2", "DeepFool in L2 (arXiv 1511.04599)", "paper", "deepfool", "l2"),
    AttackInfo("trust-region", "trust region in L2 (arXiv 1812.06371)", "paper", "trust-region", "l2"),
    AttackInfo("smooth", "pgd through a smooth step that sharpens on the way", "adaptive", backward=smooth(0.3, 0.03)),
    AttackInfo(
        "bpda", "pgd with the gradient of Relu in place of JumpReLU's (arXiv 1802.00420)", "adaptive", backward=RELU
    ),
    AttackInfo("transfer", "pgd on the original model", "adaptive", needs_source=True),
    AttackInfo("square", "Square attack (arXiv 1912.00049)", "black-box", "square"),
)

#: Name -> attack, in the order in which it makes sense to run them.
ATTACKS: Mapping[str, AttackInfo] = MappingProxyType({attack.name: attack for attack in _ALL})
