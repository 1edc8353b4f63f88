"""What a campaign found, per sample, so that models can be compared in pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jr_onnx.robustness.attacks.target import ATTACKS
from jr_onnx.robustness.dataset import Dataset
from jr_onnx.robustness.evaluation.judge import judge_of
from jr_onnx.robustness.evaluation.part import Campaign
from jr_onnx.robustness.evaluation.rounds import CONTROL_EFFORT, CONVERGED, Attacked

if TYPE_CHECKING:
    from jr_onnx.robustness.evaluation.verdict import Verdict

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AttackRow:
    """One attack on one model at one eps, on the samples that the attacks before it left.

    Attributes:
        attack: its name in the catalogue.
        adapts: whether it knows of JumpReLU, or needs no gradient: not the plain gradient of the model.
        eps: in pixel units.
        tried: samples that it was run on.
        broke: samples whose class onnxruntime changed on the shipped file.
        failed: samples for which its gradient was NaN, infinite or zero, so that it had nowhere to go: a failure of
            the attack, never a success.
        accuracy: share of all samples that are still right after it and all before it.
    """

    attack: str
    adapts: bool
    eps: float
    tried: int
    broke: int
    failed: int
    accuracy: float


@dataclass(frozen=True)
class NoiseRow:
    """An attack that looks for the smallest perturbation, on the samples that the model has right.

    Attributes:
        attack: its name in the catalogue.
        fooled: samples for which it found one.
        tried: samples that it was run on.
        mean, median: of ||perturbation|| / ||input|| over the fooled ones, both as the model takes them (the paper's
            measure, in the norm of the attack); None where none was fooled.
    """

    attack: str
    fooled: int
    tried: int
    mean: float | None
    median: float | None


@dataclass(frozen=True)
class Doubling:
    """What is left of a model at a multiple of the effort.

    Attributes:
        effort: 1 for the effort that was asked for, 2 for twice as much, and so on.
        survivors: share of all samples that are still right under all attacks.
    """

    effort: int
    survivors: float


@dataclass(frozen=True)
class ModelResult:
    """One model under all attacks.

    Attributes:
        name: the key under which it was given.
        path: its file; None for a model in memory.
        correct: whether the clean sample is classified as labelled, [samples].
        survives_true: whether it still is under the attacks that follow the true gradient, [eps, samples].
        survives: whether it still is under all attacks: the worst case, [eps, samples].
        control, adaptive: what the attacks that follow the true gradient broke, and what those did that adapt or need
            no gradient with the same effort, [eps, samples].
        rows: the attacks in the order in which they ran.
        noise: the attacks that look for the smallest perturbation.
        convergence: at each eps, what was left while the effort doubled, from the effort that was asked for; empty
            where it was not doubled.
    """

    name: str
    path: Path | None
    correct: Bools = field(repr=False)
    survives_true: Bools = field(repr=False)
    survives: Bools = field(repr=False)
    control: Bools = field(repr=False)
    adaptive: Bools = field(repr=False)
    rows: tuple[AttackRow, ...] = field(repr=False)
    noise: tuple[NoiseRow, ...] = field(repr=False)
    convergence: tuple[tuple[Doubling, ...], ...] = field(default=(), repr=False)

    @property
    def clean_accuracy(self) -> float:
        """Share of the samples that are right without an attack."""
        return float(self.correct.mean())

    def accuracy(self, eps: int, *, adaptive: bool = True) -> float:
        """Share of the samples that stay right at the eps of this index.

        Args:
            adaptive: False counts the attacks that follow the true gradient only.
        """
        return float((self.survives if adaptive else self.survives_true)[eps].mean())

    def converged(self, eps: int) -> bool:
        """Whether doubling the effort broke hardly anything more, at the eps of this index; or nothing is left."""
        curve = self.convergence[eps] if self.convergence else ()
        settled = len(curve) > 1 and curve[-2].survivors - curve[-1].survivors <= CONVERGED + 1e-9
        return settled or not self.survives[eps].any()

    def to_dict(self) -> dict[str, Any]:
        """Counts and shares, in types that JSON has."""
        return {
            "name": self.name,
            "path": None if self.path is None else str(self.path),
            "clean_accuracy": self.clean_accuracy,
            "true_gradient_accuracy": [self.accuracy(eps, adaptive=False) for eps in range(len(self.survives))],
            "worst_case_accuracy": [self.accuracy(eps) for eps in range(len(self.survives))],
            "broken_by_control": self.control.mean(axis=1).tolist(),
            "broken_by_adaptive": self.adaptive.mean(axis=1).tolist(),
            "attacks": [vars(row) for row in self.rows],
            "smallest_perturbations": [vars(row) for row in self.noise],
            "convergence": [[vars(one) for one in curve] for curve in self.convergence],
            "converged": [self.converged(eps) for eps in range(len(self.survives))],
        }


@dataclass(frozen=True)
class Adversarial:
    """A perturbed sample.

    Attributes:
        against: the model that it was made to fool.
        attack: that made it.
        eps: of the attack, the smallest at which one succeeded.
        pixels: in [0, 1], in the data's own layout without the batch axis.
        answers: model -> its class for these pixels.
    """

    against: str
    attack: str
    eps: float
    pixels: Floats = field(repr=False)
    answers: Mapping[str, int]


@dataclass(frozen=True)
class Example:
    """One sample as the gallery shows it.

    Attributes:
        sample: its index in the data.
        label: its class.
        pixels: in [0, 1], in the data's own layout without the batch axis.
        answers: model -> its class for these pixels.
        adversarials: for each model that was fooled.
    """

    sample: int
    label: int
    pixels: Floats = field(repr=False)
    answers: Mapping[str, int]
    adversarials: tuple[Adversarial, ...]


@dataclass(frozen=True)
class ZeroedLayer:
    """What JumpReLU does to one layer: the share of its positive inputs that it makes zero."""

    layer: str
    jump: str
    share: float


@dataclass(frozen=True)
class EvaluationReport:
    """The result of `run_campaign` and `evaluate`.

    Attributes:
        models: name -> result; the first is the one that the others are compared with.
        eps: in pixel units ([0, 1]), ascending.
        samples: how many; every share is of these.
        attacks: names, in the order in which they ran.
        settings: steps, restarts, queries, seed, and the versions that the numbers depend on.
        verdicts: name -> verdict, for every model but the first.
        zeroed: name -> what JumpReLU does to each layer, where it was measured.
        examples: a few samples with their perturbations.
        seconds: wall time, without what came out of a journal.
    """

    models: Mapping[str, ModelResult]
    eps: tuple[float, ...]
    samples: int
    attacks: tuple[str, ...]
    settings: Mapping[str, Any]
    verdicts: Mapping[str, Verdict]
    zeroed: Mapping[str, tuple[ZeroedLayer, ...]]
    examples: tuple[Example, ...] = field(repr=False)
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Everything but pictures and single samples, in types that JSON has."""
        return {
            "samples": self.samples,
            "eps": list(self.eps),
            "attacks": list(self.attacks),
            "settings": dict(self.settings),
            "models": [model.to_dict() for model in self.models.values()],
            "verdicts": {name: verdict.to_dict() for name, verdict in self.verdicts.items()},
            "activations_zeroed": {name: [vars(layer) for layer in layers] for name, layers in self.zeroed.items()},
            "seconds": self.seconds,
        }


