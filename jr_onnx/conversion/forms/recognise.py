"""Find a form that was written before: the same table read backwards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from jr_onnx.conversion.element_types import NUMPY_TYPES
from jr_onnx.conversion.forms.table import HARD_SIGMOID, STEEP, THRESHOLDED_RELU, Fill, Form, Op
from jr_onnx.conversion.forms.write import main_position, without_relu
from jr_onnx.conversion.graph.names import FORM, PREFIX, mark_of, own_operator
from jr_onnx.conversion.graph.scopes import attribute_of, own_domain
from jr_onnx.conversion.graph.wiring import Wiring, constant_value
from jr_onnx.conversion.metadata import Record

_NO_RECORD = Record()


@dataclass(frozen=True)
class Match:
    """A form found in a scope.

    Attributes:
        form: which one.
        nodes: the indices of its nodes, in the order of the form's operators; the last gives y.
        carrier: the index of the node that kept the name of the node it was written for.
        values: what the form's symbols stand for.
        rectified: it was written without its Relu, behind something that is never negative.
    """

    form: Form
    nodes: tuple[int, ...]
    carrier: int
    values: Mapping[str, str]
    rectified: bool

    @property
    def x(self) -> str:
        return self.values["x"]

    @property
    def y(self) -> str:
        return self.values["y"]


def recognise(form: Form, wiring: Wiring, index: int, record: Record = _NO_RECORD) -> Match | None:
    """The form whose last operator is the node `index`, if jr-onnx wrote it, or it calls JumpReLU by name.

    Its inner values must be used nowhere else. `record` is that of the model.
    """
    for rectified, ops in enumerate((form.ops, without_relu(form.ops))):
        found = _bind(ops, wiring, index)
        if found is None:
            continue
        values, nodes = found
        match = Match(form, nodes, nodes[main_position(ops)], values, bool(rectified))
        if _is_ours(match, wiring, record) and _puts_zero(values, wiring):
            return match
    return None


def operator_of(node: onnx.NodeProto) -> tuple[str, str]:
    """The domain and the operator of a node; ours have their own names here whatever prefix they were given."""
    domain = own_domain(node.domain)
    return domain, own_operator(domain, node.op_type) or node.op_type


def thresholded_of(match: Match) -> int | None:
    """The index of the node whose attribute alpha is the jump, of a form with such a one."""
    places = (place for place, op in enumerate(match.form.ops) if Fill.JUMP in op.attributes.values())
    return next((match.nodes[place] for place in places), None)


def step_of(gate: onnx.NodeProto) -> float | None:
    """Where a HardSigmoid steps from 0 to 1; None where it is not as steep as it must be."""
    given = {attribute.name: attribute.f for attribute in gate.attribute}
    return -given.get("beta", math.nan) / STEEP if given.get("alpha") == STEEP else None


def _is_ours(match: Match, wiring: Wiring, record: Record) -> bool:
    """Whether jr-onnx wrote this: by its mark or, as many tools drop the metadata of nodes, by what else is ours alone.

    That is an operator of our domain, a HardSigmoid of our slope, the names of the constants or of the inner values, a
    zero computed from the jump as in the function's body, or a jump that the model's record has.
    """
    form, values, last = match.form, match.values, wiring.scope.nodes[match.nodes[-1]]
    if any(mark_of(wiring.scope.nodes[index], FORM) for index in match.nodes[:-1]):
        return False  # a form within, of numbers that the model itself quantizes behind it
    if form.calls or mark_of(last, FORM) == form.name:
        return True
    if form is HARD_SIGMOID:
        step = step_of(wiring.scope.nodes[match.nodes[-2]])
        return step is not None and 0 <= step < math.inf
    thresholded = thresholded_of(match)
    if thresholded is not None:
        # Between DequantizeLinear and QuantizeLinear it is written for other targets too.
        known = record.thresholds if len(form.ops) == 1 or record.jump is None else (record.jump,)
        if _is_recorded(wiring.scope.nodes[thresholded], known):
            return True
    jump, zero = values.get("jump", ""), values.get("zero", "")
    inner = {op.output: values[op.output] for op in form.ops[:-1] if op.output in values}
    return (
        PREFIX in jump
        or PREFIX in zero
        or jump == record.jump_input
        or any(name.startswith(f"{match.y}/{symbol}") for symbol, name in inner.items())
        or _is_difference(wiring, zero, jump)
    )


def _is_recorded(thresholded: onnx.NodeProto, thresholds: tuple[float, ...] | None) -> bool:
    """Whether the threshold is a recorded jump, in one of the types that it may have been rounded to."""
    given = attribute_of(thresholded, "alpha")
    alpha = given.f if given is not None else 1.0
    if thresholds is None:
        return True
    with np.errstate(over="ignore"):
        rounded = (np.asarray(thresholds).astype(NUMPY_TYPES[one]) for one in THRESHOLDED_RELU.types)
        return any(alpha in values.astype(np.float64) for values in rounded)


def _is_difference(wiring: Wiring, zero: str, jump: str) -> bool:
    source = wiring.source(zero) if zero else None
    return source is not None and source[1].op_type == "Sub" and list(source[1].input) == [jump, jump]


def _puts_zero(values: Mapping[str, str], wiring: Wiring) -> bool:
    """Whether the form's zero is one: Where(x <= k, k, x), a lower bound, looks the same otherwise."""
    zero = constant_value(wiring, values["zero"]) if "zero" in values else np.zeros(())
    return zero is not None and not zero.any()


def _is_same_number(wiring: Wiring, symbol: str, one: str, other: str) -> bool:
    """Whether two names stand for one scale or zero point: onnxruntime writes both anew where it changes their type."""
    if symbol not in ("scale", "zero_point") or not one or not other:
        return False
    numbers = constant_value(wiring, one), constant_value(wiring, other)
    return numbers[0] is not None and numbers[1] is not None and np.array_equal(numbers[0], numbers[1])


def _bind(ops: tuple[Op, ...], wiring: Wiring, index: int) -> tuple[dict[str, str], tuple[int, ...]] | None:
    """Bind the symbols from the last operator backwards; each operator's output is known when its turn comes."""
    node = wiring.scope.nodes[index]
    if not node.output:
        return None
    symbols = {ops[-1].output: node.output[0]}
    nodes: list[int] = []
    for op in reversed(ops):
        produced = wiring.producer(symbols[op.output])
        if produced is None:
            return None
        position, node = produced
        if operator_of(node) != (op.domain, op.op_type) or len(node.input) != len(op.inputs):
            return None
        for symbol, name in zip(op.inputs, node.input, strict=True):
            if symbols.setdefault(symbol, name) != name and not _is_same_number(wiring, symbol, symbols[symbol], name):
                return None
        nodes.insert(0, position)
    inner = [symbols[op.output] for op in ops[:-1]]
    if any(set(wiring.consumers[name]) - set(nodes) for name in inner):
        return None
    return symbols, tuple(nodes)
