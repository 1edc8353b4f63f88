"""What the user asked for, in one value that the whole pipeline reads."""

from __future__ import annotations

from dataclasses import dataclass, field

from jr_onnx.lowering.forms import Target
from jr_onnx.policy import JumpReluPolicy


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        policy: which site gets which jump.
        target: what JumpReLU is written as.
        include: globs; where there are any, only sites that one of them matches are converted.
        exclude: globs; sites that one of them matches are left alone.
        jump_input: the name of the graph input that the jump becomes; None for a constant jump.
        clip: convert Clip with minimum 0 too.
        inline: write the function body into the graph instead of calling the function.
        allow_empty: a model without a site is no error.
    """

    policy: JumpReluPolicy
    target: Target = "custom-op"
    include: tuple[str, ...] = field(default=())
    exclude: tuple[str, ...] = field(default=())
    jump_input: str | None = None
    clip: bool = False
    inline: bool = False
    allow_empty: bool = False
