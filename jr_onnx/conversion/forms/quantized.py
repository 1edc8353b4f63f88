"""JumpReLU of values that are stored as integers, as data; found and measured on onnxruntime 1.17 to 1.32.

    form                                        where
    QuantizedJumpReLU                           the custom-op target
    Transpose, QuantizedJumpReLU, Transpose     the same behind a convolution
    DequantizeLinear, a form, QuantizeLinear    all else; with the scale and the zero point that the value has

onnxruntime computes convolutions of 8-bit integers with channels last, moves Transposes through the graph until they
meet and vanish, and moves none through an operator that it does not know. So QuantizedJumpReLU stands between two that
vanish with those of the convolutions around it. On x64 it fuses int8 only where DequantizeLinear stands right behind
QuantizeLinear: there only the last form keeps the model's QLinearConv. Numbers that come from integers are no NaN,
and zeros lose their sign when they are quantized again: so the forms between them are exact.
"""

from __future__ import annotations

from dataclasses import replace

import onnx

from jr_onnx.conversion.element_types import FLOAT
from jr_onnx.conversion.forms.table import RELU_GREATER, THRESHOLDED_RELU, Fill, Form, Op, Target
from jr_onnx.conversion.graph.names import DOMAIN, QUANTIZED_OP_TYPE
from jr_onnx.conversion.quantization import INTEGER_TYPES, Quantization

MICROSOFT = "com.microsoft"

#: ONNX's own QuantizeLinear takes 8 bits from the one opset on, and 16 from the other.
_BITS_8, _BITS_16 = 10, 21

_BYTES = frozenset(number for number, dtype in INTEGER_TYPES.items() if dtype.itemsize == 1)


def quantizer_domain(element_type: int, opset: int) -> str:
    """The domain of the QuantizeLinear that takes a type."""
    return "" if opset >= (_BITS_8 if element_type in _BYTES else _BITS_16) else MICROSOFT


QUANTIZED_JUMP_RELU = Form(
    "QuantizedJumpReLU",
    (Op(QUANTIZED_OP_TYPE, ("x", "jump", "zero_point"), "y", DOMAIN),),
    dict.fromkeys(INTEGER_TYPES, 7),
    constant_only=True,
)

QUANTIZED_CHANNELS_LAST = Form(
    "QuantizedJumpReLU, channels last",
    (
        Op("Transpose", ("x",), "last", attributes={"perm": Fill.CHANNELS_LAST}),
        Op(QUANTIZED_OP_TYPE, ("last", "jump", "zero_point"), "kept", DOMAIN),
        Op("Transpose", ("kept",), "y", attributes={"perm": Fill.CHANNELS_FIRST}),
    ),
    dict.fromkeys(INTEGER_TYPES, 7),
    constant_only=True,
)


# Only read, never written: the function's body as onnxruntime saves it in the function's place, with a DequantizeLinear
# for each node that takes what is dequantized.
QUANTIZED_EXPANDED = Form(
    "QuantizedJumpReLU, written out",
    (
        Op("DequantizeLinear", ("x", "one", "zero_point"), "number"),
        Op("DequantizeLinear", ("x", "one", "zero_point"), "again"),
        Op("DequantizeLinear", ("jump", "one", "zero_point"), "bar"),
        Op("Sub", ("number", "bar"), "above"),
        Op("HardSigmoid", ("above",), "gate"),
        Op("Mul", ("again", "gate"), "kept"),
        Op("QuantizeLinear", ("kept", "one", "zero_point"), "y"),
    ),
    dict.fromkeys(INTEGER_TYPES, _BITS_8),
)


def _between(form: Form, domain: str, *, zero_point: bool) -> Form:
    """A form between DequantizeLinear and QuantizeLinear."""
    how = ("scale", "zero_point") if zero_point else ("scale",)
    names = {"x": "number", "y": "kept"}
    inside = (replace(op, inputs=tuple(names.get(i, i) for i in op.inputs)) for op in form.ops)
    return Form(
        f"{form.name} between DequantizeLinear and QuantizeLinear",
        (
            Op("DequantizeLinear", ("x", *how), "number", domain),
            *(replace(op, output=names.get(op.output, op.output)) for op in inside),
            Op("QuantizeLinear", ("kept", *how), "y", domain),
        ),
        dict.fromkeys(INTEGER_TYPES, max(_BITS_8, form.types[FLOAT]) if not domain else form.types[FLOAT]),
        jump_is_input=form.jump_is_input,
    )


