"""One of two models that are compared."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import onnx

from jr_onnx.graph.scopes import Scope, all_scopes
from jr_onnx.sites.jumps import jump_of
from jr_onnx.sites.matchers import SiteKind
from jr_onnx.sites.survey import Site, survey

#: The name of the function that a scope lies in (empty for the main graph), and its number in there.
ScopeKey = tuple[str, int]
SiteKey = tuple[ScopeKey, str]


@dataclass(frozen=True)
class Side:
    """A model, surveyed.

    A conversion adds and removes no scope but the function jr_onnx::JumpReLU, so the same keys mean the same scopes in
    an original and what came of it; and it keeps the name of what a site gives.

    Attributes:
        model: its skeleton.
        scopes: all its scopes.
        sites: by the key of the scope and the output; among them what is no JumpReLU yet.
        keys: the key of each scope.
    """

    model: onnx.ModelProto = field(repr=False)
    scopes: tuple[Scope, ...] = field(repr=False)
    sites: Mapping[SiteKey, Site] = field(repr=False)
    keys: Mapping[Scope, ScopeKey] = field(repr=False)

    @cached_property
    def sites_in(self) -> Mapping[Scope, list[tuple[SiteKey, Site]]]:
        """The sites of each scope, with their keys."""
        sites: dict[Scope, list[tuple[SiteKey, Site]]] = defaultdict(list)
        for key, site in self.sites.items():
            sites[site.scope].append((key, site))
        return sites


def jump_relus(side: Side) -> tuple[Site, ...]:
    """The sites that are JumpReLU, in the activations of RNN, GRU and LSTM too."""
    sites = side.sites.values()
    return tuple(site for site in sites if site.kind is SiteKind.HARDENED or jump_of(site) is not None)


def read_side(model: onnx.ModelProto) -> Side:
    """Survey a model."""
    scopes = tuple(all_scopes(model))
    counts: Counter[str] = Counter()
    keys: dict[Scope, ScopeKey] = {}
    for scope in scopes:
        name = scope.outermost.path
        keys[scope] = name, counts[name]
        counts[name] += 1
    found = survey(model, scopes, clip=True)
    return Side(model, scopes, {(keys[site.scope], site.output): site for site in found.sites}, keys)
