"""The names of a graph: which are used, defined and free, and the marks by which jr-onnx knows its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import onnx

from jr_onnx.conversion.graph.scopes import Scope, graphs_in


def used_names(node: onnx.NodeProto) -> Iterator[str]:
    """The values that a node takes: its inputs, and what the graphs in its attributes take from outside."""
    yield from filter(None, node.input)
    for graph in graphs_in(node):
        yield from _captured(graph)


def _captured(graph: onnx.GraphProto) -> Iterator[str]:
    inside = set(defined_names(graph))
    for node in graph.node:
        yield from (name for name in used_names(node) if name not in inside)
    yield from (value.name for value in graph.output if value.name not in inside)


def defined_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Every name that a graph gives to a value: inputs, initializers, and outputs of its nodes."""
    yield from (value.name for value in graph.input)
    yield from initializer_names(graph)
    for node in graph.node:
        yield from filter(None, node.output)


def initializer_names(graph: onnx.GraphProto) -> Iterator[str]:
    """The names of a graph's initializers, dense and sparse."""
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)


def outputs_of(scope: Scope) -> set[str]:
    """The values that a graph or a function gives to the outside."""
    if scope.graph is not None:
        return {value.name for value in scope.graph.output}
    return set(scope.function.output) if scope.function is not None else set()


#: The domain of the JumpReLU operator, and of the function of the same name; its version is 1.
DOMAIN = "jr_onnx"


DOMAIN_VERSION = 1


OP_TYPE = "JumpReLU"


#: JumpReLU of integers that stand for numbers.
QUANTIZED_OP_TYPE = "QuantizedJumpReLU"

#: JumpReLU of a sum in one pass; what `jr-onnx optimize --provider cuda` writes.
ADD_OP_TYPE = "AddJumpReLU"


def own_operator(domain: str, name: str) -> str:
    """Which of the operators above a function is, or a node that calls it; empty for none.

    onnx.compose.add_prefix puts a prefix before the name.
    """
    known = (ADD_OP_TYPE, QUANTIZED_OP_TYPE, OP_TYPE) if domain == DOMAIN else ()
    return next((op_type for op_type in known if name.endswith(op_type)), "")


#: Every key and every value's name that jr-onnx makes up begins with this.
PREFIX = "jr_onnx."

#: On the last node of a form that consists of ONNX's own operators: the form's name. Without it a ThresholdedRelu is
#: the model's own.
FORM = f"{PREFIX}form"

#: On RNN, GRU and LSTM: which activations were a Relu, as "0" or "0,2".
ACTIVATIONS = f"{PREFIX}activations"


def mark_of(node: onnx.NodeProto, key: str) -> str | None:
    """The value of a mark; None where the node does not have it."""
    return next((str(entry.value) for entry in node.metadata_props if entry.key == key), None)


def set_marks(node: onnx.NodeProto, marks: dict[str, str]) -> None:
    """Put marks in the place of those that the node has."""
    kept = [entry for entry in node.metadata_props if not str(entry.key).startswith(PREFIX)]
    del node.metadata_props[:]
    node.metadata_props.extend(kept)
    node.metadata_props.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in marks.items())


# --- Names that are not taken yet, anywhere in a model ----------------------------------------------------------------


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
