"""The course of a campaign: which attack gets which samples, and when the attacks have done enough.

The attacks go down two arms, neither of which knows of the other: those that follow the true gradient, and those that
adapt to JumpReLU. What one arm finds beyond the other tells masked gradients from mere effort. In an arm each attack
gets what those before it left. The black-box attacks get what is left of both; what they find there counts with the
attacks that adapt, for theirs is the weaker search, and finds little where gradients lead anywhere.

An attack that climbs begins with one start for each of its losses, and the number of its starts doubles, on what is
left, until that breaks no more than `CONVERGED` of the samples, or the starts are spent. Attacks that adapt go on for
all models until it holds for each: every model gets the same effort. The control, which is compared within a model,
goes on for each by itself. An attack that finds hardly anything in what others of its arm left is not repeated. A
perturbation that fools at one eps is one at each larger eps too.
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
from jr_onnx.robustness.evaluation.workers import shards

#: An attack has converged where doubling its effort broke no more than this share of all samples.
CONVERGED = 0.01

#: The attack that is the control of those that adapt: the true gradient, with the same effort.
CONTROL = "pgd"

Shares = npt.NDArray[np.float64]

#: Does all parts; is told how many more may come after them at most.
Do = Callable[[Sequence[Part], int], Iterable[tuple[Part, Arrays]]]


@dataclass
class Found:
    """What an attack did to a model; all but the noise are [eps, n].

    Attributes:
        tried, broke: the samples that it was given, and those that it fooled the model on.
        failed: where it did not, and its gradient led nowhere.
        noise: [n], the relative noise of an attack that looks for the smallest perturbation; NaN where it found none.
    """

    tried: Bools
    broke: Bools
    failed: Bools
    noise: Shares


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

    def survives(self, attacks: Iterable[str] | None = None) -> Bools:
        """[eps, n], what is right after these attacks; after all where None."""
        survives = np.tile(self.correct, (len(self.left), 1))
        for name in self.by if attacks is None else attacks:
            survives &= ~self.by[name].broke
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
        self._doublings = tuple(_doublings(campaign.effort.restarts)) if self._climbing else ()
        self._steps_left = 1 + len(self._first) + len(self._climbing) * len(self._doublings) + len(self._last)
        self._cut = [(rows, dataset.take(np.array(rows))) for rows in shards(dataset.images.shape)]
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
        everywhere = dict.fromkeys(self.attacked, every)
        for info in self._first:
            self._step(info, range(1), everywhere)
        leads = {next((info.name for info in self._climbing if info.adapts == arm), "") for arm in (False, True)}
        going = {info.name: everywhere for info in self._climbing}
        for effort, starts in self._doublings:
            levels = np.flatnonzero(np.any([at for of in going.values() for at in of.values()], axis=0))
            for info in self._climbing:
                broke = self._step(info, starts, going[info.name])
                if effort > 1 or info.name not in leads:
                    going[info.name] = _going_on(info, going[info.name], broke)
            for one in self.attacked.values():
                shares = one.survives().mean(axis=1)
                for level in levels:
                    one.left[level].append((effort, float(shares[level])))
        for info in self._last:
            self._step(info, range(1), everywhere)

    def _step(self, info: AttackInfo, starts: range, levels: Mapping[str, Bools]) -> dict[str, Shares]:
        """One attack on the models, each at its eps: model -> the share of the samples that it broke, [eps]."""
        given = {name: self._given(info, one) & levels[name][:, None] for name, one in self.attacked.items()}
        before = {}
        for name, one in self.attacked.items():
            tried, broke, failed = (np.zeros_like(given[name]) for _ in range(3))
            found = one.by.setdefault(info.name, Found(tried, broke, failed, np.full(len(self.dataset), np.nan)))
            before[name] = found.broke.mean(axis=1)
        for part, arrays in self._done(info.name, starts, given):
            self._note(part, arrays)
        return {name: one.by[info.name].broke.mean(axis=1) - before[name] for name, one in self.attacked.items()}

    def _given(self, info: AttackInfo, attacked: Attacked) -> Bools:
        """[eps, n], the samples that the attacks of its arm left."""
        if not info.bounded:  # its measure is a mean over all samples
            return attacked.survives(())
        if not info.needs_gradient:
            return attacked.survives()
        return attacked.survives(name for name in attacked.by if ATTACKS[name].adapts == info.adapts)

    def _note(self, part: Part, arrays: Arrays) -> None:
        attacked, rows = self.attacked[part.model], slice(part.shard.start, part.shard.stop)
        found = attacked.by[part.attack]
        found.tried[:, rows] |= arrays["tried"]
        found.broke[:, rows] |= arrays["broke"]
        # Of the last starts: where those before them led somewhere, these do too.
        found.failed[:, rows] = np.where(arrays["tried"], arrays["failed"], found.failed[:, rows] & ~arrays["broke"])
        found.noise[rows] = arrays["noise"]
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


def _going_on(info: AttackInfo, going: Mapping[str, Bools], broke: Mapping[str, Shares]) -> dict[str, Bools]:
    """Model -> at which eps the attack goes on, [eps]."""
    found = {name: levels & (broke[name] > CONVERGED) for name, levels in going.items()}
    if info.adapts:
        any_of_them: Bools = np.any(list(found.values()), axis=0)
        return dict.fromkeys(found, any_of_them)
    return found


def _doublings(most: int) -> Iterator[tuple[int, range]]:
    """The effort as a multiple of the first, and the starts that bring it up to that."""
    effort, stop = 1, 0
    while stop < most:
        start, stop = stop, min(CYCLE * effort, most)
        yield effort, range(start, stop)
        effort *= 2
