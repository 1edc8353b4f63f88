"""The jump that a JumpReLU has in its file."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.element_types import FLOAT, NUMPY_TYPES, type_name
from jr_onnx.forms.recognise import step_of
from jr_onnx.forms.recurrent import thresholds
from jr_onnx.forms.table import HARD_SIGMOID
from jr_onnx.graph.scopes import Scope
from jr_onnx.graph.wiring import Wiring, constant_value
from jr_onnx.policy import Jump
from jr_onnx.sites.matchers import SiteKind, attribute_of
from jr_onnx.sites.survey import Site
from jr_onnx.text import jump_text


def jump_of(site: Site) -> npt.NDArray[Any] | None:
    """The jump in the element type of the site: of its constant, its attribute, or the default of its input.

    None where the site is no JumpReLU, its jump is not a constant, or its element type is unknown.
    """
    if site.kind is SiteKind.RECURRENT:
        return _threshold(site.scope.nodes[site.nodes[-1]])
    if site.hardened is None:
        return None
    if "jump" in site.hardened.values:
        return constant_value(wiring_of(site.scope), site.hardened.values["jump"])
    if site.element_type not in NUMPY_TYPES:
        return None
    if site.hardened.form is HARD_SIGMOID:
        step = step_of(site.scope.nodes[site.nodes[-2]])
        return None if step is None else np.asarray(step, NUMPY_TYPES[site.element_type])
    alpha = attribute_of(site.scope.nodes[site.nodes[-1]], "alpha")
    return np.asarray(alpha.f if alpha is not None else 1.0, NUMPY_TYPES[site.element_type])


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
    element_type = FLOAT if site.kind is SiteKind.RECURRENT else site.element_type
    return None if numbers is None else jump_text(numbers, type_name(element_type))


@lru_cache(maxsize=8)  # sites come scope by scope, and each scope's tables take a look at all of its nodes
def wiring_of(scope: Scope) -> Wiring:
    """The edges of a scope and of those around it."""
    return Wiring(scope, None if scope.parent is None else wiring_of(scope.parent))


def _threshold(node: onnx.NodeProto) -> npt.NDArray[Any] | None:
    """The alpha of the first activation that is a JumpReLU; all of a node's have the same one."""
    found = thresholds(node)
    return np.asarray(found[0], np.float32) if found else None
