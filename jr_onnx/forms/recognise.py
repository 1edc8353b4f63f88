"""Find a form that was written before: the same table read backwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from jr_onnx.forms.table import Form, Op
from jr_onnx.forms.write import heir_position, without_relu
from jr_onnx.graph.scopes import own_domain
from jr_onnx.graph.wiring import Wiring
from jr_onnx.marks import FORM, PREFIX, mark_of


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


def recognise(form: Form, wiring: Wiring, index: int) -> Match | None:
    """The form whose last operator is the node `index`, if jr-onnx wrote it, or it calls JumpReLU by name.

    Its inner values must be used nowhere else.
    """
    for rectified, ops in enumerate((form.ops, without_relu(form.ops))):
        found = _bind(ops, wiring, index)
        if found is not None and _is_ours(form, wiring.scope.nodes[index], found[0]) and _puts_zero(found[0], wiring):
            values, nodes = found
            return Match(form, nodes, nodes[heir_position(ops)], values, bool(rectified))
    return None


def _is_ours(form: Form, node: onnx.NodeProto, values: Mapping[str, str]) -> bool:
    """Whether jr-onnx wrote this: by the mark or, as many tools drop the metadata of nodes, by its constants' names."""
    named = any(values.get(symbol, "").startswith(PREFIX) for symbol in ("jump", "zero"))
    return bool(form.ops[-1].domain) or named or mark_of(node, FORM) == form.name


def _puts_zero(values: Mapping[str, str], wiring: Wiring) -> bool:
    """Whether the form's zero is one: Where(x <= k, k, x), a lower bound, looks the same otherwise."""
    zero = wiring.constant(values["zero"]) if "zero" in values else np.zeros(())
    return zero is not None and not zero.any()


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
        if (node.op_type, own_domain(node.domain)) != (op.op_type, op.domain) or len(node.input) != len(op.inputs):
            return None
        for symbol, name in zip(op.inputs, node.input, strict=True):
            if symbols.setdefault(symbol, name) != name:
                return None
        nodes.insert(0, position)
    inner = [symbols[op.output] for op in ops[:-1]]
    if any(set(wiring.consumers[name]) - set(nodes) for name in inner):
        return None
    return symbols, tuple(nodes)
