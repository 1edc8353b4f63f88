"""One model on one shard of samples under all attacks: what a worker does.

The attacks that follow the true gradient come first, at each eps from the smallest to the largest, each on the samples
that those before it left. The attacks that adapt and the black-box ones then get what is left of all. A perturbation
that fools at one eps is a perturbation at each larger one too, so it counts there without another attack.

Whether a sample is fooled is decided by onnxruntime on the shipped file, on the perturbation brought back into the ball
and the valid range. NaN or infinity in it, or a gradient that is zero, is a failure of the attack.
"""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jr_onnx.attacks.attack import AttackOutcome, Effort, Target, run
from jr_onnx.attacks.catalogue import ATTACKS, AttackInfo
from jr_onnx.dataset import Dataset
from jr_onnx.errors import RuntimeMissingError
from jr_onnx.evaluation.shards import Shard, sample_seeds
from jr_onnx.evaluation.shipped import Judge, Shipped, judge_of

if TYPE_CHECKING:
    from jr_onnx.differentiable.model import DifferentiableModel

Arrays = Mapping[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float32]

#: The perturbations of the samples below this index are kept, for the gallery.
KEPT = 32


@dataclass(frozen=True)
class Campaign:
    """What every worker needs.

    Attributes:
        models: name -> model; the first is the original.
        dataset: the samples; without labels a sample's class is the original's answer.
        eps: in pixel units, ascending.
        attacks: names, in the order in which they run.
        effort: of each attack; its eps is not used.
        seed: of all random numbers.
    """

    models: Mapping[str, Shipped]
    dataset: Dataset
    eps: tuple[float, ...]
    attacks: tuple[str, ...]
    effort: Effort
    seed: int

    @property
    def original(self) -> Shipped:
        """The first model."""
        return next(iter(self.models.values()))

    @property
    def needs_gradients(self) -> bool:
        """Whether any attack does."""
        return any(ATTACKS[name].needs_gradient for name in self.attacks)


@dataclass(frozen=True)
class Part:
    """One model on one shard."""

    model: str
    shard: Shard

    @property
    def key(self) -> str:
        """Tells it from all other parts of a campaign."""
        return f"{self.shard.number} {self.model}"


def in_order(attacks: Sequence[str]) -> tuple[str, ...]:
    """Attacks in the order in which they run: the true gradient first, then as in the catalogue; each once."""
    known = list(ATTACKS)
    return tuple(sorted(set(attacks), key=lambda name: (adapts(ATTACKS[name]), known.index(name))))


def adapts(attack: AttackInfo) -> bool:
    """Whether an attack gets around JumpReLU's gradient: by another gradient, or by none."""
    return attack.family != "paper"


def attack_part(campaign: Campaign, part: Part) -> Arrays:
    """Attack one model on one shard.

    Returns:
        correct: bool [n]. by_true, by_all: int16 [eps, n], which attack broke the sample at this eps, as an index into
        `campaign.attacks`; -1 where none did; `by_all` has the attacks that follow the true gradient too. tried, broke,
        failed, left: int32 [eps, attacks]; left counts the samples that are still right after the attack. noise:
        float64 [attacks, n], the relative noise of the attacks that look for the smallest perturbation, NaN where they
        found none. kept_index int64 [k], kept float32 [k, ...]: what fooled at the smallest eps, of samples below
        `KEPT`; labels int64 [n].
    """
    with _one_thread(campaign):
        return _Shard(campaign, part).attacked()


