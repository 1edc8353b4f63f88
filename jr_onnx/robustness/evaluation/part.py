"""A piece of a campaign: one attack on one model on one shard of samples, at every eps. What a worker does.

Whether a sample is fooled is decided by onnxruntime on the shipped file, on the perturbation brought back into the ball
and the valid range. NaN or infinity in it, or a gradient that leads nowhere, is a failure of the attack.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jr_onnx.robustness.attacks.attack import run
from jr_onnx.robustness.attacks.target import ATTACKS, AttackOutcome, Effort, Target
from jr_onnx.robustness.dataset import Dataset
from jr_onnx.robustness.evaluation.judge import Judge, Shipped, judge_of
from jr_onnx.robustness.evaluation.workers import sample_seeds

if TYPE_CHECKING:
    from jr_onnx.robustness.gradients.gradients import Gradients


Arrays = Mapping[str, npt.NDArray[Any]]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

#: The attack of a part that only asks for the answers to the clean samples.
CLEAN = ""

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


@dataclass(frozen=True)
class Part:
    """One attack on one model on one shard.

    Attributes:
        model: its name.
        attack: its name, or `CLEAN`.
        starts: the numbers of its starts.
        shard: the indices of the samples in the whole data.
        dataset: these samples alone, with their classes.
        given: [eps, n], the samples that it is given at each eps.
    """

    model: str
    attack: str
    starts: range
    shard: range
    dataset: Dataset = field(repr=False, compare=False)
    given: Bools = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """Tells it from all other parts of a campaign."""
        return f"{self.shard.start} {self.attack} {self.starts.start} {self.model}"


def attack_part(campaign: Campaign, part: Part) -> Arrays:
    """One attack on one shard.

    Returns:
        Of `CLEAN` answers: int64 [n]. Of an attack tried, broke, failed: bool [eps, n], where what was broken at a
        smaller eps is not tried again. noise: float64 [n], the relative noise of an attack that looks for the smallest
        perturbation, NaN where it found none. kept: float32 [k, ...], kept_index, kept_level: int64 [k], the
        perturbations that fooled, of samples below `KEPT`, and the index of the smallest eps at which they did.
    """
    with _alone:
        if part.attack == CLEAN:
            judge = judge_of(campaign.models[part.model])
            return {"answers": judge.answers(part.dataset.batch(slice(None)), part.dataset)}
        return _Attacked(campaign, part).arrays()


class _Attacked:
    """The state of one part while the attack goes from eps to eps."""

    def __init__(self, campaign: Campaign, part: Part) -> None:
        self.campaign, self.part, self.dataset = campaign, part, part.dataset
        if part.dataset.labels is None:
            raise TypeError("samples without classes")
        self.labels = part.dataset.labels
        self.judge = judge_of(campaign.models[part.model])
        self.pixels = part.dataset.batch(slice(None))
        self.tried, self.broke, self.failed = (np.zeros(part.given.shape, np.bool_) for _ in range(3))
        self.noise = np.full(len(self.labels), np.nan)
        self.kept: dict[int, tuple[int, Floats]] = {}  # row -> the level at which it fell, and to what

    def arrays(self) -> Arrays:
        """Run it; the arrays of `attack_part`."""
        smallest = None if ATTACKS[self.part.attack].bounded else self._smallest()
        for level, eps in enumerate(self.campaign.eps):
            rows = np.flatnonzero(self.part.given[level] & ~self.broke[level])
            if not len(rows):
                continue
            if smallest is None:
                outcome = self._run(eps, rows)
                candidates, failed = outcome.images, outcome.failed
            else:
                candidates, failed = smallest.images[rows], smallest.failed[rows]
            self._note(level, rows, *self._judged(candidates, rows, np.float32(eps)), failed)
        kept = sorted(self.kept)
        return {
            "tried": self.tried,
            "broke": self.broke,
            "failed": self.failed,
            "noise": self.noise,
            "kept_index": np.array([self.part.shard[row] for row in kept], np.int64),
            "kept_level": np.array([self.kept[row][0] for row in kept], np.int64),
            "kept": np.stack([self.kept[row][1] for row in kept]) if kept else self.pixels[:0],
        }

    def _note(self, level: int, rows: Indices, candidates: Floats, fooled: Bools, failed: Bools) -> None:
        self.tried[level, rows] = True
        self.failed[level, rows] = failed & ~fooled
        self.broke[level:, rows[fooled]] = True
        for one in np.flatnonzero(fooled):
            if self.part.shard[rows[one]] < KEPT:
                self.kept[int(rows[one])] = level, candidates[one]

    def _smallest(self) -> AttackOutcome:
        """An attack that has no eps runs once, on all that is right: its measure is a mean over all samples."""
        rows = np.flatnonzero(self.part.given.any(axis=0))
        outcome = self._run(float("inf"), rows)
        _, fooled = self._judged(outcome.images, rows, None)
        self.noise[rows[fooled]] = outcome.relative_noise[fooled]
        images, failed = self.pixels.copy(), np.zeros(len(self.labels), np.bool_)
        images[rows], failed[rows] = outcome.images, outcome.failed
        return AttackOutcome(images, failed, self.noise)

    def _run(self, eps: float, rows: Indices) -> AttackOutcome:
        info = ATTACKS[self.part.attack]
        samples = np.array(self.part.shard)[rows]
        seeds = sample_seeds(self.campaign.seed, zlib.crc32(info.name.encode()), samples)
        target = target_of(self.judge, self.dataset, info.needs_gradient and not info.needs_source)
        source = target_of(judge_of(self.campaign.original), self.dataset, True) if info.needs_source else None
        effort, starts = replace(self.campaign.effort, eps=eps), self.part.starts
        pixels, labels = self.pixels[rows], self.labels[rows]
        return run(info.name, target, pixels, labels, list(map(int, seeds)), effort, starts=starts, source=source)

    def _judged(self, candidates: Floats, rows: Indices, eps: np.float32 | None) -> tuple[Floats, Bools]:
        """The candidates as an attacker could send them, and which of them fool the shipped model."""
        pixels = self.pixels[rows]
        finite = np.asarray(np.isfinite(candidates).reshape(len(candidates), -1).all(axis=1))
        sent = np.where(finite.reshape(-1, *(1,) * (pixels.ndim - 1)), candidates, pixels).astype(np.float32)
        if eps is not None:
            sent = np.clip(sent, np.maximum(pixels - eps, 0), np.minimum(pixels + eps, 1))
        answers = self.judge.answers(sent, self.dataset)
        moved = (sent != pixels).reshape(len(sent), -1).any(axis=1)
        return sent, finite & moved & (answers >= 0) & (answers != self.labels[rows])  # -1, for NaN, is no answer


def target_of(judge: Judge, dataset: Dataset, gradient: bool) -> Target:
    return Target(
        gradients=gradients(judge.shipped, dataset.images.shape[1:]) if gradient else None,
        session_run=lambda pixels: judge.scores(pixels, dataset),
        mean=tuple(map(float, dataset.mean)),
        std=tuple(map(float, dataset.std)),
        layout=dataset.layout,
    )


@lru_cache(maxsize=4)
def gradients(shipped: Shipped, shape: tuple[int, ...]) -> Gradients:
    """The gradients of a model, kept for the parts to come.

    Raises:
        RuntimeMissingError: onnx-ad is not installed.
        NoGradientError: the model has an operator without a gradient.
    """
    from jr_onnx.robustness.gradients.gradients import Gradients

    return Gradients(shipped.model, shape)


#: One part at a time in a process, for an executor may have several threads.
_alone = threading.Lock()