_THRESHOLDED = {(d, z): _between(THRESHOLDED_RELU, d, zero_point=z) for d in ("", MICROSOFT) for z in (True, False)}
_GREATER = {(d, z): _between(RELU_GREATER, d, zero_point=z) for d in ("", MICROSOFT) for z in (True, False)}

#: The forms that call the function jr_onnx::QuantizedJumpReLU.
CALLS: tuple[Form, ...] = (QUANTIZED_CHANNELS_LAST, QUANTIZED_JUMP_RELU)

#: The forms whose jump is an integer.
WITH_INTEGER: tuple[Form, ...] = (*CALLS, QUANTIZED_EXPANDED)

QUANTIZED_FORMS: tuple[Form, ...] = (*WITH_INTEGER, *_THRESHOLDED.values(), *_GREATER.values())


def quantized_forms(
    target: Target, quantization: Quantization, rank: int | None, *, inline: bool
) -> tuple[tuple[Form, ...], str]:
    """The forms that a site may take, the preferred one first, and why it is not the target's own."""
    # Without a zero point, which has their type, QuantizeLinear gives uint8.
    as_it_is = not quantization.zero_point_name and quantization.element_type == onnx.TensorProto.UINT8
    variant = quantization.domain, not as_it_is
    plain = (_GREATER[variant],) if target == "subgraph" else (_THRESHOLDED[variant], _GREATER[variant])
    if target != "custom-op" or inline:
        return plain, ""
    if quantization.by_quantizer and quantization.element_type == onnx.TensorProto.INT8:
        return plain, "on x64 onnxruntime fuses int8 only with DequantizeLinear right behind QuantizeLinear"
    last = quantization.convolved and (rank or 0) > 2 and quantization.element_type in _BYTES
    return (*(CALLS if last else CALLS[1:]), *plain), ""


def quantized_function_proto(opset: int, domain: str) -> onnx.FunctionProto:
    """The function jr_onnx::QuantizedJumpReLU, with inputs Q, threshold and zero_point and the output Y.

    Its differences are whole numbers that float has, and HardSigmoid is 0 up to 0 and 1 from 1 on: so it is exact for
    every integer. LessOrEqual, which would do with one comparison, has no kernel for integers of 8 bits before
    onnxruntime 1.23, and Where has none for int8.

    Args:
        opset: the version of ONNX's operators in it.
        domain: of its QuantizeLinear and DequantizeLinear.
    """
    node = onnx.helper.make_node
    one = onnx.helper.make_tensor("one", FLOAT, [], [1.0])
    nodes = [
        node("Constant", [], ["one"], value=one),
        node("DequantizeLinear", ["Q", "one", "zero_point"], ["x"], domain=domain or None),
        node("DequantizeLinear", ["threshold", "one", "zero_point"], ["jump"], domain=domain or None),
        node("Sub", ["x", "jump"], ["above"]),
        node("HardSigmoid", ["above"], ["gate"], alpha=1.0, beta=0.0),
        node("Mul", ["x", "gate"], ["kept"]),
        node("QuantizeLinear", ["kept", "one", "zero_point"], ["Y"], domain=domain or None),
    ]
    imports = [onnx.helper.make_opsetid("", opset)]
    if domain:
        imports.append(onnx.helper.make_opsetid(domain, 1))
    doc = "zero_point where Q <= threshold, Q elsewhere: JumpReLU of what Q stands for"
    inputs = ["Q", "threshold", "zero_point"]
    return onnx.helper.make_function(DOMAIN, QUANTIZED_OP_TYPE, inputs, ["Y"], nodes, imports, doc_string=doc)
