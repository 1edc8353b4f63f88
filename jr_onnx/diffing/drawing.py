"""A model as nodes and edges to draw: one number a node over all scopes, edges by number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jr_onnx.comparison.side import Side
from jr_onnx.graph.scopes import Scope
from jr_onnx.graph.structure import used_names
from jr_onnx.sites.matchers import operator_name
from jr_onnx.sites.survey import Site


@dataclass(frozen=True)
class DrawnNode:
    """One node.

    Attributes:
        operator: with its domain where that is not ONNX's own.
        label: its name, or its operator and index.
        scope: the path of the scope.
        before: the numbers of the nodes that it reads from; graph inputs and constants have none.
    """

    operator: str
    label: str
    scope: str
    before: tuple[int, ...]


@dataclass(frozen=True)
class Drawing:
    """All nodes of a model, the main graph's first."""

    nodes: tuple[DrawnNode, ...]
    starts: Mapping[Scope, int] = field(repr=False)

    def numbers(self, site: Site) -> tuple[int, ...]:
        """The numbers of a site's nodes."""
        return tuple(self.starts[site.scope] + index for index in site.nodes)


def drawing_of(side: Side) -> Drawing:
    """All nodes and edges of a model, in and out of the bodies of nodes."""
    starts: dict[Scope, int] = {}
    total = 0
    for scope in side.scopes:
        starts[scope] = total
        total += len(scope.nodes)
    givers: dict[Scope, dict[str, int]] = {
        scope: {name: starts[scope] + i for i, node in enumerate(scope.nodes) for name in node.output if name}
        for scope in side.scopes
    }
    nodes = []
    for scope in side.scopes:
        for index, node in enumerate(scope.nodes):
            found = (_giver(givers, scope, name) for name in used_names(node))
            before = tuple(dict.fromkeys(number for number in found if number is not None))
            nodes.append(DrawnNode(operator_name(node), scope.labels[index], scope.path, before))
    return Drawing(tuple(nodes), starts)


def _giver(givers: Mapping[Scope, Mapping[str, int]], scope: Scope, name: str) -> int | None:
    around: Scope | None = scope
    while around is not None:
        if name in givers[around]:
            return givers[around][name]
        around = around.parent
    return None
