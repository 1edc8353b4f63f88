"""A form written for one site, and the model-local function that stands for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.conversion.element_types import FLOAT
from jr_onnx.conversion.forms.quantized import MICROSOFT, quantized_function_proto
from jr_onnx.conversion.forms.table import BODIES, RELU_GREATER, STEEP, Fill, Form, Op, choose_form
from jr_onnx.conversion.graph.names import (
    ADD_OP_TYPE,
    DOMAIN,
    FORM,
    OP_TYPE,
    QUANTIZED_OP_TYPE,
    own_operator,
    set_marks,
)
from jr_onnx.conversion.graph.scopes import all_scopes, function_name, own_domain

AttributeValue = int | float | list[int] | list[bytes] | list[float] | npt.NDArray[Any]


@dataclass(frozen=True)
class NewNode:
    """A node to be written.

    Attributes:
        attributes: attribute name -> value; an array becomes a tensor, and what is None goes.
        replaces: the index of the node of the same scope whose place it takes: it keeps that node's name, doc string
            and metadata, and its attributes too if it is the same operator.
        marks: metadata by which jr-onnx knows it again.
    """

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: str = ""
    name: str = ""
    attributes: Mapping[str, AttributeValue | None] = field(default_factory=dict)
    replaces: int | None = None
    marks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Binding:
    """What a form stands for at one site.

    Attributes:
        values: the names of x, y and jump, of whatever else the form uses of the site, and of inner values that exist
            already.
        element_type: of the numbers that are compared.
        jump: the jump as a number, for forms whose jump is an attribute.
        node_name: the name of the node that the form is written for; may be empty.
        form: the name of the form, to mark its last node with; empty for no mark.
        replaces: position of an operator in the form -> the index of the node whose place it takes.
        rank: how many axes x has, for forms that move them.
    """

    values: Mapping[str, str]
    element_type: int
    jump: float
    node_name: str
    form: str
    replaces: Mapping[int, int]
    rank: int = 0


def write_ops(ops: tuple[Op, ...], binding: Binding, fresh: Callable[[str], str]) -> tuple[NewNode, ...]:
    """The nodes of a form at one site; `fresh` makes a name that is not taken yet from one that may be."""
    names = dict(binding.values)
    for op in ops:
        if op.output not in names:
            names[op.output] = fresh(f"{names['y']}/{op.output}")
    fills: dict[Fill, AttributeValue] = {
        Fill.JUMP: binding.jump,
        Fill.ELEMENT_TYPE: binding.element_type,
        Fill.FLOAT: FLOAT,
        Fill.STEEP: STEEP,
        Fill.STEEP_JUMP: -STEEP * binding.jump,
        Fill.CHANNELS_LAST: [0, *range(2, binding.rank), 1],
        Fill.CHANNELS_FIRST: [0, binding.rank - 1, *range(1, binding.rank - 1)],
    }
    nodes = []
    for position, op in enumerate(ops):
        named = binding.node_name and position not in binding.replaces
        nodes.append(
            NewNode(
                op.op_type,
                tuple(names[symbol] for symbol in op.inputs),
                (names[op.output],),
                op.domain,
                fresh(f"{binding.node_name}/{op.op_type}") if named else "",
                {name: fills[fill] for name, fill in op.attributes.items()},
                binding.replaces.get(position),
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


def main_position(ops: tuple[Op, ...]) -> int:
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
        new_ones = [] if value is None else [onnx.helper.make_attribute(name, _attribute_value(value))]
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, *new_ones])
    return node


def _attribute_value(value: object) -> object:
    return tensor_of("", value) if isinstance(value, np.ndarray) else value


def tensor_of(name: str, values: npt.NDArray[Any]) -> onnx.TensorProto:
    """An array of numbers as a tensor, its bytes little-endian as ONNX has them."""
    element_type = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    return onnx.TensorProto(name=name, data_type=element_type, dims=values.shape, raw_data=values.tobytes())


# --- The model-local function jr_onnx::JumpReLU: onnxruntime runs it wherever no kernel of that name is registered ----

#: Zero of the type of the jump, without naming that type.
_ZERO = Op("Sub", ("jump", "jump"), "zero")


def function_proto(body: Form, opset: int, element_type: int) -> onnx.FunctionProto:
    """The function, with inputs X and jump and the output Y.

    Args:
        body: the form that it consists of.
        opset: the version of ONNX's operators in it.
        element_type: the only one it serves, for a body with a Cast in it; others serve every type they take.
    """
    needs_zero = any("zero" in op.inputs for op in body.ops)
    ops = (_ZERO, *body.ops) if needs_zero else body.ops
    inner = {op.output: op.output for op in ops}
    binding = Binding({**inner, "x": "X", "jump": "jump", "y": "Y"}, element_type, 0.0, "", "", {})
    nodes = [to_proto(node, None) for node in write_ops(ops, binding, str)]
    return onnx.helper.make_function(
        DOMAIN,
        OP_TYPE,
        ["X", "jump"],
        ["Y"],
        nodes,
        [onnx.helper.make_opsetid("", opset)],
        doc_string="0 where X <= jump, X elsewhere (arXiv 1904.03750)",
    )


def add_function_proto(body: Form, opset: int, element_type: int) -> onnx.FunctionProto:
    """The function jr_onnx::AddJumpReLU, with inputs A, B and jump and the output Y: JumpReLU of A + B.

    The arguments are those of `function_proto`.
    """
    function = function_proto(body, opset, element_type)
    for node in function.node:
        node.input[:] = ["sum" if name == "X" else name for name in node.input]
    nodes = [onnx.helper.make_node("Add", ["A", "B"], ["sum"]), *function.node]
    opsets, doc = function.opset_import, "0 where A + B <= jump, A + B elsewhere"
    return onnx.helper.make_function(DOMAIN, ADD_OP_TYPE, ["A", "B", "jump"], ["Y"], nodes, opsets, doc_string=doc)


def body_for(element_type: int, opset: int) -> Form | None:
    """The preferred body for one element type; None where the opset has no operators for it."""
    return choose_form(BODIES, element_type, opset, scalar=False, constant=False)[0]


def body_for_all(element_types: Collection[int], opset: int) -> Form | None:
    """The form of the one body that serves all of these; Relu*Greater has a Cast in it, and serves one element type."""
    if len(set(element_types)) == 1:
        return body_for(next(iter(element_types)), opset)
    for form in BODIES:
        refused = (form.refusal(one, opset, scalar=False, constant=False) for one in element_types)
        if form is not RELU_GREATER and not any(refused):
            return form
    return None


def is_jump_relu(function: onnx.FunctionProto | None) -> bool:
    """Whether a function is jr_onnx::JumpReLU or jr_onnx::QuantizedJumpReLU, under whatever prefix."""
    return function is not None and own_operator(function.domain, function.name) in (OP_TYPE, QUANTIZED_OP_TYPE)


def is_for_cuda(model: onnx.ModelProto) -> bool:
    """Whether a model was optimised for CUDA: jr_onnx::AddJumpReLU is no site that can be found or changed."""
    return any(function.domain == DOMAIN and function.name.endswith(ADD_OP_TYPE) for function in model.functions)


def foreign_bodies(model: onnx.ModelProto) -> Iterator[str]:
    """What is wrong with the functions that a model calls as ours: each must be one that is shipped for its opset."""
    called = {node.op_type for scope in all_scopes(model) for node in scope.nodes if node.domain == DOMAIN}
    functions = [function for function in model.functions if function.domain == DOMAIN]
    for missing in called - {function.name for function in functions}:
        yield f"function {function_name(DOMAIN, missing, '')} is missing"
    for function in functions:
        plain = onnx.FunctionProto()
        plain.CopyFrom(function)
        if is_jump_relu(function):
            plain.name = own_operator(function.domain, function.name)  # whatever prefix another tool gave it
        if plain not in _shipped(function):
            name = function_name(DOMAIN, function.name, "")
            yield f"the body of {name} is not the one that jr-onnx ships for its opset"


def _shipped(function: onnx.FunctionProto) -> list[onnx.FunctionProto]:
    opset = next((o.version for o in function.opset_import if not own_domain(o.domain)), 0)
    if own_operator(function.domain, function.name) == QUANTIZED_OP_TYPE:
        return [quantized_function_proto(opset, domain) for domain in ("", MICROSOFT)]
    make = add_function_proto if function.name == ADD_OP_TYPE else function_proto
    return [
        make(body, opset, element_type)
        for body in BODIES
        for element_type, lowest in body.types.items()
        if opset >= lowest
    ]
