"""Gates that an exporter wrote out: hard-sigmoid, Clip(x + b, 0, c) / c, and hard-swish, x times that.

In them the Clip, or the Relu and Min in its place, makes a factor between 0 and c of a shifted value. It activates
nothing, so a jump there would only distort the factor. Networks have it with b = 3 and c = 6, and with b = 0.5 and
c = 1 (Howard et al., "Searching for MobileNetV3", arXiv 1905.02244).
"""

from __future__ import annotations

import math

from jr_onnx.conversion.graph.scopes import own_domain
from jr_onnx.conversion.graph.wiring import FARTHEST, Wiring, number_of

#: How inspect and the reports name a gate.
GATE = "a gate (hard-sigmoid or hard-swish, written out), not an activation"

#: Operators that may stand between the parts of a gate: what quantizers and converters of precision put there.
_BETWEEN = frozenset({"Identity", "Cast", "QuantizeLinear", "DequantizeLinear"})

#: How many nodes may lie between the upper bound and the division by it; the quantized hard-swish has six.
_LONGEST = 8


def is_gate(wiring: Wiring, index: int, x: str) -> bool:
    """Whether a node that gives the larger of `x` and 0, a Relu or a Clip, is the lower bound in a gate.

    `x` must be a value plus a number below its upper bound c. All that takes it must make a factor of it: be a
    Div by c, a Mul by 1/c or by the value itself, or such a one behind a Mul by anything. Where c is 1 it is a factor
    already.
    """
    bounded, highest = _upper_bound(wiring, index)
    if highest is None:
        return False
    shifted = wiring.producer(_root(wiring, x, _BETWEEN | {"Relu"}))
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


def _upper_bound(wiring: Wiring, index: int) -> tuple[str, float | None]:
    """The value between 0 and c that a lower bound leads to, and c; no c where there is no upper bound."""
    node = wiring.scope.nodes[index]
    if node.op_type == "Clip":
        attribute = next((attribute.f for attribute in node.attribute if attribute.name == "max"), None)
        given = number_of(wiring, node.input[2]) if len(node.input) > 2 else None
        return node.output[0], attribute if attribute is not None else given
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
    if node.op_type in _BETWEEN:
        return node.input[0] == name and _is_factor(wiring, node.output[0], value, highest, steps)
    if node.op_type not in ("Mul", "Div") or len(node.input) != 2 or (node.op_type == "Div" and node.input[0] != name):
        return False
    other = node.input[1] if node.input[0] == name else node.input[0]
    number = number_of(wiring, other)
    if number is not None:
        return bool(number) and math.isclose(highest, number if node.op_type == "Div" else 1 / number, rel_tol=1e-3)
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


def _root(wiring: Wiring, name: str, between: frozenset[str] = _BETWEEN) -> str:
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
