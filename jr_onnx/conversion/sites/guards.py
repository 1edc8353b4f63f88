"""Guards: Max(x, 0) and Clip(x, 0, c) that keep a number out of where it must not be, such as a variance under a root.

Exporters write them where rounding could make a variance, a norm, a probability or an index fall below 0. They
activate nothing, and a jump would zero what is small and right: LayerNormalization as flax writes it would divide by
nothing but its epsilon. A Relu is always taken for an activation. The uses of a value are followed into bodies and out
of the branches of If, but not into a function, nor out of a function or the body of a Loop or Scan.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from jr_onnx.conversion.graph.scopes import own_domain
from jr_onnx.conversion.graph.wiring import INTEGERS, Wiring, number_of

#: How inspect and the reports name a guard.
GUARD = (
    "a guard (it keeps what goes into a root, a logarithm, a denominator or an integer from falling below 0), "
    "not an activation"
)

_GUARDS = frozenset({"Clip", "Max", "Where"})

#: What leaves the numbers in its first input as they are, or sums them up, or puts them below a bound: 0 stays 0, and
#: all stays in order.
_BETWEEN = frozenset(
    {"Cast", "Ceil", "Clip", "Expand", "Flatten", "Floor", "Gather", "Identity", "ReduceMax", "ReduceMean", "ReduceMin"}
    | {"ReduceSum", "Reshape", "Round", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)

#: What only asks something of a value, beside what takes it.
_ASKING = frozenset({"Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Shape", "Size"})

#: How many nodes and edges of bodies may lie between the two.
_LONGEST = 8

#: Which input of BatchNormalization the variance is.
_VARIANCE = 4

#: A larger number that is added on the way is no epsilon: log(1 + x) is an activation of x.
_LARGEST_EPSILON = 0.01


def is_guard(wiring: Wiring, index: int) -> bool:
    """Whether all that takes the value of a Max, a Clip or a Where needs it to be no less than 0."""
    node = wiring.scope.nodes[index]
    if own_domain(node.domain) or node.op_type not in _GUARDS:
        return False
    needed = False
    for needed in _uses(wiring, node.output[0], _LONGEST):
        if not needed:
            break
    return needed


def _uses(wiring: Wiring, name: str, steps: int) -> Iterator[bool]:
    """Of each use of a value, within so many steps, whether it needs the value to be no less than 0."""
    if not steps:
        yield False
        return
    for taker in dict.fromkeys(wiring.consumers[name]):
        if taker < 0:
            yield from _uses_outside(wiring, name, steps - 1)
            continue
        node = wiring.scope.nodes[taker]
        if name in node.input:
            if _passes_on(wiring, node, name):
                yield from _uses(wiring, node.output[0], steps - 1)
            elif own_domain(node.domain) or node.op_type not in _ASKING:
                yield _needs_guard(wiring, node, name)
        for body in wiring.bodies.get(taker, ()):
            if body.home(name) is not body:
                yield from _uses(body, name, steps - 1)


def _uses_outside(wiring: Wiring, name: str, steps: int) -> Iterator[bool]:
    """The uses of what a scope gives to the outside; they are known of the branches of If alone."""
    graph, step, outer = wiring.scope.graph, wiring.scope.step, wiring.outer
    around = outer.scope.nodes[step[0]] if outer is not None and step is not None else None
    if graph is None or outer is None or around is None or around.op_type != "If" or own_domain(around.domain):
        yield False
        return
    for inside, outside in zip(graph.output, around.output, strict=False):
        if inside.name == name:
            yield from _uses(outer, outside, steps)


def _passes_on(wiring: Wiring, node: onnx.NodeProto, name: str) -> bool:
    """Whether the output of a node is 0, or nearly so, where a value is, and is used in its stead."""
    if own_domain(node.domain) or _is_integer(node):
        return False
    first = bool(node.input[0] == name)
    if node.op_type in _BETWEEN:
        return first
    if node.op_type == "Where":
        return not first
    if len(node.input) != 2 or (node.op_type == "Div" and not first):
        return False
    other = number_of(wiring, node.input[1] if first else node.input[0])
    return other is not None and _keeps_small(node.op_type, other)


def _needs_guard(wiring: Wiring, node: onnx.NodeProto, name: str) -> bool:
    """Whether a node that takes a value cannot take one below 0, or none that a jump has zeroed."""
    if own_domain(node.domain):
        return False
    if node.op_type in ("Sqrt", "Log", "Reciprocal") or _is_integer(node):
        return True
    place = list(node.input).index(name)
    if node.op_type == "BatchNormalization":
        return place == _VARIANCE
    if node.op_type == "Pow" and place == 0:
        exponent = number_of(wiring, node.input[1])
        return exponent is not None and (exponent < 0 or not exponent.is_integer())
    return node.op_type == "Div" and place == 1


def _is_integer(node: onnx.NodeProto) -> bool:
    """Whether a node makes an integer, such as an index or a byte of an image."""
    return node.op_type == "Cast" and any(one.name == "to" and one.i in INTEGERS for one in node.attribute)


def _keeps_small(op_type: str, number: float) -> bool:
    """Whether an operator with this number as its other input keeps what is 0, or nearly so, near 0."""
    if op_type in ("Add", "Max"):
        return 0 <= number <= _LARGEST_EPSILON
    return number > 0 and op_type in ("Div", "Min", "Mul")
