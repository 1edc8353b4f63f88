"""The stages of tuning one model on one split of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from jr_onnx.conversion.policy import JumpReluPolicy
from jr_onnx.errors import ModelError
from jr_onnx.robustness.dataset import Classifier, Dataset
from jr_onnx.robustness.evaluation.report import EvaluationReport
from jr_onnx.robustness.statistics import Interval, paired_test, share_of, within_drop
from jr_onnx.robustness.tuning.grid import QUANTILES, Choice, from_grid, from_quantiles, policy_of
from jr_onnx.robustness.tuning.jump_inputs import TunableModel
from jr_onnx.robustness.tuning.report import Candidate, Confirmation, ZeroedSite
from jr_onnx.robustness.tuning.runs import Counts, JumpSession, Progress, calibrate

#: Called with the name of a stage, what was done in it, and what there is to do.
StageProgress = Callable[[str, int, int], None]

#: The stages that attack, whose finished parts are in the journal.
ATTACKING = ("attack", "confirm")

_Rights = npt.NDArray[np.bool_]


class Attack(Protocol):
    """`jr_onnx.robustness.tuning.robustness.attack` with its settings."""

    def __call__(
        self, policies: Sequence[JumpReluPolicy], dataset: Dataset, *, progress: Progress
    ) -> EvaluationReport: ...


@dataclass(frozen=True)
class Stages:
    """What all stages share.

    Attributes:
        max_drop: the budget, in percentage points.
        attack: None where none shall run.
    """

    classifier: Classifier
    hardened: TunableModel
    max_drop: float
    attack: Attack | None
    progress: StageProgress

    def choices(
        self, grid: Sequence[float] | None, quantiles: Sequence[float] | None, per_layer: bool, dataset: Dataset
    ) -> tuple[Choice, ...]:
        """What is tried, jump 0 first; of choices that come to the same, as jumps of integers do, the smallest."""
        paths = tuple(dict.fromkeys(path for path, _ in self.hardened.model.sites))
        if grid is not None:
            asked = from_grid(grid, paths)
        else:
            histograms = calibrate(self.hardened, self.classifier, dataset, self._stage("calibrate"))
            asked = from_quantiles(quantiles or QUANTILES, histograms, paths, per_layer=per_layer)
        distinct: dict[tuple[float, ...], Choice] = {}
        for choice in asked:
            distinct.setdefault(self.hardened.compared_with(choice.jumps), choice)
        return tuple(distinct.values())

    def candidates(self, session: JumpSession, dataset: Dataset, choices: Sequence[Choice]) -> tuple[Candidate, ...]:
        """Every choice measured, those within the budget under attack too."""
        rights, counts = self._measured(session, dataset, choices)
        found = [self._candidate(*one, rights[0]) for one in zip(choices, rights, counts, strict=True)]
        if self.attack is None:
            return tuple(found)
        inside = [number for number, candidate in enumerate(found) if candidate.within_budget]
        policies = [policy_of(found[number].choice, self.hardened.fixed) for number in inside]
        report = self.attack(policies, dataset, progress=self._stage(ATTACKING[0]))
        for name, number in enumerate(inside):
            result, verdict = report.models[str(name)], report.verdicts.get(str(name))
            found[number] = replace(
                found[number],
                true_gradient=share_of(result.survives_true[0]),
                adaptive=share_of(result.survives[0]),
                masking=verdict is not None and verdict.masking,
            )
        return tuple(found)

    def confirmation(
        self, session: JumpSession, dataset: Dataset, original: Candidate, best: Candidate
    ) -> Confirmation:
        """The best candidate against jump 0 on samples that had no say in the choice."""
        choices = (original.choice, best.choice)
        rights, _ = self._measured(session, dataset, choices)
        clean, drop = _clean(*rights)
        if self.attack is None:
            return Confirmation(best.choice, clean, drop)
        policies = [policy_of(choice, self.hardened.fixed) for choice in choices]
        report = self.attack(policies, dataset, progress=self._stage(ATTACKING[1]))
        return Confirmation(best.choice, clean, drop, report.verdicts["1"])

    def _measured(
        self, session: JumpSession, dataset: Dataset, choices: Sequence[Choice]
    ) -> tuple[list[_Rights], tuple[Counts, ...]]:
        """For each choice which samples are right, and its counts; the first choice is jump 0."""
        counts = session.run(dataset, [choice.jumps for choice in choices], self._stage("measure"))
        answers = counts[0].predictions
        if (answers < 0).any():
            raise ModelError(f"the model gives NaN for {int((answers < 0).sum())} of the samples of {dataset.name}")
        labels = answers if dataset.labels is None else dataset.labels
        return [one.predictions == labels for one in counts], counts

    def _candidate(self, choice: Choice, right: _Rights, counts: Counts, original: _Rights) -> Candidate:
        clean, drop = _clean(original, right)
        zeroed = tuple(
            ZeroedSite(path, choice.jumps[path], positive, positive - counts.kept[path])
            for path, positive in counts.positive.items()
        )
        return Candidate(choice, clean, drop, zeroed, within_drop(original, right, self.max_drop))

    def _stage(self, name: str) -> Progress:
        return lambda done, total: self.progress(name, done, total)


def _clean(original: _Rights, right: _Rights) -> tuple[Interval, Interval]:
    """The share that is right, and what that is below jump 0's."""
    gain = paired_test(original, right).difference
    return share_of(right), Interval(-gain.estimate + 0.0, -gain.high, -gain.low)
