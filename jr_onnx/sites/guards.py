"""Guards: Max(x, 0) and Clip(x, 0, c) that keep a number out of where it must not be, such as a variance under a root.

Exporters write them where rounding could make a variance, a norm or a probability fall below 0. They activate nothing,
and a jump would zero what is small and right: LayerNormalization as flax writes it would divide by nothing but its
epsilon. A Relu is always taken for an activation.
"""

from __future__ import annotations

from jr_onnx.graph.scopes import own_domain
from jr_onnx.graph.wiring import Wiring, number_of

#: How inspect and the reports name a guard.
GUARD = "a guard (it keeps what goes into a root, a logarithm or a denominator from falling below 0), not an activation"

_GUARDS = frozenset({"Clip", "Max"})

#: What leaves the numbers in its first input as they are, or below a bound: 0 stays 0, and all stays in order.
_BETWEEN = frozenset({"Cast", "Clip", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})

#: How many nodes may lie between the two.
_LONGEST = 8

#: Which input of BatchNormalization the variance is.
_VARIANCE = 4

#: A larger number that is added on the way is no epsilon: log(1 + x) is an activation of x.
_LARGEST_EPSILON = 0.01


def is_guard(wiring: Wiring, index: int) -> bool:
    """Whether all that takes the value of a Max or a Clip needs it to be no less than 0."""
    node = wiring.scope.nodes[index]
    return not own_domain(node.domain) and node.op_type in _GUARDS and _is_guarded(wiring, node.output[0])


def _is_guarded(wiring: Wiring, name: str, steps: int = _LONGEST) -> bool:
    takers = wiring.consumers[name] if steps else ()
    return bool(takers) and all(taker >= 0 and _needs_guard(wiring, taker, name, steps - 1) for taker in takers)


def _needs_guard(wiring: Wiring, taker: int, name: str, steps: int) -> bool:
    node = wiring.scope.nodes[taker]
    if own_domain(node.domain):
        return False
    if node.op_type in ("Sqrt", "Log", "Reciprocal"):
        return True
    if node.op_type == "BatchNormalization":
        return list(node.input).index(name) == _VARIANCE
    if node.op_type in _BETWEEN:
        return node.input[0] == name and _is_guarded(wiring, node.output[0], steps)
    if len(node.input) != 2:
        return False
    first = node.input[0] == name
    other = number_of(wiring, node.input[1] if first else node.input[0])
    if node.op_type == "Div" and not first:
        return True
    if node.op_type == "Pow":
        return first and other is not None and (other < 0 or not other.is_integer())
    return other is not None and _keeps_small(node.op_type, other) and _is_guarded(wiring, node.output[0], steps)


def _keeps_small(op_type: str, number: float) -> bool:
    """Whether an operator with this number as its other input keeps what is 0, or nearly so, near 0."""
    if op_type in ("Add", "Max"):
        return 0 <= number <= _LARGEST_EPSILON
    return number > 0 and op_type in ("Div", "Min", "Mul")
