"""Which candidate is the best, and what may be said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jr_onnx.statistics import Interval
from jr_onnx.tuning.report import Candidate, Confirmation, Objective

if TYPE_CHECKING:
    from jr_onnx.evaluation.verdict import Verdict


def best_of(candidates: Sequence[Candidate], objective: Objective) -> Candidate | None:
    """The candidate to confirm; None where none is within the budget, or none seems better than jump 0.

    By the worst case under attack, the first of those that are equal, which has the smallest jump; where no attack ran,
    the last, which has the largest.
    """
    inside = [candidate for candidate in candidates[1:] if candidate.within_budget]
    if objective == "clean":
        return inside[-1] if inside else None
    best = max(inside, key=_survival, default=None)
    return best if best is not None and _survival(best) > _survival(candidates[0]) else None


def _survival(candidate: Candidate) -> float:
    return candidate.adaptive.estimate if candidate.adaptive is not None else 0.0


def nothing_found(candidates: Sequence[Candidate], max_drop: float) -> str:
    """Why there is no best candidate."""
    original = candidates[0]
    if not any(candidate.within_budget for candidate in candidates[1:]):
        return f"no candidate keeps the clean accuracy within {max_drop:g} points of jump 0: nothing to choose"
    worst = "" if original.adaptive is None else f" ({original.adaptive.estimate:.1%} at jump 0)"
    return (
        "no measurable robustness gain: under attacks that adapt, no candidate within the budget is right more often "
        f"than jump 0{worst}"
    )


def outcome(confirmation: Confirmation, max_drop: float, labels: bool = True) -> tuple[str, bool]:
    """What the test part says of the best candidate, in a sentence, and whether it is worth having.

    A drop over the budget that may be chance is a warning; over it with the whole interval, nothing is chosen.
    """
    right = "clean accuracy" if labels else "agreement with the original"
    jump, clean = confirmation.choice.label, f"{right} on the test part {_share(confirmation.clean)}"
    if confirmation.verdict is None:
        sentence = f"jump {jump} is the largest within the budget on the tuning part ({clean})"
        sentence += "; no robustness was measured"
    else:
        numbers = _under_attack(confirmation.verdict)
        if confirmation.verdict.gain != "GAIN":
            return f"no measurable robustness gain: jump {jump} seemed best, but {numbers}", False
        sentence = f"jump {jump}: {numbers}, {clean}; an upper bound over these attacks, no guarantee"
    drop, budget = confirmation.drop, max_drop / 100 + 1e-9
    loses = f"on the test part it loses {_loss(drop)}, more than the budget of {max_drop:g}"
    if drop.low > budget:
        return f"no jump is chosen: jump {jump} is within the budget on the tuning part, but {loses}", False
    return (f"{sentence}. Warning: {loses}" if drop.estimate > budget else sentence), True


def _under_attack(verdict: Verdict) -> str:
    (at,) = verdict.at
    numbers = (
        f"in the worst case {at.hardened:.1%} of the test part are right against {at.reference:.1%} at jump 0 "
        f"(difference {_points(at.gain.difference)})"
    )
    return f"{numbers}; the true gradient shows more than there is (gradient masking)" if verdict.masking else numbers


def _share(interval: Interval) -> str:
    return f"{interval.estimate:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def _loss(interval: Interval) -> str:
    lost, low, high = (round(100 * share, 1) + 0.0 for share in (interval.estimate, interval.low, interval.high))
    return f"{lost:.1f} points ({low:.1f} to {high:.1f})"


def _points(interval: Interval) -> str:
    return f"{100 * interval.estimate:+.1f} points, {100 * interval.low:+.1f} to {100 * interval.high:+.1f}"
