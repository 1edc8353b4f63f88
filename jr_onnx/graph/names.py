"""Names that are not taken yet, anywhere in a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from jr_onnx.graph.scopes import Scope
from jr_onnx.graph.structure import initializer_names, used_names


def taken_names(scopes: Iterable[Scope], without: Collection[tuple[Scope, int]] = ()) -> set[str]:
    """Every name of a value or a node in the scopes; `without` are nodes that go."""
    taken: set[str] = set()
    for scope in scopes:
        if scope.graph is not None:
            taken.update(initializer_names(scope.graph))
            taken.update(v.name for v in (*scope.graph.input, *scope.graph.output, *scope.graph.value_info))
        if scope.function is not None:
            taken.update((*scope.function.input, *scope.function.output))
        for index, node in enumerate(scope.nodes):
            if not without or (scope, index) not in without:
                taken.update((node.name, *used_names(node), *node.output))
    return taken


class Namer:
    """Gives out names, each once."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._last: dict[str, int] = {}

    def fresh(self, wanted: str) -> str:
        """The wanted name, or with _1, _2, ... where it is taken."""
        name, number = wanted, self._last.get(wanted, 0)
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._last[wanted] = number
        self._taken.add(name)
        return name
