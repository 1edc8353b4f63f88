"""One of two models that are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from jr_onnx.graph.scopes import Scope, all_scopes
from jr_onnx.sites.survey import Site, survey


@dataclass(frozen=True)
class Side:
    """A model, surveyed.

    A conversion adds and removes no scope but the function jr_onnx::JumpReLU, behind all others, so the same numbers
    mean the same scopes in an original and what came of it; and it keeps the name of what a site gives.

    Attributes:
        model: its skeleton.
        scopes: all its scopes.
        sites: by scope number and output; among them what is no JumpReLU yet.
        numbers: which number a scope has.
    """

    model: onnx.ModelProto = field(repr=False)
    scopes: tuple[Scope, ...] = field(repr=False)
    sites: Mapping[tuple[int, str], Site] = field(repr=False)
    numbers: Mapping[Scope, int] = field(repr=False)


def read_side(model: onnx.ModelProto) -> Side:
    """Survey a model."""
    scopes = tuple(all_scopes(model))
    numbers = {scope: number for number, scope in enumerate(scopes)}
    found = survey(model, scopes, clip=True)
    return Side(model, scopes, {(numbers[site.scope], site.output): site for site in found.sites}, numbers)
