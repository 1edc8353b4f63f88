"""A ReLU that a quantizer folded: the integers start at 0, so whatever is negative becomes 0.

It may have been a Clip from 0, such as ReLU6: the file does not tell, because the integers have an upper bound anyhow.
The zero point alone does not tell: behind a value that is never negative it folds nothing. So the producers are
followed as far as they say something of the sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np
import onnx

from jr_onnx.conversion.graph.scopes import Scope, attribute_of, own_domain
from jr_onnx.conversion.graph.wiring import Wiring, constant_value

FOLDED = "a Relu, or a Clip from 0, is folded into its zero point; harden the model before it is quantized"

#: How many nodes are looked at behind one quantizer; behind more, its input counts as possibly negative.
_STEPS = 256

#: Operators of ONNX that never give a negative number.
_NEVER_NEGATIVE = frozenset(
    {"Abs", "Exp", "HardSigmoid", "LpPool", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Relu", "Sigmoid", "Size"}
    | {"Shape", "Softmax", "Softplus", "Sqrt", "ThresholdedRelu", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
    | {"And", "Equal", "IsInf", "IsNaN", "Not", "Or"}
)

#: Operators that give a negative number only where their first input has one.
_UNARY = frozenset(
    {"AveragePool", "Cast", "Compress", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements"}
    | {"GatherND", "GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool", "Pad", "ReduceMax", "ReduceMean"}
    | {"ReduceMin", "ReduceSum", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose"}
    | {"Unsqueeze", "Upsample"}
)

#: Operators that give a negative number only where one of their inputs has one.
_ALL_INPUTS = frozenset({"Add", "Concat", "Div", "Max", "Mean", "Min", "Mul", "Sum"})


def quantize_linear(wiring: Wiring, index: int) -> str | None:
    """QuantizeLinear of a value that may be negative; none of a graph input, behind which there was no Relu."""
    node = wiring.scope.nodes[index]
    source = wiring.source(node.input[0]) if node.input else None
    if source is None or not _starts_at_zero(wiring, node):
        return None
    return FOLDED if _may_be_negative(source[0], node.input[0]) else None


def qlinear(
    zero_point: int, inputs: Callable[[int], Sequence[int]] = lambda _: ()
) -> Callable[[Wiring, int], str | None]:
    """The matcher of an operator on integers.

    Args:
        zero_point: which input is the zero point of its output.
        inputs: for so many inputs, which are the zero points of the values that it gives a negative number of only
            where one of them is negative; none for an operator with weights.
    """

    def match(wiring: Wiring, index: int) -> str | None:
        node = wiring.scope.nodes[index]
        before = inputs(len(node.input))
        if not _is_lowest(wiring, node, zero_point) or (before and all(_is_lowest(wiring, node, i) for i in before)):
            return None
        return FOLDED

    return match


def _starts_at_zero(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether the integers of a QuantizeLinear start at 0; without a zero point they are uint8 from 0 on."""
    if len(node.input) > 2 and node.input[2]:
        return _is_lowest(wiring, node, 2)
    given = attribute_of(node, "output_dtype")
    unsigned = (onnx.TensorProto.UNDEFINED, onnx.TensorProto.UINT8, onnx.TensorProto.UINT16)
    return given is None or given.i in unsigned


def _is_lowest(wiring: Wiring, node: onnx.NodeProto, index: int) -> bool:
    """Whether an input is a constant, and the lowest integer of its type."""
    zero = constant_value(wiring, node.input[index]) if index < len(node.input) and node.input[index] else None
    if zero is None or not zero.size:
        return False
    try:
        lowest = ml_dtypes.iinfo(zero.dtype).min  # type: ignore[no-untyped-call]
    except ValueError:  # no integers
        return False
    return not np.any(zero != lowest)


def _may_be_negative(wiring: Wiring, name: str) -> bool:
    waiting = [(wiring, name)]
    seen: set[tuple[Scope, str]] = set()
    while waiting:
        around, name = waiting.pop()
        home = around.home(name)
        if home is None or (home.scope, name) in seen:
            continue
        if len(seen) == _STEPS:
            return True
        seen.add((home.scope, name))
        produced = home.producer(name)
        # A chain of Identity is followed here step by step, not from each step anew.
        followed = produced is not None and produced[1].op_type in _UNARY
        value = None if followed else constant_value(home, name)
        if value is not None:
            if value.dtype.kind not in "bu" and not (value >= 0).all():
                return True
            continue
        before = _negative_only_with(home, produced[1]) if produced is not None else None
        if before is None:
            return True
        waiting += [(home, one) for one in before if one]
    return False


def _negative_only_with(wiring: Wiring, node: onnx.NodeProto) -> Sequence[str] | None:
    """The inputs one of which is negative where the output is; None where the output may be negative whatever they are.

    Where chooses between values by a condition that nothing is known of: it is JumpReLU in some of its forms, so no
    ReLU is claimed behind it.
    """
    if node.op_type == "DequantizeLinear":
        return () if _dequantizes_from_zero(wiring, node) else None
    if node.op_type in ("QLinearSigmoid", "QLinearSoftmax", "JumpReLU", "AddJumpReLU"):
        return ()
    if any(a.name == "activation" and a.s in (b"Relu", b"Sigmoid", b"HardSigmoid") for a in node.attribute):
        return ()
    if own_domain(node.domain):
        return None
    if node.op_type in _NEVER_NEGATIVE or node.op_type == "Where":
        return ()
    if node.op_type == "Clip":
        return () if _clips_from_zero(wiring, node) else list(node.input[:1])
    if node.op_type == "Resize":
        mode = attribute_of(node, "mode")
        return None if mode is not None and mode.s == b"cubic" else list(node.input[:1])
    if node.op_type in _UNARY:
        return list(node.input[:1])
    if node.op_type == "Mul" and len(set(node.input)) == 1:
        return ()
    return list(node.input) if node.op_type in _ALL_INPUTS else None


def _clips_from_zero(wiring: Wiring, node: onnx.NodeProto) -> bool:
    given = attribute_of(node, "min")
    if given is not None and not given.ref_attr_name:
        return bool(given.f >= 0)
    minimum = constant_value(wiring, node.input[1]) if len(node.input) > 1 and node.input[1] else None
    return minimum is not None and bool((minimum >= 0).all())


def _dequantizes_from_zero(wiring: Wiring, node: onnx.NodeProto) -> bool:
    if len(node.input) > 2 and node.input[2]:
        return _is_lowest(wiring, node, 2)
    source = wiring.source(node.input[0])
    return source is not None and source[1].op_type == "QuantizeLinear" and _starts_at_zero(*source)
