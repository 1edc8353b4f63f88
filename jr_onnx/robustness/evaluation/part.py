"""One model on one shard of samples under all attacks: what a worker does.

The attacks that follow the true gradient come first, at each eps from the smallest to the largest, each on the samples
that those before it left. What they leave goes down two arms, neither of which knows of the other: the attacks that
adapt, and as a control the true gradient again, with at least as many starts. What the arms find beyond each other
tells masked gradients from mere effort. The black-box attacks get what is left of all: what they find there counts
with the attacks that adapt, for theirs is the weaker search, and finds little where gradients lead anywhere. A
perturbation that fools at one eps is a perturbation at each larger one too, so it counts there without another attack.

Whether a sample is fooled is decided by onnxruntime on the shipped file, on the perturbation brought back into the ball
and the valid range. NaN or infinity in it, or a gradient that is zero, is a failure of the attack.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jr_onnx.robustness.attacks.attack import run
from jr_onnx.robustness.attacks.target import ATTACKS, AttackInfo, AttackOutcome, Effort, Target
from jr_onnx.robustness.dataset import Dataset
from jr_onnx.robustness.evaluation.judge import Judge, Shipped, judge_of
from jr_onnx.robustness.evaluation.workers import sample_seeds

if TYPE_CHECKING:
    from jr_onnx.robustness.gradients.gradients import Gradients


Arrays = Mapping[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float32]
By = npt.NDArray[np.int16]

#: The control: runs of the true gradient beside the attacks that adapt -> the attack that each one is.
CONTROL: Mapping[str, str] = MappingProxyType({"pgd-control": "pgd", "margin-control": "pgd-margin"})

#: The perturbations of the samples below this index are kept, for the gallery.
KEPT = 32


@dataclass(frozen=True)
class Campaign:
    """What the parts share.

    Attributes:
        models: name -> model; the first is the original.
        eps: in pixel units, ascending.
        attacks: names, in the order in which they run.
        effort: of each attack; its eps is not used.
        seed: of all random numbers.
    """

    models: Mapping[str, Shipped]
    eps: tuple[float, ...]
    attacks: tuple[str, ...]
    effort: Effort
    seed: int

    @property
    def original(self) -> Shipped:
        """The first model."""
        return next(iter(self.models.values()))

    def of(self, model: str) -> Campaign:
        """As the parts of one model need it: without the other models but the original."""
        original, *_ = self.models
        return replace(self, models={name: self.models[name] for name in dict.fromkeys((original, model))})

    @property
    def needs_gradients(self) -> bool:
        """Whether any attack does."""
        return any(ATTACKS[name].needs_gradient for name in self.attacks)

    @property
    def runs(self) -> tuple[str, ...]:
        """The attacks in their order, with the control before those that adapt."""
        true = tuple(name for name in self.attacks if not adapts(name))
        compared = self.adaptive or (true and len(self.attacks) > len(true))
        control = tuple(CONTROL) if compared else ()
        return (*true, *control, *self.attacks[len(true) :])

    @property
    def adaptive(self) -> tuple[str, ...]:
        """The attacks that adapt and follow a gradient: those that the control is for."""
        return tuple(name for name in self.attacks if info_of(name).family == "adaptive")


@dataclass(frozen=True)
class Part:
    """One model on one shard.

    Attributes:
        model: its name.
        shard: the indices of the samples in the whole data.
        dataset: these samples alone; without labels a sample's class is the original's answer.
    """

    model: str
    shard: range
    dataset: Dataset = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """Tells it from all other parts of a campaign."""
        return f"{self.shard.start} {self.model}"


def info_of(run: str) -> AttackInfo:
    """The attack that a run is."""
    return ATTACKS[CONTROL.get(run, run)]


def in_order(attacks: Sequence[str]) -> tuple[str, ...]:
    """Attacks in the order in which they run: the true gradient first, then as in the catalogue; each once."""
    known = list(ATTACKS)
    return tuple(sorted(set(attacks), key=lambda name: (adapts(name), known.index(name))))


def adapts(run: str) -> bool:
    """Whether an attack gets around JumpReLU's gradient: by another gradient, or by none."""
    return info_of(run).family != "paper"


