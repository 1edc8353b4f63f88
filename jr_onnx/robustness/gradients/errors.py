"""What keeps a model from having gradients."""

from __future__ import annotations

from jr_onnx.errors import ModelError


class NoGradientError(ModelError):
    """A model that has no gradients, for there are none of an operator in it. Black-box attacks need none."""

    def __str__(self) -> str:  # not in __init__, which another process calls again with what it was given here
        return f"no gradients: {super().__str__()}; only black-box attacks can be run"
