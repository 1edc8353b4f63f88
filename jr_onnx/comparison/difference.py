"""One difference between two models."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a difference is about."""

    SITE_NOT_CONVERTED = "Relu, not JumpReLU"
    SITE_CONVERTED = "JumpReLU, not Relu"
    NODES = "nodes"
    ORDER = "order of nodes"
    OPERATOR = "operator"
    EDGE = "edge"
    NODE_NAME = "name of a node"
    INITIALIZER = "initializer"
    WEIGHTS = "weights"
    INTERFACE = "interface"
    DECLARED_TYPE = "declared type"
    METADATA = "jr_onnx metadata"
    SOURCE = "source of the conversion"
    FUNCTION = "function"
    BODY = "body of JumpReLU"
    OPSETS = "opset import"
    IR_VERSION = "IR version"
    JUMP = "jump"
    EXTERNAL = "external data"
    OTHER = "other"


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        subject: what differs, as the beginning of a sentence: "initializer 'w'".
        ours: what the first model has there; None where it has nothing.
        theirs: what the second model has there; None where it has nothing.
        node: the scope path of the node, if it is about one.
    """

    kind: Kind
    subject: str
    ours: str | None
    theirs: str | None
    node: str = ""

    def sentence(self, reference: str) -> str:
        """In words; `reference` names the first model, like "the plan"."""
        if self.theirs is None:
            return f"{self.subject} is missing" + (f" ({self.ours})" if self.ours else "")
        if self.ours is None:
            return f"{self.subject} is new" + (f" ({self.theirs})" if self.theirs else "")
        if not self.ours and not self.theirs:
            return f"{self.subject}: not the same"
        return f"{self.subject}: {self.theirs}; {reference} says {self.ours}"
