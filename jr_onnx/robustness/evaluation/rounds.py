"""The course of a campaign: which attack gets which samples, and when the attacks have done enough.

The attacks go down two arms, neither of which knows of the other: those that follow the true gradient, and those that
adapt to JumpReLU. What one arm finds beyond the other tells masked gradients from mere effort. In an arm each attack
gets what those before it left. The black-box attacks get what is left of both; what they find there counts with the
attacks that adapt, for theirs is the weaker search, and finds little where gradients lead anywhere.

An attack that climbs begins with one start for each of its losses, and the number of its starts doubles, on what is
left, until a doubling breaks no more than `CONVERGED` of the samples of any model, or the starts are spent: every model
gets the same effort. An attack that finds hardly anything in what others of its arm left is not repeated. Beside
attacks that adapt the true gradient is only their control, which is compared with them at equal effort, and that need
not be much. A perturbation that fools at one eps is one at each larger eps too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from jr_onnx.errors import ModelError
from jr_onnx.robustness.attacks.target import ATTACKS, CYCLE, AttackInfo
from jr_onnx.robustness.dataset import Dataset
from jr_onnx.robustness.evaluation.part import CLEAN, Arrays, Bools, Campaign, Floats, Part
from jr_onnx.robustness.evaluation.workers import multiplications, shards

#: An attack has converged where doubling its effort broke no more than this share of all samples.
CONVERGED = 0.01

#: The attack that is the control of those that adapt, the true gradient; and how much effort it gets.
CONTROL, CONTROL_EFFORT = "pgd", 2

Shares = npt.NDArray[np.float64]

#: Does all parts; is told how many more may come after them at most.
Do = Callable[[Sequence[Part], int], Iterable[tuple[Part, Arrays]]]


@dataclass
class Found:
    """What an attack did to a model; all but the noise are [eps, n].

    Attributes:
        tried: the samples that it was given.
        effort: what it took to fool the model on a sample, as a multiple of the first effort; 0 where it did not.
        failed: where it did not, and its gradient led nowhere.
        noise: [n], the relative noise of an attack that looks for the smallest perturbation; NaN where it found none.
    """

    tried: Bools
    effort: npt.NDArray[np.int16]
    failed: Bools
    noise: Shares

    @property
    def broke(self) -> Bools:
        """Where it fooled the model."""
        return self.effort > 0


@dataclass
class Attacked:
    """What all attacks did to a model.

    Attributes:
        correct: [n], whether the clean sample is classified as labelled.
        left: for each eps the curve, while the effort doubled, of (multiple of the first effort, share of the samples
            that survive).
        by: attack -> what it did, in the order in which they first ran.
        kept: sample -> (index of the smallest eps at which it fell, attack, perturbed pixels), for the gallery.
    """

    correct: Bools
    left: list[list[tuple[int, float]]]
    by: dict[str, Found] = field(default_factory=dict)
    kept: dict[int, tuple[int, str, Floats]] = field(default_factory=dict)

    def survives(self, attacks: Iterable[str] | None = None, effort: int = 1 << 14) -> Bools:
        """[eps, n], what is right after these attacks, or all where None, with no more than this effort each."""
        survives = np.tile(self.correct, (len(self.left), 1))
        for name in self.by if attacks is None else attacks:
            survives &= ~self.by[name].broke | (self.by[name].effort > effort)
        return survives


def runs(attacks: Sequence[str]) -> tuple[str, ...]:
    """Attacks in the order in which they run, with the control of those that adapt: the true gradient first."""
    wanted = set(attacks)
    if any(ATTACKS[name].family == "adaptive" for name in attacks):
        wanted.add(CONTROL)
    return tuple(name for name in ATTACKS if name in wanted)


def attack_all(campaign: Campaign, dataset: Dataset, do: Do) -> tuple[Dataset, dict[str, Attacked]]:
    """The data with their classes, and model -> what all attacks did to it.

    Raises:
        ModelError: there are no labels, and the original has no answer either.
    """
    course = _Course(campaign, dataset, do)
    course.attack()
    return course.dataset, course.attacked


class _Course:
    """The state of a campaign between its steps."""

    def __init__(self, campaign: Campaign, dataset: Dataset, do: Do) -> None:
        self.campaign, self.dataset, self._do = campaign, dataset, do
        infos = [ATTACKS[name] for name in campaign.attacks]
        self._first = [one for one in infos if one.method != "ascent" and one.needs_gradient]
        self._climbing = [one for one in infos if one.method == "ascent"]
        self._last = [one for one in infos if not one.needs_gradient]
        adaptive = any(one.adapts for one in self._climbing)
        self._control_effort = CONTROL_EFFORT if adaptive else campaign.effort.restarts
        self._doublings = tuple(_doublings(campaign.effort.restarts)) if self._climbing else ()
        self._steps_left = 1 + len(self._first) + len(self._climbing) * len(self._doublings) + len(self._last)
        starts = max(1, campaign.effort.restarts // 2)  # of the longest part
        cost = campaign.effort.steps * starts * len(campaign.eps) * multiplications(campaign.original.model)
        self._cut = [(rows, dataset.take(np.array(rows))) for rows in shards(dataset.images.shape, cost)]
        self.attacked = self._clean()

    def _clean(self) -> dict[str, Attacked]:
        answers = {name: np.zeros(len(self.dataset), np.int64) for name in self.campaign.models}
        everything = np.ones((len(self.campaign.eps), len(self.dataset)), np.bool_)
        given = dict.fromkeys(self.campaign.models, everything)
        for part, arrays in self._done(CLEAN, range(1), given):
            answers[part.model][part.shard.start : part.shard.stop] = arrays["answers"]
        if self.dataset.labels is None:
            labels = next(iter(answers.values()))
            if none := int((labels < 0).sum()):
                said = f"the original gives NaN for {none} of the samples of {self.dataset.name}, which have no labels"
                raise ModelError(said)
            self.dataset = replace(self.dataset, labels=labels)
            self._cut = [(rows, self.dataset.take(np.array(rows))) for rows, _ in self._cut]
        levels = range(len(self.campaign.eps))
        return {name: Attacked(answer == self.dataset.labels, [[] for _ in levels]) for name, answer in answers.items()}

    def attack(self) -> None:
        """Every attack, as long as it needs."""
        every = np.ones(len(self.campaign.eps), np.bool_)
        for info in self._first:
            self._step(info, range(1), every)
        leads = {next((info.name for info in self._climbing if info.adapts == arm), "") for arm in (False, True)}
        going = {info.name: every for info in self._climbing}
        for effort, starts in self._doublings:
            levels = np.flatnonzero(np.any(list(going.values()), axis=0))
            before = self._shares()
            for info in self._climbing:
                broke = self._step(info, starts, going[info.name], effort)
                if info.name not in leads:
                    going[info.name] = going[info.name] & (broke > CONVERGED)
                if info.name == CONTROL and effort >= self._control_effort:
                    going[info.name] = ~every
            after = self._shares()
            for name, one in self.attacked.items():
                for level in levels:
                    one.left[level].append((effort, float(after[name][level])))
            if effort > 1:
                settled = np.max([before[name] - after[name] for name in after], axis=0) <= CONVERGED
                going = {name: at & ~settled for name, at in going.items()}
        for info in self._last:
            self._step(info, range(1), every)

    def _step(self, info: AttackInfo, starts: range, levels: Bools, effort: int = 1) -> Shares:
        """One attack on every model at these eps; [eps], the largest share of the samples that it broke of any."""
        given = {name: self._given(info, one) & levels[:, None] for name, one in self.attacked.items()}
        for name, one in self.attacked.items():
            tried, failed = np.zeros_like(given[name]), np.zeros_like(given[name])
            found = Found(tried, tried.astype(np.int16), failed, np.full(len(self.dataset), np.nan))
            one.by.setdefault(info.name, found)
        before = {name: one.by[info.name].broke.mean(axis=1) for name, one in self.attacked.items()}
        for part, arrays in self._done(info.name, starts, given):
            self._note(part, arrays, effort)
        broke = [one.by[info.name].broke.mean(axis=1) - before[name] for name, one in self.attacked.items()]
        most: Shares = np.max(broke, axis=0)
        return most

    def _shares(self) -> dict[str, Shares]:
        """Model -> the share of the samples that survives, [eps]."""
        return {name: one.survives().mean(axis=1) for name, one in self.attacked.items()}

    def _given(self, info: AttackInfo, attacked: Attacked) -> Bools:
        """[eps, n], the samples that the attacks of its arm left."""
        if not info.bounded:  # its measure is a mean over all samples
            return attacked.survives(())
        if not info.needs_gradient:
            return attacked.survives()
        return attacked.survives(name for name in attacked.by if ATTACKS[name].adapts == info.adapts)

    def _note(self, part: Part, arrays: Arrays, effort: int) -> None:
        attacked, rows = self.attacked[part.model], np.s_[:, part.shard.start : part.shard.stop]
        found = attacked.by[part.attack]
        found.tried[rows] |= arrays["tried"]
        found.effort[rows] = np.where(arrays["broke"] & (found.effort[rows] == 0), effort, found.effort[rows])
        # Of the last starts: where those before them led somewhere, these do too.
        found.failed[rows] = np.where(arrays["tried"], arrays["failed"], found.failed[rows] & ~arrays["broke"])
        found.noise[rows[1]] = arrays["noise"]
        for sample, level, pixels in zip(arrays["kept_index"], arrays["kept_level"], arrays["kept"], strict=True):
            if int(sample) not in attacked.kept or level < attacked.kept[int(sample)][0]:
                attacked.kept[int(sample)] = int(level), part.attack, pixels

    def _done(self, attack: str, starts: range, given: Mapping[str, Bools]) -> Iterator[tuple[Part, Arrays]]:
        # Model after model, for a worker keeps few of them open.
        parts = [
            Part(name, attack, starts, rows, samples, some)
            for name, wanted in given.items()
            for rows, samples in self._cut
            if (some := wanted[:, rows.start : rows.stop]).any()
        ]
        self._steps_left -= 1
        yield from self._do(parts, self._steps_left * len(self._cut) * len(given))


def _doublings(most: int) -> Iterator[tuple[int, range]]:
    """The effort as a multiple of the first, and the starts that bring it up to that."""
    effort, stop = 1, 0
    while stop < most:
        start, stop = stop, min(CYCLE * effort, most)
        yield effort, range(start, stop)
        effort *= 2
