"""Hardened models among many files, each with its original where that stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jr_onnx.conversion import ENDING
from jr_onnx.metadata import SOURCE, hardened_metadata
from jr_onnx.modelfile.source import open_file


def pairs_of(models: Sequence[Path]) -> list[tuple[Path | None, Path]]:
    """(original or None, hardened) for each hardened model; models that are not hardened are left out.

    `NAME.onnx` beside `NAME.jumprelu.onnx` is taken for the original if it has the structure that the hardened file
    records.

    Raises:
        ModelError: a file cannot be read.
    """
    pairs: list[tuple[Path | None, Path]] = []
    for model in models:
        with open_file(model) as source:
            recorded = hardened_metadata(source.skeleton)
        if recorded:
            pairs.append((_original_of(model, recorded.get(SOURCE)), model))
    return pairs


def _original_of(model: Path, digest: str | None) -> Path | None:
    beside = model.with_name(f"{model.name.removesuffix(ENDING)}.onnx")
    if beside == model or not beside.is_file():
        return None
    with open_file(beside) as source:
        return beside if source.digest == digest else None
