"""How gradients pass through JumpReLU and Relu: rules for onnx-ad, which has those of the other operators."""

from __future__ import annotations

from typing import Any

import onnx
from onnx_ad.rules import REVERSE

from jr_onnx.conversion.graph.names import OP_TYPE
from jr_onnx.robustness.gradients.backward import SHARE, SMOOTH
from jr_onnx.robustness.gradients.fragments import fragment

#: The derivative: of X * sigmoid((X - JUMP) / width), or of a step.
_SLOPE = """
    SLOPE = If (SMOOTH) <
        then_branch = smooth () => (float smooth_slope) {
            one = Constant <value_float = 1.0> ()
            zero = Constant <value_float = 0.0> ()
            width = Mul (JUMP, SHARE)
            distance = Sub (X, JUMP)
            steps = Div (distance, width)
            gate = Sigmoid (steps)
            closed = Sub (one, gate)
            bend = Mul (gate, closed)
            at = Div (X, width)
            rise = Mul (at, bend)
            smooth_step = Add (gate, rise)
            wide = Greater (width, zero)
            true_above = Greater (X, JUMP)
            true_step = Cast <to = 1> (true_above)
            smooth_slope = Where (wide, smooth_step, true_step)
        },
        else_branch = hard () => (float hard_slope) {
            least = Mul (JUMP, SHARE)
            above = Greater (X, least)
            hard_slope = Cast <to = 1> (above)
        }
    >
"""


def register() -> None:
    """Make the rules known to onnx-ad."""
    REVERSE.update({OP_TYPE: _jump_relu, "Relu": _relu})
    mended = {"Conv": _ExactPads, "AveragePool": _ExactPads, "LpPool": _ExactPads, "Clip": _ClipByOutput}
    for op_type, kind in mended.items():
        if not isinstance(REVERSE[op_type], kind):
            REVERSE[op_type] = kind(REVERSE[op_type])


def _jump_relu(ctx: Any, node: onnx.NodeProto, grads: list[str]) -> list[str | None]:
    """See `Backward`."""
    slope = ctx.b.name(f"slope of {node.output[0]}")
    outside = {"SMOOTH": SMOOTH, "SHARE": SHARE, "X": node.input[0], "JUMP": node.input[1], "SLOPE": slope}
    ctx.b.nodes.extend(fragment(_SLOPE, outside, f"{slope}/"))
    return [ctx.b.op("Mul", [grads[0], ctx.lift(slope)]), None]


def _relu(ctx: Any, node: onnx.NodeProto, grads: list[str]) -> list[str]:
    """By the output, so that onnxruntime may still fuse the Relu into the Conv before it."""
    zero = ctx.constant(0.0, onnx.TensorProto.FLOAT)
    above = ctx.lift(ctx.b.op("Greater", [node.output[0], zero]))
    return [ctx.b.op("Mul", [grads[0], ctx.b.op("Cast", [above], to=1)])]


class _ClipByOutput:
    """onnx-ad's rule, but the gradient of what is clipped passes by a product: onnxruntime's Where takes longer."""

    def __init__(self, rule: Any) -> None:
        self._rule = rule

    def __call__(self, ctx: Any, node: onnx.NodeProto, grads: list[str]) -> list[str | None]:
        inside = ctx.b.op("Cast", [ctx.b.op("Equal", [node.input[0], node.output[0]])], to=1)
        return [ctx.b.op("Mul", [grads[0], ctx.lift(inside)]), *self._rule(ctx, node, grads)[1:]]


class _ExactPads:
    """A rule of onnx-ad with the ConvTranspose that it writes given the pads of the window that it undoes.

    It is written with `output_shape`, for which ONNX divides the padding evenly, whatever `pads` says: wrong where
    there is more on one side (tried with onnx-ad 0.3.0).
    """

    def __init__(self, rule: Any) -> None:
        self._rule = rule

    def __call__(self, ctx: Any, node: onnx.NodeProto, grads: list[str]) -> Any:
        before = len(ctx.b.nodes)
        found = self._rule(ctx, node, grads)
        for made in ctx.b.nodes[before:]:
            convolution = node.op_type == "Conv"
            if made.op_type == "ConvTranspose" and not (convolution and _as_convolution(ctx, made)):
                self._write_pads(ctx, node, made)
        return found

    @staticmethod
    def _write_pads(ctx: Any, node: onnx.NodeProto, made: onnx.NodeProto) -> None:
        given = {entry.name: onnx.helper.get_attribute_value(entry) for entry in made.attribute}
        shape = given.pop("output_shape")
        kernel = (
            ctx.shapes.static(made.input[1])[2:]
            if node.op_type == "Conv"
            else next(list(entry.ints) for entry in node.attribute if entry.name == "kernel_shape")
        )
        outputs, rank = ctx.shapes.static(node.output[0])[2:], len(shape)
        given["output_padding"] = [
            size + before + after - ((output - 1) * stride + (length - 1) * dilation + 1)
            for size, before, after, output, stride, length, dilation in zip(
                shape,
                given["pads"][:rank],
                given["pads"][rank:],
                outputs,
                given["strides"],
                kernel,
                given["dilations"],
                strict=True,
            )
        ]  # what the last window does not reach
        _set_attributes(made, given)


def _set_attributes(node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Give a node these attributes alone."""
    node.ClearField("attribute")
    node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes.items())


#: Channels come in blocks of so many in onnxruntime's fastest kernels.
_BLOCK = 8


def _as_convolution(ctx: Any, made: onnx.NodeProto) -> bool:
    """Write the gradient of a convolution of stride 1 as a convolution, for which onnxruntime has faster kernels.

    Returns:
        Whether it could be.
    """
    given = {entry.name: onnx.helper.get_attribute_value(entry) for entry in made.attribute}
    rank = len(given["output_shape"])
    outputs, inputs, *kernel = ctx.shapes.static(made.input[1])
    reach = [dilation * (length - 1) for dilation, length in zip(given["dilations"], kernel, strict=True)] * 2
    pads = [far - near for far, near in zip(reach, given["pads"], strict=True)]
    stepping = any(stride != 1 for stride in given["strides"]) or given.get("group", 1) != 1
    if stepping or min(pads) < 0 or outputs % _BLOCK or inputs % _BLOCK:
        return False
    # The axes of inputs and outputs change places, and every kernel is turned around; onnxruntime does it once.
    before = len(ctx.b.nodes)
    swapped = ctx.b.op("Transpose", [made.input[1]], perm=[1, 0, *range(2, 2 + rank)])
    ends, starts, axes, steps = (
        ctx.b.ints(values) for values in ([-(1 << 31)] * rank, [-1] * rank, list(range(2, 2 + rank)), [-1] * rank)
    )
    turned = ctx.b.op("Slice", [swapped, starts, ends, axes, steps])
    at = next(index for index, one in enumerate(ctx.b.nodes) if one is made)
    moved = ctx.b.nodes[before:]
    del ctx.b.nodes[before:]
    ctx.b.nodes[at:at] = moved
    made.op_type = "Conv"
    made.input[1] = turned
    _set_attributes(made, {"pads": pads, "dilations": given["dilations"]})
    return True
