"""What a graph must be before it is worth an edit: every value produced once, before it is used, and not in a circle.

Source: https://github.com/onnx/onnx/blob/main/docs/IR.md (graphs are in single static assignment form and acyclic).
Nodes may stand in any order here: that is against the specification, but onnxruntime sorts them, and their order
survives a conversion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache

import onnx

from jr_onnx.conversion.graph.names import PREFIX, initializer_names, used_names
from jr_onnx.conversion.graph.scopes import Scope, all_scopes, function_name, graphs_in, own_domain, schema_of
from jr_onnx.errors import ModelError
from jr_onnx.text import count

#: How deep functions may call each other, and how many nodes a model may have once every call is written out. Newer
#: versions of onnx refuse more, or take forever; older ones crash.
CALL_DEPTH, UNFOLDED_NODES = 100, 10**6


def check_structure(model: onnx.ModelProto) -> None:
    """Check the main graph, every body in it, and every function.

    Raises:
        ModelError: a name is not text; a value is used but never produced, is produced twice, or depends on itself;
            a node lacks inputs or outputs that ONNX asks for; or a function calls itself, or the functions unfold to
            more than can be handled.
    """
    for name in _names(model):
        if isinstance(name, bytes):
            raise ModelError(f"the name {name!r} is not UTF-8 text; export the model again")
    _check_calls(model)
    _check_graph("", model.graph, ())
    for function in model.functions:
        where = f"function {function.domain}::{function.name}"
        _check_nodes(where, function.node, set(function.input), ())
        _check_outputs(where, function.output, [set(function.input), _outputs(function.node)])
    called = {(own_domain(function.domain), function.name) for function in model.functions}
    for scope in all_scopes(model):
        for index, node in enumerate(scope.nodes):
            if not own_domain(node.domain) and ("", node.op_type) not in called:
                _check_arity(scope, index, node)


def _check_arity(scope: Scope, index: int, node: onnx.NodeProto) -> None:
    inputs, outputs = _least(node.op_type, scope.opset)
    for number, least, what in ((len(node.input), inputs, "input"), (len(node.output), outputs, "output")):
        if number < least:
            text = f"has {count(number, what)} and needs {least}; export the model again"
            raise ModelError(f"node '{scope.path_of(index)}' ({node.op_type}): {text}")


@lru_cache(maxsize=1024)
def _least(op_type: str, opset: int) -> tuple[int, int]:
    """How many inputs and outputs an operator of ONNX has at least; none where it is not known."""
    schema = schema_of("", op_type, opset)
    return (0, 0) if schema is None else (schema.min_input, schema.min_output)


def _names(model: onnx.ModelProto) -> Iterator[str | bytes]:
    """Every name in a model. Protobuf gives what is not UTF-8 as bytes; nothing behind this check expects that."""
    yield from (opset.domain for opset in model.opset_import)
    for entry in model.metadata_props:
        yield entry.key
        if isinstance(entry.key, str) and entry.key.startswith(PREFIX):
            yield entry.value
    yield from _names_in_graph(model.graph)
    for function in model.functions:
        yield from (function.domain, function.name, function.overload, *function.input, *function.output)
        yield from (*function.attribute, *(attribute.name for attribute in function.attribute_proto))
        yield from (opset.domain for opset in function.opset_import)
        yield from (value.name for value in function.value_info)
        yield from _names_in_nodes(function.node)


def _names_in_graph(graph: onnx.GraphProto) -> Iterator[str | bytes]:
    yield from (value.name for values in (graph.input, graph.output, graph.value_info) for value in values)
    yield from initializer_names(graph)
    yield from _names_in_nodes(graph.node)


def _names_in_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[str | bytes]:
    for node in nodes:
        yield from (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output)
        yield from (name for attribute in node.attribute for name in (attribute.name, attribute.ref_attr_name))
        for graph in graphs_in(node):
            yield from _names_in_graph(graph)


def _check_calls(model: onnx.ModelProto) -> None:
    """Check what the functions come to when every call is written out, as onnx and onnxruntime do it."""
    functions = {(own_domain(f.domain), f.name, f.overload): f for f in model.functions}
    if len(functions) < len(model.functions):
        names = Counter(function_name(f.domain, f.name, f.overload) for f in model.functions)
        raise ModelError(f"function {names.most_common(1)[0][0]}: is defined twice; export the model again")
    numbers = {key: index for index, key in enumerate(functions)}
    nodes = [list(_with_bodies(function.node)) for function in functions.values()]
    calls = [[numbers[key] for key in map(_operator, inside) if key in numbers] for inside in nodes]
    order = _in_order(list(map(set, calls)))
    if len(order) < len(nodes):
        stuck = list(functions.values())[_first_missing(order)]
        name = function_name(stuck.domain, stuck.name, stuck.overload)
        raise ModelError(f"function {name}: calls itself, directly or through others; export the model again")
    depths, sizes = [0] * len(nodes), [0] * len(nodes)
    for index in order:
        depths[index] = 1 + max((depths[called] for called in calls[index]), default=0)
        sizes[index] = len(nodes[index]) + sum(sizes[called] for called in calls[index])
    main = list(_with_bodies(model.graph.node))
    called = [numbers[key] for key in map(_operator, main) if key in numbers]
    if max((depths[index] for index in called), default=0) > CALL_DEPTH:
        raise ModelError(f"functions call each other more than {CALL_DEPTH} deep; export the model again")
    if called and len(main) + sum(sizes[index] for index in called) > UNFOLDED_NODES:
        raise ModelError(f"the functions unfold to more than {UNFOLDED_NODES} nodes; export the model again")


def _operator(node: onnx.NodeProto) -> tuple[str, str, str]:
    return (own_domain(node.domain), node.op_type, node.overload)


def _with_bodies(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those in their bodies at any depth."""
    for node in nodes:
        yield node
        for graph in graphs_in(node):
            yield from _with_bodies(graph.node)


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
    order = _in_order(waits)
    if len(order) < len(listed):
        stuck = _first_missing(order)
        raise ModelError(f"{_name(where, listed[stuck], stuck)}: depends on its own output; export the model again")


def _in_order(waits: list[set[int]]) -> list[int]:
    """An order in which each comes after those it waits for (Kahn's algorithm); what is in a circle is left out."""
    followers: list[list[int]] = [[] for _ in waits]
    for index, before in enumerate(waits):
        for predecessor in before:
            followers[predecessor].append(index)
    missing = [len(before) for before in waits]
    order = [index for index, count in enumerate(missing) if not count]
    for index in order:  # which grows meanwhile
        for follower in followers[index]:
            missing[follower] -= 1
            if not missing[follower]:
                order.append(follower)
    return order


def _first_missing(order: list[int]) -> int:
    """The lowest number that an order leaves out."""
    present = set(order)
    return next(index for index in range(len(order) + 1) if index not in present)


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
