"""The original form of a hardened model: Relu in place of JumpReLU, each named so that it is found again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from jr_onnx.element_types import NUMPY_TYPES
from jr_onnx.forms.write import NewNode
from jr_onnx.graph.scopes import all_scopes, own_domain
from jr_onnx.graph.wiring import Wiring
from jr_onnx.lowering.edits import ModelEdit
from jr_onnx.marks import PREFIX
from jr_onnx.modelfile.rewrite import rewrite
from jr_onnx.modelfile.source import Source
from jr_onnx.modelfile.splice import join
from jr_onnx.sites.jumps import jump_of, wiring_of
from jr_onnx.sites.matchers import MATCHERS, Found, SiteKind, operator_name
from jr_onnx.sites.survey import Site, survey

#: What the name of a recovered node begins with; its number follows.
TAG = f"{PREFIX}site."


@dataclass(frozen=True)
class Recovered:
    """One JumpReLU that can be a Relu for a while.

    Attributes:
        tag: the name of the node that stands there meanwhile.
        site: where it is in the hardened model.
        jump: its jump, a scalar of its element type.
    """

    tag: str
    site: Site
    jump: npt.NDArray[Any]


def recoverable(source: Source) -> tuple[tuple[Recovered, ...], dict[str, str]]:
    """The sites of a hardened model that can be recovered, and why the others (by path) cannot.

    One jump a channel does not fit the blocked layout, in which there is no axis of channels; a jump that is an input
    is no constant; and what is inside of a local function gets other names when the function is inlined.
    """
    model = source.skeleton
    scopes = tuple(all_scopes(model))
    hardened = [site for site in survey(model, scopes, clip=False).sites if site.hardened is not None]
    inputs = {value.name for value in model.graph.input}
    found: list[Recovered] = []
    reasons: dict[str, str] = {}
    for number, site in enumerate(hardened):
        jump = jump_of(site)
        if jump is None or _from_input(site, inputs):
            reasons[site.path] = "its jump is no constant"
        elif jump.size != 1:
            reasons[site.path] = "it has one jump a channel"
        elif site.element_type not in NUMPY_TYPES:
            reasons[site.path] = "its element type is not known"
        elif site.scope.outermost.function is not None:
            reasons[site.path] = "it is in a local function"
        else:
            found.append(Recovered(f"{TAG}{number}", site, jump.reshape(())))
    return tuple(found), reasons


def _from_input(site: Site, inputs: Collection[str]) -> bool:
    """Whether the jump is a graph input, or a Cast of one."""
    name = site.hardened.values.get("jump", "") if site.hardened else ""
    home = wiring_of(site.scope).home(name)
    produced = home.producer(name) if home is not None else None
    names = {name} if produced is None else set(produced[1].input)
    return home is not None and home.outer is None and bool(names & set(inputs))


def original_of(source: Source, sites: Collection[Recovered]) -> bytes:
    """The model with a Relu at each of the sites, or with what was rectified before already: a Clip, a fused Relu."""
    edit = ModelEdit()
    for one in sites:
        site, replaced = one.site, edit.at(one.site.scope).replaced
        replaced.update(dict.fromkeys(site.nodes, ()))
        before = _rectifier(site)
        if before is None:
            replaced[site.nodes[-1]] = (NewNode("Relu", (site.input,), (site.output,), name=one.tag),)
            continue
        node = site.scope.nodes[before]
        outputs = tuple(site.output if name == site.input else name for name in node.output)
        replaced[before] = (NewNode(node.op_type, tuple(node.input), outputs, node.domain, one.tag, {}, before),)
    edit.metadata = {}
    return join(source.buffer, rewrite(source, edit))


def _rectifier(site: Site) -> int | None:
    """The node before a site that is never negative, and that only this site takes."""
    wiring = wiring_of(site.scope)
    produced = wiring.producer(site.input)
    if produced is None or set(wiring.consumers[site.input]) - set(site.nodes):
        return None
    matcher = MATCHERS.get((produced[1].domain, produced[1].op_type))
    found = matcher(wiring, produced[0]) if matcher else None
    rectifies = isinstance(found, Found) and (found.kind.stays or found.kind is SiteKind.RELU)
    return produced[0] if rectifies and produced[1].op_type != "Max" else None  # what is a Relu has one input


#: What onnxruntime folds into a convolution between it and its Relu.
_FOLDED = frozenset({"Add", "Sum", "Sub", "Mul", "Div", "BatchNormalization", "Identity"})


def ways_to_sites(source: Source) -> dict[str, str]:
    """Value -> the tag of the recovered node that rectifies it first, through what onnxruntime folds into a Conv.

    A value leads there if all that takes it leads there, one after the other. Every value of the model has an entry:
    it is empty where a rectifier that stays as it is comes first, where there is none, and for a name that several
    scopes have with different ends.
    """
    ways: dict[str, set[str]] = {}
    for scope in all_scopes(source.skeleton):
        wiring = wiring_of(scope)
        for node in scope.nodes:
            for name in node.output:
                ways.setdefault(name, set()).add(_rectified_by(wiring, name))
    return {name: tags.copy().pop() if len(tags) == 1 else "" for name, tags in ways.items()}


def _rectified_by(wiring: Wiring, name: str) -> str:
    producer = wiring.producer(name)
    while producer is None or not _rectifies(wiring, producer[0]):
        takers = wiring.consumers[name]
        if len(takers) != 1 or takers[0] < 0:
            return ""
        node = wiring.scope.nodes[takers[0]]
        if not _rectifies(wiring, takers[0]) and (operator_name(node) not in _FOLDED or len(node.output) != 1):
            return ""
        name, producer = node.output[0], (takers[0], node)
    return str(producer[1].name) if producer[1].name.startswith(TAG) else ""


def _rectifies(wiring: Wiring, index: int) -> bool:
    node = wiring.scope.nodes[index]
    matcher = MATCHERS.get((own_domain(node.domain), node.op_type))
    found = matcher(wiring, index) if matcher is not None else None
    return node.name.startswith(TAG) or isinstance(found, Found | str)
