"""Lower bounds of 0 that are no activations, so that a jump would only distort them: gates and guards."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx

from jr_onnx.conversion.graph.scopes import attribute_of, own_domain
from jr_onnx.conversion.graph.wiring import FARTHEST, INTEGERS, Wiring, dequantized_number, number_of

#: How many nodes, and edges of bodies, may lie between a bound and what shows its use. The quantized hard-swish has six
#: nodes between its upper bound and the division by it.
_LONGEST = 8

# --- Gates that an exporter wrote out: hard-sigmoid, Clip(x + b, 0, c) / c, and hard-swish, x times that --------------
#
# In them the Clip, or the Relu and Min in its place, makes a factor between 0 and c of a shifted value. Networks have
# it with b = 3 and c = 6, and with b = 0.5 and c = 1 (Howard et al., "Searching for MobileNetV3", arXiv 1905.02244).

#: How inspect and the reports name a gate.
GATE = "a gate (hard-sigmoid or hard-swish, written out), not an activation"

#: How much a number of a gate may differ from what it should be: it may be quantized.
_ROUNDED = 5e-3

#: Operators that may stand between the parts of a gate: what quantizers and converters of precision put there.
_INSIDE_GATES = frozenset({"Identity", "Cast", "QuantizeLinear", "DequantizeLinear"})


def is_gate(wiring: Wiring, index: int, x: str) -> bool:
    """Whether a node that gives the larger of `x` and 0, a Relu or a Clip, is the lower bound in a gate.

    `x` must be a value plus a number below its upper bound c. All that takes it must make a factor of it: be a
    Div by c, a Mul by 1/c or by the value itself, or such a one behind a Mul by anything. Where c is 1 it is a factor
    already.
    """
    bounded, highest = _upper_bound(wiring, index)
    if highest is None:
        return False
    shifted = wiring.producer(_root(wiring, x, _INSIDE_GATES | {"Relu"}))
    if shifted is None or len(shifted[1].input) != 2 or own_domain(shifted[1].domain):
        return False
    value, shift = _value_and_number(wiring, list(shifted[1].input))
    if shifted[1].op_type == "Sub" and shift is not None and value == shifted[1].input[0]:
        shift = -shift
    elif shifted[1].op_type != "Add":
        return False
    if shift is None or not 0 < shift < highest:
        return False
    return highest == 1 or _is_factor(wiring, bounded, _root(wiring, value), highest)


def is_quantized_gate(wiring: Wiring, index: int, highest: float) -> bool:
    """Whether a QuantizeLinear or QLinearAdd, of integers from 0 on, stands for both bounds of a gate.

    A quantizer leaves them out. The upper bound is twice the number that is added; `highest`, the largest number that
    the integers stand for, may be lower, where no input of the calibration was higher.
    """
    node = wiring.scope.nodes[index]
    if node.op_type == "QLinearAdd":
        summands = (dequantized_number(wiring, list(node.input[place : place + 3])) for place in (0, 3))
        return any(number is not None and 0 < highest <= 2 * number * _LARGEST_BOUND for number in summands)
    if node.op_type != "QuantizeLinear":
        return False
    shifted = wiring.producer(_root(wiring, node.input[0]))
    if shifted is None or shifted[1].op_type != "Add" or own_domain(shifted[1].domain) or len(shifted[1].input) != 2:
        return False
    value, shift = _value_and_number(wiring, list(shifted[1].input))
    bound = 0.0 if shift is None else 2 * shift
    if not bound > 0 or highest > bound * _LARGEST_BOUND:
        return False
    return bound == 1 or _is_factor(wiring, node.output[0], _root(wiring, value), bound)


#: How much higher than the bound itself the largest integer of a gate may be: scales are rounded.
_LARGEST_BOUND = 1.01


def _upper_bound(wiring: Wiring, index: int) -> tuple[str, float | None]:
    """The value between 0 and c that a lower bound leads to, and c; no c where there is no upper bound."""
    node = wiring.scope.nodes[index]
    if node.op_type == "Clip":
        maximum = attribute_of(node, "max")
        given = number_of(wiring, node.input[2]) if len(node.input) > 2 else None
        return node.output[0], maximum.f if maximum is not None else given
    takers = wiring.consumers[node.output[0]]
    after = wiring.scope.nodes[takers[0]] if len(takers) == 1 and takers[0] >= 0 else None
    if after is None or own_domain(after.domain):
        return node.output[0], None
    if after.op_type == "Clip":
        return _upper_bound(wiring, takers[0])
    return after.output[0], _value_and_number(wiring, list(after.input))[1] if after.op_type == "Min" else None


def _is_factor(wiring: Wiring, name: str, value: str, highest: float, steps: int = _LONGEST) -> bool:
    """Whether all that takes a value between 0 and `highest` uses it as a factor, after so many steps at most."""
    takers = wiring.consumers[name]
    return bool(takers) and all(t >= 0 and _scales(wiring, t, name, value, highest, steps - 1) for t in takers)


def _scales(wiring: Wiring, taker: int, name: str, value: str, highest: float, steps: int) -> bool:
    node = wiring.scope.nodes[taker]
    if own_domain(node.domain) or name not in node.input or not steps:
        return False
    if node.op_type in _INSIDE_GATES:
        return node.input[0] == name and _is_factor(wiring, node.output[0], value, highest, steps)
    if node.op_type not in ("Mul", "Div") or len(node.input) != 2 or (node.op_type == "Div" and node.input[0] != name):
        return False
    other = node.input[1] if node.input[0] == name else node.input[0]
    number = number_of(wiring, other)
    if number is not None:
        return bool(number) and math.isclose(highest, number if node.op_type == "Div" else 1 / number, rel_tol=_ROUNDED)
    if node.op_type == "Div":
        return False
    return _unscaled(wiring, other) == value or _is_factor(wiring, node.output[0], value, highest, steps)


def _unscaled(wiring: Wiring, name: str) -> str:
    """The value that a Mul or a Div by a number has, or the value itself."""
    produced = wiring.producer(_root(wiring, name))
    if produced is None or produced[1].op_type not in ("Mul", "Div") or len(produced[1].input) != 2:
        return _root(wiring, name)
    value, number = _value_and_number(wiring, list(produced[1].input))
    return _root(wiring, name if number is None else value)


def _root(wiring: Wiring, name: str, between: frozenset[str] = _INSIDE_GATES) -> str:
    """A value as it was before what may stand between the parts of a gate."""
    for _ in range(FARTHEST):
        produced = wiring.producer(name)
        if produced is None or produced[1].op_type not in between:
            break
        name = produced[1].input[0]
    return name


def _value_and_number(wiring: Wiring, names: list[str]) -> tuple[str, float | None]:
    """Which of two values is not a number, and the number; no number where it is not one of the two."""
    numbers = [number_of(wiring, name) for name in names]
    for value, number in ((names[0], numbers[-1]), (names[-1], numbers[0])):
        if number is not None:
            return value, number
    return names[0], None


# --- Guards: Max(x, 0) and Clip(x, 0, c) that keep a number out of where it must not be, as a variance under a root ---
#
# Exporters write them where rounding could make a variance, a norm, a probability or an index fall below 0. A jump
# would zero what is small and right: LayerNormalization as flax writes it would divide by nothing but its epsilon. A
# Relu is always taken for an activation. The uses of a value are followed into bodies and out of the branches of If,
# but not into a function, nor out of a function or the body of a Loop or Scan.

#: How inspect and the reports name a guard.
GUARD = (
    "a guard (it keeps what goes into a root, a logarithm, a denominator or an integer from falling below 0), "
    "not an activation"
)

_GUARDS = frozenset({"Clip", "Max", "Where"})

#: What leaves the numbers in its first input as they are, or sums them up, or puts them below a bound: 0 stays 0, and
#: all stays in order.
_KEEPING = frozenset(
    {"Cast", "Ceil", "Clip", "Expand", "Flatten", "Floor", "Gather", "Identity", "ReduceMax", "ReduceMean", "ReduceMin"}
    | {"ReduceSum", "Reshape", "Round", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)

#: What only asks something of a value, beside what takes it.
_ASKING = frozenset({"Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Shape", "Size"})

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
    if node.op_type in _KEEPING:
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
    to = attribute_of(node, "to")
    return node.op_type == "Cast" and to is not None and to.i in INTEGERS


def _keeps_small(op_type: str, number: float) -> bool:
    """Whether an operator with this number as its other input keeps what is 0, or nearly so, near 0."""
    if op_type in ("Add", "Max"):
        return 0 <= number <= _LARGEST_EPSILON
    return number > 0 and op_type in ("Div", "Min", "Mul")
