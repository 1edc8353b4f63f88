"""A model read with its sites, and the jump that each has in its file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.conversion.element_types import NUMPY_TYPES, type_name
from jr_onnx.conversion.forms.quantized import QUANTIZED_CHANNELS_LAST, WITH_INTEGER
from jr_onnx.conversion.forms.recognise import step_of, thresholded_of
from jr_onnx.conversion.forms.recurrent import thresholds
from jr_onnx.conversion.forms.table import HARD_SIGMOID
from jr_onnx.conversion.graph.scopes import Scope, all_scopes, attribute_of
from jr_onnx.conversion.graph.wiring import Wiring, constant_value
from jr_onnx.conversion.policy import Jump, jump_text
from jr_onnx.conversion.sites.matchers import SiteKind
from jr_onnx.conversion.sites.survey import Site, survey

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


# --- The jump that a JumpReLU has in its file -------------------------------------------------------------------------


def jump_of(site: Site) -> npt.NDArray[Any] | None:
    """The jump in the element type of the site: of its constant, its attribute, or the default of its input.

    None where the site is no JumpReLU, its jump is not a constant, or its element type is unknown.
    """
    if site.kind is SiteKind.RECURRENT:
        return _threshold(site.scope.nodes[site.nodes[-1]])
    if site.hardened is None:
        return None
    if "jump" in site.hardened.values:
        jump = constant_value(wiring_of(site.scope), site.hardened.values["jump"])
        return jump if jump is None or site.hardened.form not in WITH_INTEGER else _number(site, jump)
    if site.jump_type not in NUMPY_TYPES:
        return None
    if site.hardened.form is HARD_SIGMOID:
        step = step_of(site.scope.nodes[site.nodes[-2]])
        return None if step is None else np.asarray(step, NUMPY_TYPES[site.element_type])
    thresholded = thresholded_of(site.hardened)
    alpha = None if thresholded is None else attribute_of(site.scope.nodes[thresholded], "alpha")
    return np.asarray(alpha.f if alpha is not None else 1.0, NUMPY_TYPES[site.jump_type])


def _number(site: Site, jump: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The jump of a node of ours: of integers what its threshold stands for, one a channel as the site's value has it.

    Those of QuantizedJumpReLU with channels last are along its last axis.
    """
    if site.quantization is None:
        return jump
    numbers = site.quantization.dequantized(jump)
    last = site.hardened is not None and site.hardened.form is QUANTIZED_CHANNELS_LAST
    return numbers.reshape(-1, *(1,) * (len(site.shape or ()) - 2)) if last and numbers.ndim else numbers


def numbers_of(site: Site) -> Jump | None:
    """The same as Python's numbers: one, or one a channel."""
    jump = jump_of(site)
    if jump is None or not jump.size:
        return None
    numbers = tuple(map(float, jump.ravel()))
    return numbers if len(numbers) > 1 else numbers[0]


def text_of_jump(site: Site) -> str | None:
    """The same for people; activations of RNN, GRU and LSTM have it as a float."""
    numbers = numbers_of(site)
    return None if numbers is None else jump_text(numbers, type_name(site.jump_type))


@lru_cache(maxsize=8)  # sites come scope by scope, and each scope's tables take a look at all of its nodes
def wiring_of(scope: Scope) -> Wiring:
    """The edges of a scope and of those around it."""
    return Wiring(scope, None if scope.parent is None else wiring_of(scope.parent))


def _threshold(node: onnx.NodeProto) -> npt.NDArray[Any] | None:
    """The alpha of the first activation that is a JumpReLU; all of a node's have the same one."""
    found = thresholds(node)
    return np.asarray(found[0], np.float32) if found else None
