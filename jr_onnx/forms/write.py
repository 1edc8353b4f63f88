"""A form written for one site: the nodes, not yet bound to a file or to a graphsurgeon graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.element_types import NUMPY_TYPES
from jr_onnx.forms.table import STEEP, Fill, Op
from jr_onnx.marks import FORM, set_marks

AttributeValue = int | float | list[bytes] | list[float] | npt.NDArray[Any]


@dataclass(frozen=True)
class NewNode:
    """A node to be written.

    Attributes:
        attributes: attribute name -> value; an array becomes a tensor.
        heir_of: the index of the node of the same scope whose place it takes: it keeps that node's name, doc string
            and metadata, and its attributes too if it is the same operator.
        marks: metadata by which jr-onnx knows it again.
    """

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: str = ""
    name: str = ""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    heir_of: int | None = None
    marks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Binding:
    """What a form stands for at one site.

    Attributes:
        values: the names of x, y and jump, of zero where the form uses it, and of inner values that exist already.
        element_type: of x and y.
        jump: the jump as a number, for forms whose jump is an attribute.
        node_name: the name of the node that the form is written for; may be empty.
        form: the name of the form, to mark its last node with; empty for no mark.
        heirs: position of an operator in the form -> the index of the node whose place it takes.
    """

    values: Mapping[str, str]
    element_type: int
    jump: float
    node_name: str
    form: str
    heirs: Mapping[int, int]


def write_ops(ops: tuple[Op, ...], binding: Binding, fresh: Callable[[str], str]) -> tuple[NewNode, ...]:
    """The nodes of a form at one site; `fresh` makes a name that is not taken yet from one that may be."""
    names = dict(binding.values)
    for op in ops:
        if op.output not in names:
            names[op.output] = fresh(f"{names['y']}/{op.output}")
    fills = {
        Fill.JUMP: binding.jump,
        Fill.ELEMENT_TYPE: binding.element_type,
        Fill.STEEP: STEEP,
        Fill.STEEP_JUMP: -STEEP * binding.jump,
    }
    nodes = []
    for position, op in enumerate(ops):
        named = binding.node_name and position not in binding.heirs
        nodes.append(
            NewNode(
                op.op_type,
                tuple(names[symbol] for symbol in op.inputs),
                (names[op.output],),
                op.domain,
                fresh(f"{binding.node_name}/{op.op_type}") if named else "",
                {name: fills[fill] for name, fill in op.attributes.items()},
                binding.heirs.get(position),
                {FORM: binding.form} if binding.form and position == len(ops) - 1 else {},
            )
        )
    return tuple(nodes)


def without_relu(ops: tuple[Op, ...]) -> tuple[Op, ...]:
    """A form for an x that is never negative: its Relu left out."""
    relu = next((op for op in ops if op.op_type == "Relu"), None)
    if relu is None:
        return ops
    renamed = {relu.output: relu.inputs[0]}
    return tuple(
        Op(op.op_type, tuple(renamed.get(i, i) for i in op.inputs), op.output, op.domain, op.attributes)
        for op in ops
        if op is not relu
    )


def heir_position(ops: tuple[Op, ...]) -> int:
    """Which operator of a form takes the place of the Relu: the form's own Relu, else the one that gives y."""
    return next((position for position, op in enumerate(ops) if op.op_type == "Relu"), len(ops) - 1)


def to_proto(new: NewNode, original: onnx.NodeProto | None) -> onnx.NodeProto:
    """The node as a proto; `original` is the node whose place it takes, if it takes one."""
    node = onnx.NodeProto()
    if original is not None:
        node.CopyFrom(original)
        if (original.op_type, original.domain) != (new.op_type, new.domain):
            del node.attribute[:]
    node.op_type = new.op_type
    if new.domain:
        node.domain = new.domain
    elif node.domain:  # of a JumpReLU that becomes something else
        node.ClearField("domain")
    if new.name:
        node.name = new.name
    set_marks(node, dict(new.marks))
    node.input[:] = new.inputs
    node.output[:] = new.outputs
    for name, value in new.attributes.items():
        attribute = onnx.helper.make_attribute(name, _attribute_value(value))
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, attribute])
    return node


def _attribute_value(value: object) -> object:
    return tensor_of("", value) if isinstance(value, np.ndarray) else value


def tensor_of(name: str, values: npt.NDArray[Any]) -> onnx.TensorProto:
    """An array of one of the four element types as a tensor, its bytes little-endian as ONNX has them."""
    element_type = next(number for number, dtype in NUMPY_TYPES.items() if dtype == values.dtype)

    return onnx.TensorProto(name=name, data_type=element_type, dims=values.shape, raw_data=values.tobytes())
