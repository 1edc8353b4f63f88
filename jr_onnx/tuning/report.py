"""What tuning found: the answer of the API, for a program (`to_dict`) as for a person."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from jr_onnx.policy import JumpReluPolicy
from jr_onnx.statistics import Interval
from jr_onnx.tuning.grid import Choice

if TYPE_CHECKING:
    from jr_onnx.evaluation.verdict import Verdict

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
        masking: whether the attacks that adapt undo what the true gradient shows; see `jr_onnx.evaluation.verdict`.
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
        return {
            "jump": self.choice.jump,
            "quantile": self.choice.quantile,
            "jumps": dict(self.choice.jumps),
            "clean": asdict(self.clean),
            "drop": asdict(self.drop),
            "within_budget": self.within_budget,
            "zeroed_share": self.zeroed_share,
            "zeroed": [{**asdict(site), "share": site.share} for site in self.zeroed],
            "true_gradient": None if self.true_gradient is None else asdict(self.true_gradient),
            "adaptive": None if self.adaptive is None else asdict(self.adaptive),
            "masking": self.masking,
        }


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
        return {
            "jump": self.choice.jump,
            "jumps": dict(self.choice.jumps),
            "clean": asdict(self.clean),
            "drop": asdict(self.drop),
            "verdict": None if self.verdict is None else self.verdict.to_dict(),
        }


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
        plain = {name: value for name, value in vars(self).items() if name not in _NESTED}
        return {
            **plain,
            "source": None if self.source is None else str(self.source),
            "attacks": list(self.attacks),
            "notes": list(self.notes),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "confirmation": None if self.confirmation is None else self.confirmation.to_dict(),
            "chosen": None if self.chosen is None else self.candidates.index(self.chosen),
            "policy": None if self.policy is None else self.policy.to_dict(),
        }


_NESTED = frozenset(("candidates", "confirmation", "chosen", "policy"))
