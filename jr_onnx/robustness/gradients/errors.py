"""What keeps a model from having gradients."""

from __future__ import annotations

from jr_onnx.errors import ModelError


class UnsupportedOperatorError(ModelError):
    """There is no gradient of an operator, or of something that a node asks of one. Black-box attacks need none."""

    def __init__(self, op_type: str, detail: str = "") -> None:
        self.op_type = op_type
        super().__init__(f"no gradients through {op_type}{detail and f': {detail}'}; only black-box attacks can be run")


class ParityError(ModelError):
    """The gradients are of a model that does not give what onnxruntime gives for the file."""


class NoGradientError(ModelError):
    """A model that has no gradients, for there are none of an operator in it. Black-box attacks need none."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no gradients: {reason}; only black-box attacks can be run")