class _Shard:
    """The state of one part while the attacks go over it."""

    def __init__(self, campaign: Campaign, part: Part) -> None:
        self.campaign, self.part = campaign, part
        rows = np.arange(part.shard.start, part.shard.stop)
        self.rows, self.dataset = rows, campaign.dataset
        self.judge = judge_of(campaign.models[part.model])
        self.pixels = self.dataset.batch(rows)
        given = self.dataset.labels
        self.labels = judge_of(campaign.original).answers(self.pixels, self.dataset) if given is None else given[rows]
        self.correct = self.judge.answers(self.pixels, self.dataset) == self.labels
        sizes = len(campaign.eps), len(campaign.attacks)
        self.by = np.full((sizes[0], len(rows)), -1, np.int16)
        self.counts = {name: np.zeros(sizes, np.int32) for name in ("tried", "broke", "failed", "left")}
        self.noise = np.full((sizes[1], len(rows)), np.nan)
        self.kept: dict[int, tuple[int, Floats]] = {}  # the smallest eps at which a sample fell, and to what
        self.smallest: dict[int, tuple[npt.NDArray[np.int64], AttackOutcome]] = {}

    def attacked(self) -> Arrays:
        """Run everything; the arrays of `attack_part`."""
        infos = [ATTACKS[name] for name in self.campaign.attacks]
        for number, info in enumerate(infos):
            if not info.bounded:
                self._find_smallest(number)
        self._stage([number for number, info in enumerate(infos) if not adapts(info)])
        by_true = self.by.copy()
        self._stage([number for number, info in enumerate(infos) if adapts(info)])
        kept = sorted(self.kept)
        return {
            "correct": self.correct,
            "by_true": by_true,
            "by_all": self.by,
            "noise": self.noise,
            "labels": self.labels,
            "kept_index": self.rows[kept],
            "kept": np.stack([self.kept[row][1] for row in kept]) if kept else self.pixels[:0],
            **self.counts,
        }

    def _stage(self, attacks: Sequence[int]) -> None:
        for level, eps in enumerate(self.campaign.eps):
            for attack in attacks:
                survivors = np.flatnonzero(self.correct & (self.by[level] < 0))
                if len(survivors):
                    self._attack(attack, level, eps, survivors)
                self.counts["left"][level, attack] = (self.correct & (self.by[level] < 0)).sum()

    def _attack(self, attack: int, level: int, eps: float, survivors: npt.NDArray[np.int64]) -> None:
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
            later = self.by[level:, row]
            later[later < 0] = attack
            if self.rows[row] < KEPT and (row not in self.kept or level < self.kept[row][0]):
                self.kept[row] = level, candidates[one]

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
        name = self.campaign.attacks[attack]
        info = ATTACKS[name]
        seeds = sample_seeds(self.campaign.seed, zlib.crc32(name.encode()), self.rows[rows])
        target = _target(self.judge, self.dataset, info.needs_gradient)
        source = _target(judge_of(self.campaign.original), self.dataset, True) if info.needs_source else None
        effort = replace(self.campaign.effort, eps=eps)
        pixels, labels = self.pixels[rows], self.labels[rows]
        return run(name, target, pixels, labels, [int(seed) for seed in seeds], effort, source=source)

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
        return sent, finite & moved & (answers != self.labels[rows])


def _column(values: npt.NDArray[np.bool_], rank: int) -> npt.NDArray[np.bool_]:
    return values.reshape(-1, *(1,) * (rank - 1))


def _target(judge: Judge, dataset: Dataset, gradient: bool) -> Target:
    return Target(
        differentiable=differentiable(judge.shipped) if gradient else None,
        session_run=lambda pixels: judge.scores(pixels, dataset),
        mean=tuple(map(float, dataset.mean)),
        std=tuple(map(float, dataset.std)),
        layout=dataset.layout,
    )


@lru_cache(maxsize=4)
def differentiable(shipped: Shipped) -> DifferentiableModel:
    """The differentiable copy of a model, kept for the shards to come.

    Raises:
        RuntimeMissingError: torch is not installed.
        UnsupportedOperatorError: the model has an operator that the copy lacks.
    """
    from jr_onnx.differentiable.model import DifferentiableModel

    return DifferentiableModel.from_onnx(shipped.model)


def import_torch() -> Any:
    """torch, for the attacks that need gradients.

    Raises:
        RuntimeMissingError: it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise RuntimeMissingError(
            'torch is not installed, and gradients need it; pip install "jr-onnx[attack]", or --attacks square'
        ) from error
    return torch


_alone = threading.Lock()


@contextlib.contextmanager
def _one_thread(campaign: Campaign) -> Iterator[None]:
    """Torch in one thread, so that sums come out in the same order everywhere; and one part at a time in a process,
    for a Dask worker may have several threads."""
    with _alone:
        if not campaign.needs_gradients:
            yield
            return
        torch = import_torch()
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
