"""What the gradient of JumpReLU is taken to be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from jr_onnx.conversion.graph.names import PREFIX

#: Inputs of every gradient model that say what the backward is: whether it is smooth, and a share of the jump. That is
#: the width of the smooth step, or where the hard one is: at the jump (1, true), or at zero (0, that of Relu).
SMOOTH, SHARE = f"{PREFIX}smooth", f"{PREFIX}share"


@dataclass(frozen=True)
class Backward:
    """The backward of every JumpReLU and Relu of a model; the forward is exact whatever it is.

    kind      derivative at x
    true      1 where x > jump, else 0
    relu      1 where x > 0, else 0: backward pass differentiable approximation (BPDA; Athalye, Carlini, Wagner,
              arXiv 1802.00420), with Relu as the approximation
    smooth    that of x * sigmoid((x - jump) / t), t = temperature * jump; where the jump is 0 it is the true one

    Attributes:
        temperature: the width of the smooth step as a fraction of the jump; of no use to the other kinds.
    """

    kind: Literal["true", "relu", "smooth"] = "true"
    temperature: float = 0.25

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature {self.temperature} must be a finite number > 0")

    @property
    def share(self) -> float:
        """What `SHARE` is."""
        return {"true": 1.0, "relu": 0.0, "smooth": self.temperature}[self.kind]


TRUE = Backward("true")
RELU = Backward("relu")


def smooth(temperature: float) -> Backward:
    """The smooth backward at a temperature, a fraction of the jump."""
    return Backward("smooth", temperature)
