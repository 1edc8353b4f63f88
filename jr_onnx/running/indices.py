"""Which inputs of a model become integers on their way: an index, a size, a number of steps.

A Gather at index 10,000, or a tensor of that size, says nothing of a JumpReLU: such inputs are fed small numbers only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import onnx

from jr_onnx.graph.scopes import graphs_in, own_domain
from jr_onnx.graph.structure import used_names

_INTEGERS = frozenset(
    onnx.TensorProto.DataType.Value(f"{sign}INT{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)
)

#: What these give is within bounds, whatever they take: places in a tensor, its shape, true or false.
_BOUNDED = frozenset({"Shape", "Size", "ArgMax", "ArgMin", "NonZero", "NonMaxSuppression"}) | frozenset(
    {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsNaN", "IsInf", "Not", "And", "Or", "Xor"}
)


def becoming_integers(model: onnx.ModelProto) -> frozenset[str]:
    """The names of the graph inputs, of any type, from which a Cast to integers can be reached."""
    functions = {(own_domain(one.domain), one.name): one for one in model.functions}
    takers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in used_names(node):
            takers[name].append(node)
    return frozenset(value.name for value in model.graph.input if _reaches_cast(value.name, takers, functions))


_Functions = dict[tuple[str, str], onnx.FunctionProto]


def _reaches_cast(name: str, takers: dict[str, list[onnx.NodeProto]], functions: _Functions) -> bool:
    seen, waiting = {name}, [name]
    while waiting:
        for node in takers.get(waiting.pop(), ()):
            if _casts([node], functions, set()):
                return True
            given = node.output[:1] if node.op_type == "TopK" else () if node.op_type in _BOUNDED else node.output
            waiting += (one for one in given if one not in seen)
            seen.update(given)
    return False


def _casts(nodes: Iterable[onnx.NodeProto], functions: _Functions, entered: set[tuple[str, str]]) -> bool:
    """Whether one of the nodes, or of those in their bodies and functions, casts to integers."""
    for node in nodes:
        if node.op_type == "Cast" and any(one.name == "to" and one.i in _INTEGERS for one in node.attribute):
            return True
        if any(_casts(graph.node, functions, entered) for graph in graphs_in(node)):
            return True
        key = own_domain(node.domain), node.op_type
        if key in functions and key not in entered:
            entered.add(key)
            if _casts(functions[key].node, functions, entered):
                return True
    return False
