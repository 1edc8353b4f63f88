"""The attacks, as data. Importing this needs neither torch nor onnxruntime.

name              gradient of JumpReLU            what it is
ifgsm             true                            signed steps in normalised space, until fooled (the paper's protocol)
deepfool-linf     true                            the nearest boundary of the linearised model, again and again
deepfool-l2       true                            the same in L2
trust-region      true                            towards one class with a trust radius that adapts, L2
pgd, pgd-margin   true                            projected gradient ascent on cross-entropy, on the margin
apgd              true                            projected gradient ascent with a step that halves itself
bpda              that of Relu                    pgd on cross-entropy, then on the margin
smooth-T          x * sigmoid((x - jump) / t)     pgd on cross-entropy, then on the margin; t = T * jump
transfer          the original model's            the same on the original, each step judged on the target
square            none                            random squares, judged by the class scores of onnxruntime alone
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from jr_onnx.differentiable.backward import RELU, TRUE, Backward, smooth

Family = Literal["paper", "adaptive", "black-box"]


@dataclass(frozen=True)
class AttackInfo:
    """One attack.

    Attributes:
        name: as the command line takes it.
        description: one line for people.
        family: "paper" follows the true gradient; "adaptive" gets around it; "black-box" asks onnxruntime only.
        needs_gradient: whether a differentiable copy is needed.
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
