"""Hardened models among many files, each with its original where that stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from jr_onnx.conversion.convert import ENDING
from jr_onnx.conversion.graph.names import DOMAIN
from jr_onnx.conversion.graph.scopes import all_scopes
from jr_onnx.conversion.metadata import hardened_metadata
from jr_onnx.errors import ModelError
from jr_onnx.files.source import open_file

#: (original or None, hardened)
Pair = tuple[Path | None, Path]


def pairs_of(models: Sequence[Path]) -> list[Pair]:
    """A pair for each hardened model; models that are not hardened are left out.

    A model is hardened if its name, its record or a node of it says so: removing one of them must not hide it.
    `NAME.onnx` beside `NAME.jumprelu.onnx` is its original, and stands for it: if only the original is given, the pair
    is checked. A file that cannot be read is taken for hardened; to open it tells why.
    """
    candidates = dict.fromkeys(path for model in models for path in (_beside(model), model) if path is not None)
    return [(_original_of(model), model) for model in candidates if _is_hardened(model)]


def _beside(original: Path) -> Path | None:
    """The hardened model that stands beside an original."""
    if original.name.endswith(ENDING):
        return None
    beside = original.with_name(f"{original.name.removesuffix('.onnx')}{ENDING}")
    return beside if beside.is_file() else None


def _original_of(model: Path) -> Path | None:
    beside = model.with_name(f"{model.name.removesuffix(ENDING)}.onnx")
    return beside if beside != model and beside.is_file() else None


def _is_hardened(model: Path) -> bool:
    if model.name.endswith(ENDING):
        return True
    try:
        with open_file(model) as source:
            return bool(hardened_metadata(source.skeleton)) or uses_jump_relu(source.skeleton)
    except ModelError:
        return True


def uses_jump_relu(model: onnx.ModelProto) -> bool:
    """Whether a node or a function of a model is of the domain of JumpReLU."""
    if any(function.domain == DOMAIN for function in model.functions):
        return True
    return any(node.domain == DOMAIN for scope in all_scopes(model) for node in scope.nodes)
