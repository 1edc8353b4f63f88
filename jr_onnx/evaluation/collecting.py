"""From the arrays of all parts to results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.attacks.catalogue import ATTACKS
from jr_onnx.evaluation.attacking import Arrays, Campaign, adapts
from jr_onnx.evaluation.results import Adversarial, AttackRow, Example, ModelResult, NoiseRow
from jr_onnx.evaluation.shipped import judge_of

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
        rows=tuple(_rows(campaign, parts, len(correct))),
        noise=tuple(_noise_rows(campaign, parts)),
    )


def _joined(parts: Sequence[Arrays], name: str) -> npt.NDArray[Any]:
    return np.concatenate([part[name] for part in parts], axis=-1)


def _rows(campaign: Campaign, parts: Sequence[Arrays], samples: int) -> list[AttackRow]:
    total = {name: np.sum([part[name] for part in parts], axis=0) for name in ("tried", "broke", "failed", "left")}
    rows = []
    for level, eps in enumerate(campaign.eps):
        for number, attack in enumerate(campaign.attacks):
            tried, broke, failed, left = (int(total[name][level, number]) for name in total)
            rows.append(AttackRow(attack, adapts(ATTACKS[attack]), eps, tried, broke, failed, left / samples))
    return rows


def _noise_rows(campaign: Campaign, parts: Sequence[Arrays]) -> list[NoiseRow]:
    correct, noise = _joined(parts, "correct"), _joined(parts, "noise")
    rows = []
    for number, attack in enumerate(campaign.attacks):
        if ATTACKS[attack].bounded:
            continue
        found = noise[number][np.isfinite(noise[number])]
        mean, median = (float(np.mean(found)), float(np.median(found))) if len(found) else (None, None)
        rows.append(NoiseRow(attack, len(found), int(correct.sum()), mean, median))
    return rows


def examples(campaign: Campaign, parts: Mapping[str, Sequence[Arrays]]) -> tuple[Example, ...]:
    """A few samples that models were fooled on, those on which most were first."""
    found: dict[int, list[Adversarial]] = {}
    for name, shards in parts.items():
        by = _joined(shards, "by_all")
        for part in shards:
            for sample, pixels in zip(part["kept_index"].tolist(), part["kept"], strict=True):
                level = int(np.flatnonzero(by[:, sample] >= 0)[0])
                attack = campaign.attacks[by[level, sample]]
                one = Adversarial(name, attack, campaign.eps[level], pixels, _answers(campaign, pixels))
                found.setdefault(sample, []).append(one)
    size = int(np.prod(campaign.dataset.images.shape[1:]))
    most = min(_SHOWN, max(1, _NUMBERS // (size * (1 + len(parts)))))
    chosen = sorted(found, key=lambda sample: (-len(found[sample]), sample))[:most]
    labels = _joined(next(iter(parts.values())), "labels")
    shown = []
    for sample in sorted(chosen):
        pixels = campaign.dataset.batch(slice(sample, sample + 1))[0]
        shown.append(Example(sample, int(labels[sample]), pixels, _answers(campaign, pixels), tuple(found[sample])))
    return tuple(shown)


def _answers(campaign: Campaign, pixels: npt.NDArray[np.float32]) -> dict[str, int]:
    return {
        name: int(judge_of(shipped).answers(pixels[None], campaign.dataset)[0])
        for name, shipped in campaign.models.items()
    }
