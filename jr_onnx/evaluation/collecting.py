"""From the arrays of all parts to results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.evaluation.attacking import Arrays, Campaign, adapts, info_of
from jr_onnx.evaluation.results import Adversarial, AttackRow, Example, ModelResult, NoiseRow
from jr_onnx.evaluation.shipped import judge_of

Floats = npt.NDArray[np.float32]

#: How many samples the gallery shows, and how many numbers of them in all.
_SHOWN, _NUMBERS = 8, 1 << 20


def model_result(name: str, path: Path | None, campaign: Campaign, parts: Sequence[Arrays]) -> ModelResult:
    """One model, all shards."""
    correct = _joined(parts, "correct")
    return ModelResult(
        name=name,
        path=path,
        correct=correct,
        survives_true=correct & (_joined(parts, "by_true") < 0),
        survives=correct & (_joined(parts, "by_all") < 0),
        control=correct & _joined(parts, "control"),
        adaptive=correct & _joined(parts, "adaptive"),
        rows=tuple(_rows(campaign, parts, len(correct))),
        noise=tuple(_noise_rows(campaign, parts)),
    )


def _joined(parts: Sequence[Arrays], name: str) -> npt.NDArray[Any]:
    return np.concatenate([part[name] for part in parts], axis=-1)


def _rows(campaign: Campaign, parts: Sequence[Arrays], samples: int) -> list[AttackRow]:
    total = {name: np.sum([part[name] for part in parts], axis=0) for name in ("tried", "broke", "failed", "left")}
    rows = []
    for level, eps in enumerate(campaign.eps):
        for number, attack in enumerate(campaign.runs):
            tried, broke, failed, left = (int(total[name][level, number]) for name in total)
            rows.append(AttackRow(attack, adapts(attack), eps, tried, broke, failed, left / samples))
    return rows


def _noise_rows(campaign: Campaign, parts: Sequence[Arrays]) -> list[NoiseRow]:
    correct, noise = _joined(parts, "correct"), _joined(parts, "noise")
    rows = []
    for number, attack in enumerate(campaign.runs):
        if info_of(attack).bounded:
            continue
        found = noise[number][np.isfinite(noise[number])]
        mean, median = (float(np.mean(found)), float(np.median(found))) if len(found) else (None, None)
        rows.append(NoiseRow(attack, len(found), int(correct.sum()), mean, median))
    return rows


def examples(campaign: Campaign, parts: Mapping[str, Sequence[Arrays]]) -> tuple[Example, ...]:
    """A few samples that models were fooled on, those on which most were first."""
    found: dict[int, list[tuple[str, str, float, Floats]]] = {}  # sample -> model, attack, eps, pixels
    for name, shards in parts.items():
        by = _joined(shards, "by_all")
        for part in shards:
            for sample, pixels in zip(part["kept_index"].tolist(), part["kept"], strict=True):
                level = int(np.flatnonzero(by[:, sample] >= 0)[0])
                attack = campaign.runs[by[level, sample]]
                found.setdefault(sample, []).append((name, attack, campaign.eps[level], pixels))
    size = int(np.prod(campaign.dataset.images.shape[1:]))
    most = min(_SHOWN, max(1, _NUMBERS // (size * (1 + len(parts)))))
    chosen = sorted(sorted(found, key=lambda sample: (-len(found[sample]), sample))[:most])
    clean = {sample: campaign.dataset.batch(slice(sample, sample + 1))[0] for sample in chosen}
    answers = _answers(campaign, [one for sample in chosen for one in (clean[sample], *(a[3] for a in found[sample]))])
    labels = _joined(next(iter(parts.values())), "labels")
    shown = []
    for sample in chosen:
        own = next(answers)
        fooled = tuple(Adversarial(*one, next(answers)) for one in found[sample])
        shown.append(Example(sample, int(labels[sample]), clean[sample], own, fooled))
    return tuple(shown)


def _answers(campaign: Campaign, pixels: Sequence[Floats]) -> Iterator[dict[str, int]]:
    """What each model says to each sample; one model after the other, for few are open at a time."""
    if not pixels:
        return
    said = {
        name: judge_of(shipped).answers(np.stack(pixels), campaign.dataset).tolist()
        for name, shipped in campaign.models.items()
    }
    for one in range(len(pixels)):
        yield {name: answers[one] for name, answers in said.items()}
