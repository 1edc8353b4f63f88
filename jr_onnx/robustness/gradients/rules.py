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


def _jump_relu(ctx: Any, node: onnx.NodeProto, grads: list[str]) -> list[str | None]:
    """See `Backward`; exactly 0 where the derivative is, whatever comes from behind."""
    slope = ctx.b.name(f"slope of {node.output[0]}")
    outside = {"SMOOTH": SMOOTH, "SHARE": SHARE, "X": node.input[0], "JUMP": node.input[1], "SLOPE": slope}
    ctx.b.nodes.extend(fragment(_SLOPE, outside, f"{slope}/"))
    zero = ctx.constant(0.0, onnx.TensorProto.FLOAT)
    return [ctx.b.op("Mul", [grads[0], ctx.lift(slope)]), None]


def _relu(ctx: Any, node: onnx.NodeProto, grads: list[str]) -> list[str]:
    """By the output, so that onnxruntime may still fuse the Relu into the Conv before it."""
    zero = ctx.constant(0.0, onnx.TensorProto.FLOAT)
    above = ctx.lift(ctx.b.op("Greater", [node.output[0], zero]))
    return [ctx.b.op("Mul", [grads[0], ctx.b.op("Cast", [above], to=1)])]
