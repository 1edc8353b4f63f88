"""A choice of jumps as a policy, which `convert` takes."""

from __future__ import annotations

import glob
from collections.abc import Sequence

from jr_onnx.policy import JumpReluPolicy, PolicyRule
from jr_onnx.tuning.grid import Choice


def policy_of(choice: Choice, fixed: Sequence[str]) -> JumpReluPolicy:
    """The policy that gives each site its jump.

    Args:
        fixed: the paths of sites that were not tuned, which keep Relu.
    """
    skipped = tuple(PolicyRule(_literal(path), None) for path in fixed)
    if choice.jump is not None:
        return JumpReluPolicy(choice.jump, skipped)
    # A pattern may be a path or a plain name: one that ends other paths may be the name there, and comes after them.
    paths = sorted(choice.jumps, key=lambda path: sum(other.endswith(f"/{path}") for other in choice.jumps))
    return JumpReluPolicy(None, (*skipped, *(PolicyRule(_literal(path), choice.jumps[path]) for path in paths)))


def _literal(path: str) -> str:
    """A pattern that matches a path and nothing else: its own `*`, `?` and `[` mean themselves."""
    return glob.escape(path)
