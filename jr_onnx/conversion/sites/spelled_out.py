"""A Relu that several operators spell out, such as Where(x > 0, x, 0): it is known by the last of them.

All of them must stand in one scope. What else computes a Relu, such as a product with Where(x > 0, 1, 0), is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import onnx

from jr_onnx.conversion.graph.scopes import own_domain
from jr_onnx.conversion.graph.wiring import Wiring, constant_value, fill_of, number_of

#: The x of a Relu, and how it is written.
Formula = tuple[str, str]

#: A shape that is computed when the model runs: it does not fit any other.
_COMPUTED = (-1,)


def spelled_out(wiring: Wiring, index: int) -> Formula | None:
    """The Relu that a node of ONNX's own domain ends; None where it ends none."""
    node = wiring.scope.nodes[index]
    last = _LAST.get(node.op_type)
    return last(wiring, node) if last is not None else None


def _where(wiring: Wiring, node: onnx.NodeProto) -> Formula | None:
    if len(node.input) != 3:
        return None
    condition, then, other = node.input
    if _is_above_zero(wiring, condition, then) and _is_zero(wiring, other, then):
        return then, "Where(x > 0, x, 0)"
    if _is_above_zero(wiring, condition, other, negated=True) and _is_zero(wiring, then, other):
        return other, "Where(x <= 0, 0, x)"
    return None


def _mul(wiring: Wiring, node: onnx.NodeProto) -> Formula | None:
    for x, mask in _both_ways(node.input):
        above = _inputs_of(wiring, mask, "Cast")
        if above and _is_above_zero(wiring, above[0], x):
            return x, "x * Cast(x > 0)"
    return None


def _neg(wiring: Wiring, node: onnx.NodeProto) -> Formula | None:
    for smaller, zero in _both_ways(_inputs_of(wiring, node.input[0], "Min")):
        negative = _inputs_of(wiring, smaller, "Neg")
        if negative and _is_zero(wiring, zero, smaller):
            return negative[0], "-Min(-x, 0)"
    return None


def _sub(wiring: Wiring, node: onnx.NodeProto) -> Formula | None:
    for x, zero in _both_ways(_inputs_of(wiring, node.input[-1], "Min")):
        if x == node.input[0] and _is_zero(wiring, zero, x):
            return x, "x - Min(x, 0)"
    return None


#: Each operator that may end a Relu -> the Relu that such a node ends.
_LAST: Mapping[str, Callable[[Wiring, onnx.NodeProto], Formula | None]] = {
    "Where": _where,
    "Mul": _mul,
    "Neg": _neg,
    "Sub": _sub,
}


def shape_of_zero(wiring: Wiring, name: str, x: str) -> tuple[int, ...] | None:
    """The shape of a value that is 0 everywhere, None of another; `()`, as of a number, where it has the shape of x."""
    value = constant_value(wiring, name)
    if value is not None:
        return value.shape if value.size and not value.any() else None
    found = wiring.source(name)
    if found is None or own_domain(found[1].domain):
        return None
    home, node = found
    fill = fill_of(node) if node.op_type == "ConstantOfShape" else None
    if fill is not None and not fill.any():
        shape = node.input[0]
    elif node.op_type == "Expand" and len(node.input) == 2 and number_of(home, node.input[0]) == 0:
        shape = node.input[1]
    else:
        return None
    source = home.producer(shape)
    like_x = source is not None and source[1].op_type == "Shape" and list(source[1].input) == [x]
    return () if like_x and source is not None and not source[1].attribute else _COMPUTED


def _is_zero(wiring: Wiring, name: str, x: str) -> bool:
    return shape_of_zero(wiring, name, x) is not None


def _is_above_zero(wiring: Wiring, name: str, x: str, *, negated: bool = False) -> bool:
    """Whether a value says where x is above 0, or where it is not; what it says of 0 itself makes no difference."""
    for op_types, position in ((("Greater", "GreaterOrEqual"), 0), (("Less", "LessOrEqual"), 1)):
        operands = _inputs_of(wiring, name, *op_types)
        place = 1 - position if negated else position
        if len(operands) == 2 and operands[place] == x and _is_zero(wiring, operands[1 - place], x):
            return True
    return False


def _inputs_of(wiring: Wiring, name: str, *op_types: str) -> Sequence[str]:
    """What the node takes that gives a value; nothing where it is not of these types."""
    produced = wiring.producer(name)
    if produced is None or own_domain(produced[1].domain) or produced[1].op_type not in op_types:
        return ()
    return list(produced[1].input)


def _both_ways(pair: Sequence[str]) -> Iterable[tuple[str, str]]:
    return ((pair[0], pair[1]), (pair[1], pair[0])) if len(pair) == 2 else ()
