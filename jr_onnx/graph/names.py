"""Names that are not taken yet, anywhere in a model."""

from __future__ import annotations

from collections.abc import Iterable

from jr_onnx.graph.scopes import Scope
from jr_onnx.graph.structure import defined_names, used_names


def taken_names(scopes: Iterable[Scope]) -> set[str]:
    """Every name of a value or a node in the scopes."""
    taken: set[str] = set()
    for scope in scopes:
        if scope.graph is not None:
            taken.update(defined_names(scope.graph))
            taken.update(value.name for value in scope.graph.output)
        if scope.function is not None:
            taken.update((*scope.function.input, *scope.function.output))
        for node in scope.nodes:
            taken.update((node.name, *used_names(node), *node.output))
    return taken


class Namer:
    """Gives out names, each once."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken

    def fresh(self, wanted: str) -> str:
        """The wanted name, or with _1, _2, ... where it is taken."""
        name, number = wanted, 0
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name
