"""What a graph must be before it is worth an edit: every value produced once, before it is used, and not in a circle.

Source: https://github.com/onnx/onnx/blob/main/docs/IR.md (graphs are in single static assignment form and acyclic).
Nodes may stand in any order here: that is against the specification, but onnxruntime sorts them, and their order
survives a conversion.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import onnx

from jr_onnx.errors import ModelError
from jr_onnx.graph.scopes import graphs_in


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


def check_structure(model: onnx.ModelProto) -> None:
    """Check the main graph, every body in it, and every function.

    Raises:
        ModelError: a value is used but never produced, is produced twice, or depends on itself.
    """
    _check_graph("", model.graph, ())
    for function in model.functions:
        where = f"function {function.domain}::{function.name}"
        _check_nodes(where, function.node, set(function.input), ())
        _check_outputs(where, function.output, [set(function.input), _outputs(function.node)])


def _check_graph(where: str, graph: onnx.GraphProto, around: tuple[set[str], ...]) -> None:
    given = {value.name for value in graph.input} | set(initializer_names(graph))
    _check_nodes(where, graph.node, given, around)
    _check_outputs(where, (value.name for value in graph.output), [given, _outputs(graph.node), *around])


def _check_nodes(where: str, nodes: Iterable[onnx.NodeProto], given: set[str], around: tuple[set[str], ...]) -> None:
    """Check one list of nodes; `given` are its inputs and initializers, `around` the names of the scopes outside."""
    producer: dict[str, int] = {}
    listed = list(nodes)
    for index, node in enumerate(listed):
        for name in filter(None, node.output):
            if name in producer or name in given:
                raise ModelError(
                    f"{_name(where, node, index)}: value '{name}' is produced twice; export the model again"
                )
            producer[name] = index
    visible = (given, set(producer), *around)
    waits: list[set[int]] = []
    for index, node in enumerate(listed):
        used = set(used_names(node))
        for name in used:
            if not any(name in names for names in visible):
                raise ModelError(
                    f"{_name(where, node, index)}: input '{name}' is produced nowhere; export the model again"
                )
        waits.append({producer[name] for name in used if name in producer})
        for graph in graphs_in(node):
            _check_graph(_name(where, node, index), graph, visible)
    stuck = _first_in_a_cycle(waits)
    if stuck is not None:
        raise ModelError(f"{_name(where, listed[stuck], stuck)}: depends on its own output; export the model again")


def _first_in_a_cycle(waits: list[set[int]]) -> int | None:
    """The first node that cannot be reached by Kahn's algorithm; `waits` holds each node's predecessors."""
    followers: list[list[int]] = [[] for _ in waits]
    for index, before in enumerate(waits):
        for predecessor in before:
            followers[predecessor].append(index)
    missing = [len(before) for before in waits]
    ready = deque(index for index, count in enumerate(missing) if not count)
    while ready:
        for follower in followers[ready.popleft()]:
            missing[follower] -= 1
            if not missing[follower]:
                ready.append(follower)
    return next((index for index, count in enumerate(missing) if count), None)


def _check_outputs(where: str, outputs: Iterable[str], visible: list[set[str]]) -> None:
    for name in outputs:
        if name and not any(name in names for names in visible):
            place = f"{where}: " if where else ""
            raise ModelError(f"{place}output '{name}' is produced nowhere; export the model again")


def _outputs(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    return {name for node in nodes for name in node.output if name}


def _name(where: str, node: onnx.NodeProto, index: int) -> str:
    own = f"node '{node.name}'" if node.name else f"node {index}"
    return f"{where}, {own} ({node.op_type})" if where else f"{own} ({node.op_type})"
