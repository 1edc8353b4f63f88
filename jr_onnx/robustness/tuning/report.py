"""What tuning found, which candidate is the best, and what may be said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from jr_onnx.conversion.policy import JumpReluPolicy
from jr_onnx.robustness.evaluation.verdict import Verdict
from jr_onnx.robustness.statistics import Interval
from jr_onnx.robustness.tuning.grid import Choice
from jr_onnx.text import points_text

#: By what the jump is chosen.
Objective = Literal["adaptive", "clean"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


@dataclass(frozen=True)
class ZeroedSite:
    """What a jump does at one site: of its positive inputs, so many become zero."""

    path: str
    jump: float
    positive: int
    zeroed: int

    @property
    def share(self) -> float:
        """Zeroed of the positive ones; 0 where there are none."""
        return self.zeroed / self.positive if self.positive else 0.0


@dataclass(frozen=True)
class Candidate:
    """One choice of jumps, measured on the tuning part of the data. Intervals are at 95%.

    Attributes:
        choice: the jumps.
        clean: share of the samples that are right.
        drop: share that is right at jump 0 minus `clean`; paired, on the same samples.
        zeroed: what happens at each site; sites in the body of an If, Loop or Scan are left out.
        within_budget: whether the drop is.
        true_gradient: share that is still right under attacks that follow the true gradient; None where no attack ran.
        adaptive: share that is still right under all attacks, those that adapt to JumpReLU too: the worst case.
        masking: whether the attacks that adapt undo what the true gradient shows.
    """

    choice: Choice
    clean: Interval
    drop: Interval
    zeroed: tuple[ZeroedSite, ...]
    within_budget: bool
    true_gradient: Interval | None = None
    adaptive: Interval | None = None
    masking: bool = False

    @property
    def zeroed_share(self) -> float:
        """Of all positive activations at all sites."""
        positive = sum(site.positive for site in self.zeroed)
        return sum(site.zeroed for site in self.zeroed) / positive if positive else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        plain = asdict(self)
        plain["zeroed"] = [{**asdict(site), "share": site.share} for site in self.zeroed]
        return {"jump": self.choice.jump, **plain.pop("choice"), **plain, "zeroed_share": self.zeroed_share}


@dataclass(frozen=True)
class Confirmation:
    """The best candidate on the test part of the data, which had no say in the choice.

    Attributes:
        choice: its jumps.
        clean: share of the samples that it has right.
        drop: what it loses against jump 0.
        verdict: the best candidate against jump 0 under all attacks, on the same samples; None where no attack ran.
    """

    choice: Choice
    clean: Interval
    drop: Interval
    verdict: Verdict | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        plain = asdict(self)
        return {"jump": self.choice.jump, **plain.pop("choice"), **plain}


@dataclass(frozen=True)
class TuningReport:
    """The result of `jr_onnx.tune`.

    Attributes:
        source: the model; None for one in memory.
        data: where the samples come from.
        objective: "adaptive" chooses by the worst case under attack, "clean" the largest jump within the budget.
        labels: False where there are none: "right" then means as the original model has it.
        max_drop: the budget, in percentage points of clean accuracy.
        eps: the radius of the attacks in units of pixels from 0 to 1 (maximum norm); None where no attack ran.
        attacks: which ran.
        seed: of the split and of the attacks.
        tuned_on, tested_on: samples in the two parts of the data.
        attacked: samples of the tuning part that were attacked.
        candidates: in the order in which they were tried; the first is jump 0.
        confirmation: the best of them on the test part; None where none is within the budget.
        chosen: it, if it is worth having; None where nothing is gained.
        policy: the chosen jumps, as `convert --policy` takes them.
        sentence: the outcome, for people.
        notes: what the user should know besides.
        seconds: wall time.
    """

    source: Path | None
    data: str
    objective: Objective
    labels: bool
    max_drop: float
    eps: float | None
    attacks: tuple[str, ...]
    seed: int
    tuned_on: int
    tested_on: int
    attacked: int
    candidates: tuple[Candidate, ...]
    confirmation: Confirmation | None
    chosen: Candidate | None
    policy: JumpReluPolicy | None = field(repr=False)
    sentence: str
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            **vars(self),
            "source": None if self.source is None else str(self.source),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "confirmation": None if self.confirmation is None else self.confirmation.to_dict(),
            "chosen": None if self.chosen is None else self.candidates.index(self.chosen),
            "policy": None if self.policy is None else self.policy.to_dict(),
        }


# --- Which candidate is the best, and what may be said of it ----------------------------------------------------------


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
        return f"no jump keeps the clean accuracy within {points_text(max_drop)} of jump 0: nothing to choose"
    worst = "" if original.adaptive is None else f" ({original.adaptive.estimate:.1%})"
    return (
        "no jump is worth it: under attack, none within the budget of clean accuracy leaves more samples right than "
        f"jump 0, which is plain ReLU{worst}"
    )


def outcome(best: Candidate, confirmation: Confirmation, max_drop: float, labels: bool = True) -> tuple[str, bool]:
    """What the test part says of the best candidate, in a sentence, and whether it is worth having.

    Gradient masking on either part is reason enough not to. A drop over the budget that may be chance is a warning;
    over it with the whole interval, nothing is chosen.
    """
    right = "clean accuracy" if labels else "agreement with the original"
    jump, clean = confirmation.choice.label, f"{right} on the test part {confirmation.clean.in_percent}"
    verdict = confirmation.verdict
    if verdict is None:
        sentence = f"jump {jump} is the largest within the budget on the tuning part ({clean})"
        sentence += "; no robustness was measured"
    else:
        found = verdict.headline[0].lower() + verdict.headline[1:-1]
        if verdict.outcome != "GAIN":
            return f"no jump is worth it: jump {jump} seemed best, but on the test part: {found}", False
        if best.masking:
            hidden = "on the tuning part it misleads attacks by its gradient (gradient masking)"
            return f"no jump is worth it: jump {jump} seemed best, but {hidden}", False
        sentence = f"jump {jump}, on the test part: {found}; {clean}"
    drop, budget = confirmation.drop, max_drop / 100 + 1e-9
    loses = f"on the test part it loses {_loss(drop)}, more than the budget of {points_text(max_drop)}"
    if drop.low > budget:
        return f"no jump is chosen: jump {jump} is within the budget on the tuning part, but {loses}", False
    return (f"{sentence}. Warning: {loses}" if drop.estimate > budget else sentence), True


def _loss(interval: Interval) -> str:
    lost, low, high = (round(100 * share, 1) + 0.0 for share in (interval.estimate, interval.low, interval.high))
    return f"{lost:.1f} points ({low:.1f} to {high:.1f})"
