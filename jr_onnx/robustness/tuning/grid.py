"""The candidates: which jumps are tried, and the policy that each is."""

from __future__ import annotations

import glob
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jr_onnx.conversion.policy import JumpReluPolicy, PolicyRule, jump_text
from jr_onnx.errors import OptionError
from jr_onnx.robustness.statistics import PositiveHistogram

#: Tried where nothing else is asked for: shares of the positive activations, so that a model's scale does not matter.
QUANTILES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Choice:
    """One choice of jumps.

    Attributes:
        jumps: path -> jump, for every site that is tuned.
        quantile: of the positive activations, where that is where the jumps come from.
    """

    jumps: Mapping[str, float]
    quantile: float | None = None

    @property
    def jump(self) -> float | None:
        """The jump of all sites; None where they differ."""
        distinct = set(self.jumps.values())
        return distinct.pop() if len(distinct) == 1 else None

    @property
    def label(self) -> str:
        """For people: "0.5", or "0.02 to 1.4" where the sites differ."""
        if self.jump is not None:
            return jump_text(self.jump, "float")
        lowest, highest = min(self.jumps.values()), max(self.jumps.values())
        return f"{jump_text(lowest, 'float')} to {jump_text(highest, 'float')}"


def check_grid(grid: Sequence[float] | None, quantiles: Sequence[float] | None, per_layer: bool) -> None:
    """Whether what was asked for makes a grid.

    Raises:
        OptionError: it does not.
    """
    if grid is not None and quantiles is not None:
        raise OptionError("give either `grid` or `quantiles`")
    if grid is not None and per_layer:
        raise OptionError("`grid` has the same jump at all sites; leave out `per_layer`, or give `quantiles` instead")
    for what, numbers in (("grid", grid), ("quantiles", quantiles)):
        if numbers is not None and not numbers:
            raise OptionError(f"`{what}` is empty")
    for jump in grid or ():
        if not (math.isfinite(jump) and jump >= 0):
            raise OptionError(f"`grid`: jump {jump!r} must be a finite number >= 0")
    if grid is not None and not any(grid):
        raise OptionError("`grid`: no jump above 0, and jump 0 is what the others are compared with")
    for quantile in quantiles or ():
        if not 0 < quantile < 1:
            raise OptionError(f"`quantiles`: {quantile!r} must be between 0 and 1")


def from_grid(grid: Sequence[float], paths: Sequence[str]) -> tuple[Choice, ...]:
    """One jump for all sites: jump 0, then the others in ascending order, each once."""
    return tuple(Choice(dict.fromkeys(paths, jump)) for jump in sorted({0.0, *grid}))


def from_quantiles(
    quantiles: Sequence[float], histograms: Mapping[str, PositiveHistogram], paths: Sequence[str], *, per_layer: bool
) -> tuple[Choice, ...]:
    """Jump 0, then quantiles of the positive activations in ascending order, without repetitions.

    Args:
        histograms: path -> the positive numbers that come into the site.
        paths: all sites that are tuned.
        per_layer: each site gets the quantile of its own activations; else all get that of all activations together.

    Raises:
        OptionError: nothing is known about the activations that are needed.
    """
    unseen = [path for path in paths if path not in histograms]
    if unseen and (per_layer or not histograms):
        raise OptionError(f"`quantiles`: '{unseen[0]}' is in the body of an If, Loop or Scan, unseen; give `grid`")
    pooled = PositiveHistogram()
    for histogram in histograms.values():
        pooled.merge(histogram)
    if not pooled.count:
        raise OptionError("`quantiles`: no activation is positive on these samples; give `grid`")
    choices = [Choice(dict.fromkeys(paths, 0.0))]
    for quantile in sorted(set(quantiles)):
        own = {path: histograms[path] if per_layer else pooled for path in paths}
        jumps = {path: _short(known.quantile(quantile)) if known.count else 0.0 for path, known in own.items()}
        if jumps != choices[-1].jumps:
            choices.append(Choice(jumps, quantile))
    return tuple(choices)


def _short(jump: float) -> float:
    """Three digits, so that a jump can be read, and typed: about as exact as the quantile is."""
    return float(f"{jump:.3g}")


# --- A choice of jumps as a policy, which `convert` takes -------------------------------------------------------------


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
