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
        last: what the temperature has fallen to at the end of an attack; None where it stays.
    """

    kind: Literal["true", "relu", "smooth"] = "true"
    temperature: float = 0.25
    last: float | None = None

    def __post_init__(self) -> None:
        for one in (self.temperature, self.temperature if self.last is None else self.last):
            if not (math.isfinite(one) and one > 0):
                raise ValueError(f"temperature {one} must be a finite number > 0")

    def at(self, spent: float) -> Backward:
        """The backward when a share of the steps is done: the temperature falls by the same factor at each step."""
        if self.last is None:
            return self
        return Backward(self.kind, self.temperature * (self.last / self.temperature) ** spent)

    @property
    def share(self) -> float:
        """What `SHARE` is."""
        return {"true": 1.0, "relu": 0.0, "smooth": self.temperature}[self.kind]


TRUE = Backward("true")
RELU = Backward("relu")


def smooth(temperature: float, last: float | None = None) -> Backward:
    """The smooth backward at a temperature, a fraction of the jump, or falling from one to the other."""
    return Backward("smooth", temperature, last)
