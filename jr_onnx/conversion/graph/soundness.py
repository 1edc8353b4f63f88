"""What a graph must be before it is worth an edit: every value produced once, before it is used, and not in a circle.

Source: https://github.com/onnx/onnx/blob/main/docs/IR.md (graphs are in single static assignment form and acyclic).
Nodes may stand in any order here: that is against the specification, but onnxruntime sorts them, and their order
survives a conversion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

import onnx

from jr_onnx.conversion.graph.names import PREFIX, initializer_names, outputs_of, taken_names, used_names
from jr_onnx.conversion.graph.scopes import (
    FunctionKey,
    Scope,
    all_scopes,
    called_by,
    function_name,
    functions_of,
    own_domain,
    schema_of,
)
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
    scopes = tuple(all_scopes(model))
    for name in _names(model, scopes):
        if isinstance(name, bytes):
            raise ModelError(f"the name {name!r} is not UTF-8 text; export the model again")
    functions = functions_of(model)
    _check_calls(model, functions, scopes)
    visible: dict[Scope, tuple[set[str], ...]] = {}
    for scope in scopes:
        visible[scope] = _check_values(scope, visible[scope.parent] if scope.parent is not None else ())
        for index, node in enumerate(scope.nodes):
            if not own_domain(node.domain) and called_by(node) not in functions:
                _check_arity(scope, index, node)


def _check_arity(scope: Scope, index: int, node: onnx.NodeProto) -> None:
    inputs, outputs = _least(node.op_type, scope.opset)
    for number, least, what in ((len(node.input), inputs, "input"), (len(node.output), outputs, "output")):
        if number < least:
            text = f"has {count(number, what)} and needs {least}; export the model again"
            raise ModelError(f"{_name(scope, index)}: {text}")


@lru_cache(maxsize=1024)
def _least(op_type: str, opset: int) -> tuple[int, int]:
    """How many inputs and outputs an operator of ONNX has at least; none where it is not known."""
    schema = schema_of("", op_type, opset)
    return (0, 0) if schema is None else (schema.min_input, schema.min_output)


def _names(model: onnx.ModelProto, scopes: tuple[Scope, ...]) -> Iterator[str | bytes]:
    """Every name in a model. Protobuf gives what is not UTF-8 as bytes; nothing behind this check expects that."""
    yield from taken_names(scopes)
    yield from (opset.domain for holder in (model, *model.functions) for opset in holder.opset_import)
    for entry in model.metadata_props:
        yield entry.key
        if isinstance(entry.key, str) and entry.key.startswith(PREFIX):
            yield entry.value
    for function in model.functions:
        yield from (function.domain, function.name, function.overload, *function.attribute)
        yield from (named.name for named in (*function.attribute_proto, *function.value_info))
    for node in (node for scope in scopes for node in scope.nodes):
        yield from (node.op_type, node.domain, node.overload)
        yield from (name for attribute in node.attribute for name in (attribute.name, attribute.ref_attr_name))


def _check_calls(
    model: onnx.ModelProto, functions: Mapping[FunctionKey, onnx.FunctionProto], scopes: Iterable[Scope]
) -> None:
    """Check what the functions come to when every call is written out, as onnx and onnxruntime do it."""
    if len(functions) < len(model.functions):
        names = Counter(function_name(f.domain, f.name, f.overload) for f in model.functions)
        raise ModelError(f"function {names.most_common(1)[0][0]}: is defined twice; export the model again")
    numbers = {key: index for index, key in enumerate(functions)}
    # The nodes of each function, those in its bodies too; last those of the main graph.
    nodes: list[list[onnx.NodeProto]] = [[] for _ in (*functions, model.graph)]
    for scope in scopes:
        index = scope.outermost.index
        nodes[-1 if index is None else index] += scope.nodes
    *calls, called = [[numbers[key] for key in map(called_by, inside) if key in numbers] for inside in nodes]
    order = _in_order(list(map(set, calls)))
    if len(order) < len(calls):
        stuck = list(functions.values())[_first_missing(order)]
        name = function_name(stuck.domain, stuck.name, stuck.overload)
        raise ModelError(f"function {name}: calls itself, directly or through others; export the model again")
    depths, sizes = [0] * len(calls), [0] * len(calls)
    for index in order:
        depths[index] = 1 + max((depths[called] for called in calls[index]), default=0)
        sizes[index] = len(nodes[index]) + sum(sizes[called] for called in calls[index])
    if max((depths[index] for index in called), default=0) > CALL_DEPTH:
        raise ModelError(f"functions call each other more than {CALL_DEPTH} deep; export the model again")
    if called and len(nodes[-1]) + sum(sizes[index] for index in called) > UNFOLDED_NODES:
        raise ModelError(f"the functions unfold to more than {UNFOLDED_NODES} nodes; export the model again")


def _check_values(scope: Scope, around: tuple[set[str], ...]) -> tuple[set[str], ...]:
    """Check the values of one scope, which may use the names in `around`; they and its own are what it returns."""
    holder = scope.graph or scope.function
    given = {getattr(value, "name", value) for value in holder.input} if holder is not None else set()
    if scope.graph is not None:
        given |= set(initializer_names(scope.graph))
    producer: dict[str, int] = {}
    for index, node in enumerate(scope.nodes):
        for name in filter(None, node.output):
            if name in producer or name in given:
                raise ModelError(f"{_name(scope, index)}: value '{name}' is produced twice; export the model again")
            producer[name] = index
    visible = ({*given, *producer}, *around)
    waits: list[set[int]] = []
    for index, node in enumerate(scope.nodes):
        used = set(used_names(node))
        missing = _missing(used, visible)
        if missing:
            raise ModelError(f"{_name(scope, index)}: input '{missing[0]}' is produced nowhere; export the model again")
        waits.append({producer[name] for name in used if name in producer})
    order = _in_order(waits)
    if len(order) < len(waits):
        where = _name(scope, _first_missing(order))
        raise ModelError(f"{where}: depends on its own output; export the model again")
    missing = _missing(outputs_of(scope) - {""}, visible)
    if missing:
        kind = "function " if scope.function is not None else ""
        place = f"{kind}{scope.path}: " if scope.path else ""
        raise ModelError(f"{place}output '{missing[0]}' is produced nowhere; export the model again")
    return visible


def _missing(names: set[str], visible: tuple[set[str], ...]) -> list[str]:
    # Not by the difference of sets, which may go through all that is visible.
    return sorted(name for name in names if not any(name in known for known in visible))


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


def _name(scope: Scope, index: int) -> str:
    return f"node '{scope.path_of(index)}' ({scope.nodes[index].op_type})"
