"""What keeps a model from having gradients."""

from __future__ import annotations

from jr_onnx.errors import ModelError


class NoGradientError(ModelError):
    """A model that has no gradients, for there are none of an operator in it. Black-box attacks need none."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no gradients: {reason}; only black-box attacks can be run")
