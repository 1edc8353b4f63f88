"""What keeps a model from having a differentiable copy. Importing this needs no torch."""

from __future__ import annotations

from jr_onnx.errors import ModelError


class UnsupportedOperatorError(ModelError):
    """The copy lacks an operator, or something that a node asks of one. Black-box attacks do not need the copy.

    Attributes:
        op_type: the operator, with its domain where that is not ONNX's own.
    """

    def __init__(self, op_type: str, detail: str = "") -> None:
        self.op_type = op_type
        super().__init__(f"no gradients through {op_type}{detail and f': {detail}'}; only black-box attacks can be run")


class ParityError(ModelError):
    """The copy does not give what onnxruntime gives for the file, so its gradients say nothing about the file."""
