"""The model-local function jr_onnx::JumpReLU: onnxruntime runs it wherever no kernel of that name is registered.

Source: ONNX IR, "Functions"; model-local functions came with IR version 8.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx

from jr_onnx.forms.table import (
    ADD_OP_TYPE,
    BODIES,
    DOMAIN,
    OP_TYPE,
    RELU_GREATER,
    Form,
    Op,
    choose_form,
    is_jump_relu_name,
)
from jr_onnx.forms.write import Binding, to_proto, write_ops

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
    """Whether a function is jr_onnx::JumpReLU, under whatever prefix, and not another one of that domain."""
    return function is not None and is_jump_relu_name(function.domain, function.name)


def is_for_cuda(model: onnx.ModelProto) -> bool:
    """Whether a model was optimised for CUDA: jr_onnx::AddJumpReLU is no site that can be found or changed."""
    return any(function.domain == DOMAIN and function.name.endswith(ADD_OP_TYPE) for function in model.functions)
