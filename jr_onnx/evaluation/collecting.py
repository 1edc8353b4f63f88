"""From the arrays of all parts to results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.attacks.catalogue import ATTACKS
from jr_onnx.evaluation.attacking import Arrays, Campaign, adapts
from jr_onnx.evaluation.results import AttackRow, Example, ModelResult, NoiseRow

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
    """A few samples that at least one model was fooled on."""
    kept: dict[str, dict[int, tuple[npt.NDArray[np.float32], int]]] = {}
    for name, shards in parts.items():
        kept[name] = {
            int(index): (pixels, int(answer))
            for part in shards
            for index, pixels, answer in zip(part["kept_index"], part["kept"], part["kept_answer"], strict=True)
        }
    size = int(np.prod(campaign.dataset.images.shape[1:]))
    most = min(_SHOWN, max(1, _NUMBERS // (size * (1 + len(parts)))))
    fooled = sorted({sample for one in kept.values() for sample in one})
    return tuple(_example(campaign, parts, kept, sample) for sample in fooled[:most])


def _example(
    campaign: Campaign,
    parts: Mapping[str, Sequence[Arrays]],
    kept: Mapping[str, Mapping[int, tuple[npt.NDArray[np.float32], int]]],
    sample: int,
) -> Example:
    by = {name: _joined(shards, "by_all")[:, sample] for name, shards in parts.items()}
    levels = {name: int(np.flatnonzero(by[name] >= 0)[0]) for name in parts if sample in kept[name]}
    level = min(levels.values())
    shown = [name for name, one in levels.items() if one == level]
    clean = {name: int(_joined(shards, "answers")[sample]) for name, shards in parts.items()}
    first = next(iter(parts.values()))
    return Example(
        sample=sample,
        label=int(_joined(first, "labels")[sample]),
        eps=campaign.eps[level],
        original=campaign.dataset.batch(slice(sample, sample + 1))[0],
        adversarial={name: kept[name][sample][0] for name in shown},
        answers={name: (clean[name], kept[name][sample][1] if name in shown else clean[name]) for name in parts},
        attacks={name: campaign.attacks[by[name][level]] for name in shown},
    )