# --- From the arrays of all parts to results --------------------------------------------------------------------------

#: How many samples the gallery shows, and how many numbers of them in all.
_SHOWN, _NUMBERS = 8, 1 << 20


def model_result(name: str, path: Path | None, eps: Sequence[float], attacked: Attacked) -> ModelResult:
    """One model, all samples."""
    true = attacked.survives(attack for attack in attacked.by if not ATTACKS[attack].adapts)
    adapting = [attack for attack in attacked.by if ATTACKS[attack].adapts]
    return ModelResult(
        name=name,
        path=path,
        correct=attacked.correct,
        survives_true=true,
        survives=attacked.survives(),
        control=attacked.correct & ~true,
        adaptive=attacked.correct & ~attacked.survives(adapting, CONTROL_EFFORT),
        rows=tuple(_rows(eps, attacked)),
        noise=tuple(_noise_rows(attacked)),
        convergence=tuple(tuple(Doubling(*one) for one in curve) for curve in attacked.left),
    )


def _rows(eps: Sequence[float], attacked: Attacked) -> Iterator[AttackRow]:
    names = list(attacked.by)
    left = [attacked.survives(names[: number + 1]).mean(axis=1) for number in range(len(names))]
    for level, one in enumerate(eps):
        for (name, found), shares in zip(attacked.by.items(), left, strict=True):
            at = (found.tried, found.broke & found.tried, found.failed)
            tried, broke, failed = (int(values[level].sum()) for values in at)
            yield AttackRow(name, ATTACKS[name].adapts, one, tried, broke, failed, float(shares[level]))


def _noise_rows(attacked: Attacked) -> Iterator[NoiseRow]:
    for name, found in attacked.by.items():
        if not ATTACKS[name].bounded:
            noise = found.noise[np.isfinite(found.noise)]
            mean, median = (float(np.mean(noise)), float(np.median(noise))) if len(noise) else (None, None)
            yield NoiseRow(name, len(noise), int(attacked.correct.sum()), mean, median)


def examples(campaign: Campaign, dataset: Dataset, attacked: Mapping[str, Attacked]) -> tuple[Example, ...]:
    """A few samples that models were fooled on, those on which most were first."""
    found: dict[int, list[tuple[str, str, float, Floats]]] = {}  # sample -> model, attack, eps, pixels
    for name, one in attacked.items():
        for sample, (level, attack, pixels) in one.kept.items():
            found.setdefault(sample, []).append((name, attack, campaign.eps[level], pixels))
    size = int(np.prod(dataset.images.shape[1:]))
    most = min(_SHOWN, max(1, _NUMBERS // (size * (1 + len(attacked)))))
    chosen = sorted(sorted(found, key=lambda sample: (-len(found[sample]), sample))[:most])
    clean = {sample: dataset.batch(slice(sample, sample + 1))[0] for sample in chosen}
    pictures = [one for sample in chosen for one in (clean[sample], *(one[3] for one in found[sample]))]
    answers = _answers(campaign, dataset, pictures)
    if dataset.labels is None:
        raise TypeError("samples without classes")
    shown = []
    for sample in chosen:
        own = next(answers)
        fooled = tuple(Adversarial(*one, next(answers)) for one in found[sample])
        shown.append(Example(sample, int(dataset.labels[sample]), clean[sample], own, fooled))
    return tuple(shown)


def _answers(campaign: Campaign, dataset: Dataset, pixels: Sequence[Floats]) -> Iterator[dict[str, int]]:
    """What each model says to each sample; one model after the other, for few are open at a time."""
    if not pixels:
        return
    said = {
        name: judge_of(shipped).answers(np.stack(pixels), dataset).tolist() for name, shipped in campaign.models.items()
    }
    for one in range(len(pixels)):
        yield {name: answers[one] for name, answers in said.items()}