def attack_part(campaign: Campaign, part: Part) -> Arrays:
    """Attack one model on one shard.

    Returns:
        correct: bool [n]. by_true, by_all: int16 [eps, n], which run broke the sample at this eps, as an index into
        `campaign.runs`; -1 where none did; `by_true` has the control, and `by_all` all of `by_true`. control, adaptive:
        bool [eps, n], what these arms broke of what the true gradient left; black-box attacks count in `adaptive`.
        tried, broke, failed, left: int32 [eps, runs]; left counts the samples that no run up to this one broke. noise:
        float64 [runs, n], the relative noise of the attacks that look for the smallest perturbation, NaN where they
        found none. kept_index int64 [k], kept float32 [k, ...]: what fooled at the smallest eps, of samples below
        `KEPT`; labels int64 [n].
    """
    with _alone:
        return _Shard(campaign, part).attacked()


class _Shard:
    """The state of one part while the attacks go over it."""

    def __init__(self, campaign: Campaign, part: Part) -> None:
        self.campaign = campaign
        self.rows, self.dataset = np.array(part.shard), part.dataset
        self.judge = judge_of(campaign.models[part.model])
        self.pixels = self.dataset.batch(slice(None))
        given = self.dataset.labels
        self.labels = judge_of(campaign.original).answers(self.pixels, self.dataset) if given is None else given
        self.correct = self.judge.answers(self.pixels, self.dataset) == self.labels
        sizes = len(campaign.eps), len(campaign.runs)
        self.counts = {name: np.zeros(sizes, np.int32) for name in ("tried", "broke", "failed", "left")}
        self.noise = np.full((sizes[1], len(self.rows)), np.nan)
        self.kept: dict[int, tuple[int, Floats]] = {}  # the smallest eps at which a sample fell, and to what
        self.smallest: dict[int, tuple[npt.NDArray[np.int64], AttackOutcome]] = {}

    def attacked(self) -> Arrays:
        """Run everything; the arrays of `attack_part`."""
        campaign = self.campaign
        for number, name in enumerate(campaign.runs):
            if not info_of(name).bounded:
                self._find_smallest(number)
        none = np.full((len(campaign.eps), len(self.rows)), -1, np.int16)
        black_box = [name for name in campaign.attacks if info_of(name).family == "black-box"]
        base = self._stage([name for name in campaign.attacks if not adapts(name)], none, none)
        true = self._stage([name for name in CONTROL if name in campaign.runs], base, none)
        adaptive = self._stage(campaign.adaptive, base, true)
        by_all = self._stage(black_box, np.where(true < 0, adaptive, true), none)
        kept = sorted(self.kept)
        return {
            "correct": self.correct,
            "by_true": true,
            "by_all": by_all,
            "control": (true >= 0) & (base < 0),
            "adaptive": ((adaptive >= 0) & (base < 0)) | ((by_all >= 0) & (true < 0)),
            "noise": self.noise,
            "labels": self.labels,
            "kept_index": self.rows[kept],
            "kept": np.stack([self.kept[row][1] for row in kept]) if kept else self.pixels[:0],
            **self.counts,
        }

    def _stage(self, runs: Sequence[str], before: By, besides: By) -> By:
        """What broke each sample once these runs had what `before` left; `besides` only counts in what is left."""
        by = before.copy()
        for level, eps in enumerate(self.campaign.eps):
            for number in map(self.campaign.runs.index, runs):
                survivors = np.flatnonzero(self.correct & (by[level] < 0))
                if len(survivors):
                    broken = self._attack(number, level, eps, survivors)
                    later = by[level:, broken]
                    by[level:, broken] = np.where(later < 0, number, later)
                left = self.correct & (by[level] < 0) & (besides[level] < 0)
                self.counts["left"][level, number] = left.sum()
        return by

    def _attack(self, attack: int, level: int, eps: float, survivors: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The samples that an attack breaks."""
        if attack in self.smallest:
            rows, outcome = self.smallest[attack]
            chosen = np.isin(rows, survivors)
            candidates, failed = outcome.images[chosen], outcome.failed[chosen]
        else:
            outcome = self._run(attack, eps, survivors)
            candidates, failed = outcome.images, outcome.failed
        candidates, fooled = self._judged(candidates, survivors, np.float32(eps))
        for name, number in (("tried", len(survivors)), ("broke", fooled.sum()), ("failed", (failed & ~fooled).sum())):
            self.counts[name][level, attack] = number
        for one in np.flatnonzero(fooled):
            row = int(survivors[one])
            if self.rows[row] < KEPT and (row not in self.kept or level < self.kept[row][0]):
                self.kept[row] = level, candidates[one]
        return survivors[fooled]

    def _find_smallest(self, attack: int) -> None:
        """An attack that has no eps runs once, on all that is right: its measure is a mean over all samples."""
        rows = np.flatnonzero(self.correct)
        if not len(rows):
            return
        outcome = self._run(attack, float("inf"), rows)
        _, fooled = self._judged(outcome.images, rows, None)
        self.noise[attack, rows[fooled]] = outcome.relative_noise[fooled]
        self.smallest[attack] = rows, outcome

    def _run(self, attack: int, eps: float, rows: npt.NDArray[np.int64]) -> AttackOutcome:
        name = self.campaign.runs[attack]
        info = info_of(name)
        seeds = sample_seeds(self.campaign.seed, zlib.crc32(name.encode()), self.rows[rows])
        target = _target(self.judge, self.dataset, info.needs_gradient)
        source = _target(judge_of(self.campaign.original), self.dataset, True) if info.needs_source else None
        effort = replace(self.campaign.effort, eps=eps)
        if name in CONTROL:
            # No attack that adapts starts more often with either loss. The first start, the image itself, is for
            # nothing: PGD was there before.
            effort = replace(effort, restarts=1 + effort.restarts * max(1, len(self.campaign.adaptive)))
        pixels, labels = self.pixels[rows], self.labels[rows]
        return run(info.name, target, pixels, labels, [int(seed) for seed in seeds], effort, source=source)

    def _judged(
        self, candidates: Floats, rows: npt.NDArray[np.int64], eps: np.float32 | None
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """The candidates as an attacker could send them, and which of them fool the shipped model."""
        pixels = self.pixels[rows]
        finite = np.asarray(np.isfinite(candidates).reshape(len(candidates), -1).all(axis=1))
        sent = np.where(_column(finite, pixels.ndim), candidates, pixels).astype(np.float32)
        if eps is not None:
            sent = np.clip(sent, np.maximum(pixels - eps, 0), np.minimum(pixels + eps, 1))
        answers = self.judge.answers(sent, self.dataset)
        moved = (sent != pixels).reshape(len(sent), -1).any(axis=1)
        return sent, finite & moved & (answers >= 0) & (answers != self.labels[rows])  # -1, for NaN, is no answer


def _column(values: npt.NDArray[np.bool_], rank: int) -> npt.NDArray[np.bool_]:
    return values.reshape(-1, *(1,) * (rank - 1))


def _target(judge: Judge, dataset: Dataset, gradient: bool) -> Target:
    return Target(
        gradients=gradients(judge.shipped, dataset.images.shape[1:]) if gradient else None,
        session_run=lambda pixels: judge.scores(pixels, dataset),
        mean=tuple(map(float, dataset.mean)),
        std=tuple(map(float, dataset.std)),
        layout=dataset.layout,
    )


@lru_cache(maxsize=4)
def gradients(shipped: Shipped, shape: tuple[int, ...]) -> Gradients:
    """The gradients of a model, kept for the shards to come.

    Raises:
        RuntimeMissingError: onnx-ad is not installed.
        NoGradientError: the model has an operator without a gradient.
    """
    from jr_onnx.robustness.gradients.gradients import Gradients

    return Gradients(shipped.model, shape)


#: One part at a time in a process, for an executor may have several threads.
_alone = threading.Lock()
