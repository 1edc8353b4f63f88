"""ReLUs of values that are stored as integers: folded into a zero point, or in front of a QuantizeLinear.

A quantizer leaves a Relu out where the integers start at 0: whatever is negative becomes 0 anyhow. It may have been a
Clip from 0, such as ReLU6: the file does not tell, because the integers have an upper bound too. The zero point alone
does not tell either: behind a value that is never negative it folds nothing. So the producers are followed as far as
they say something of the sign, to what may have given a negative number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.conversion.forms.quantized import MICROSOFT, quantizer_domain
from jr_onnx.conversion.graph.names import ADD_OP_TYPE, OP_TYPE, QUANTIZED_OP_TYPE
from jr_onnx.conversion.graph.scopes import Scope, attribute_of, own_domain
from jr_onnx.conversion.graph.wiring import Wiring, constant_value, is_overridable
from jr_onnx.conversion.quantization import INTEGER_TYPES, Quantization

_FOLDED = "a Relu may be folded into its zero point, but"

#: How many nodes are looked at behind one quantizer; behind more, nothing is known of its input.
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

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "FusedConv", "NhwcFusedConv", "QLinearConv"})

#: Beside convolutions, the layers that a ReLU stands behind, and what normalizes their values.
_LINEAR = frozenset(
    {"BatchNormalization", "Einsum", "FusedGemm", "FusedMatMul", "Gemm", "GroupNormalization", "InstanceNormalization"}
    | {"LayerNormalization", "MatMul", "QGemm", "QLinearMatMul", "RMSNormalization", "SkipLayerNormalization"}
)


class Origin(Enum):
    """What may have given a negative number."""

    CONVOLUTION = "a convolution"
    LINEAR = "another layer"
    INPUT = "an input of the graph"
    OTHER = "something else"


@dataclass(frozen=True)
class QLinear:
    """An operator on integers.

    Attributes:
        zero_point: which input is the zero point of its output; the one before it is the scale.
        values: for so many inputs, which of them are the values that it gives a negative number of only where one of
            them is negative; none for an operator with weights.
    """

    zero_point: int
    values: Callable[[int], Sequence[int]] = lambda _: ()


#: (domain, op_type) of the operators on integers.
QLINEAR: Mapping[tuple[str, str], QLinear] = {
    ("", "QLinearConv"): QLinear(7),
    (MICROSOFT, "QLinearConv"): QLinear(7),
    ("", "QLinearMatMul"): QLinear(7),
    (MICROSOFT, "QGemm"): QLinear(8),
    (MICROSOFT, "QLinearAdd"): QLinear(7, lambda _: (0, 3)),
    (MICROSOFT, "QLinearMul"): QLinear(7, lambda _: (0, 3)),
    (MICROSOFT, "QLinearAveragePool"): QLinear(4, lambda _: (0,)),
    (MICROSOFT, "QLinearGlobalAveragePool"): QLinear(4, lambda _: (0,)),
    (MICROSOFT, "QLinearReduceMean"): QLinear(4, lambda _: (0,)),
    (MICROSOFT, "QLinearConcat"): QLinear(1, lambda inputs: range(2, inputs, 3)),
}


def folded(wiring: Wiring, index: int) -> Quantization | str | None:
    """How the output of a QuantizeLinear or an operator on integers is quantized, where a ReLU is folded into that.

    Or why it cannot be told, or nothing where there is none: the integers do not start at 0, the value is never
    negative, or it is an input of the model or a constant.
    """
    node = wiring.scope.nodes[index]
    kind = QLINEAR.get((node.domain, node.op_type))
    if not _starts_at_zero(wiring, node) or (kind is None and constant_value(wiring, node.input[0]) is not None):
        return None
    if kind is None:
        origins = _origins(wiring, node.input[:1])
    elif kind.values(len(node.input)):
        origins = _origins(wiring, _values(wiring, node, kind))
    else:
        origins = {_layer(node)}
    if not origins - {Origin.INPUT}:
        return None
    if _is_before_bias(wiring, node):
        return f"{_FOLDED} a constant is added behind it, its bias, and a Relu comes after that"
    if not origins & {Origin.CONVOLUTION, Origin.LINEAR}:
        return f"{_FOLDED} it stands behind no convolution or other linear layer"
    return quantization_of(wiring, node, convolved=Origin.CONVOLUTION in origins)


#: Layers, and how many inputs they have with a bias.
_WITH_BIAS = {"Conv": 3, "ConvTranspose": 3, "Gemm": 3, "MatMul": 3, "QLinearConv": 9, "QLinearMatMul": 9}


def _is_before_bias(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether a value is that of a layer without a bias, and all that takes it adds a constant: the layer's bias.

    Such a value may have been positive in all of the calibration.
    """
    source = (wiring, node) if node.op_type in _WITH_BIAS else wiring.source(node.input[0])
    if source is None or len(source[1].input) >= _WITH_BIAS.get(source[1].op_type, 0):
        return False
    names = [node.output[0]]
    for taker in wiring.consumers[names[0]]:
        if taker >= 0 and wiring.scope.nodes[taker].op_type == "DequantizeLinear":
            names.append(wiring.scope.nodes[taker].output[0])
    takers = [wiring.scope.nodes[i] if i >= 0 else None for name in names for i in wiring.consumers[name]]
    others = [taker for taker in takers if taker is None or taker.op_type != "DequantizeLinear"]
    return bool(others) and all(taker is not None and _adds_constant(wiring, taker, names) for taker in others)


def _adds_constant(wiring: Wiring, node: onnx.NodeProto, names: Sequence[str]) -> bool:
    """Whether a node adds a constant, quantized or not, to one of some values."""
    places = {"Add": (0, 1), "QLinearAdd": (0, 3)}.get(node.op_type, ())
    summands = [node.input[place] for place in places if node.input[place] not in names]
    for name in summands:
        for _ in range(_LONGEST_CONSTANT):
            source = wiring.source(name)
            if source is None or not source[1].input:
                break
            name = source[1].input[0]
        if wiring.constant(name) is None and not wiring.unread(name):
            return False
    return len(summands) == 1


#: How many nodes may stand behind a constant that is added: what moves and quantizes it.
_LONGEST_CONSTANT = 4


def quantizer_behind(wiring: Wiring, index: int) -> tuple[int, Quantization] | None:
    """The QuantizeLinear that alone takes the output of a Relu or a Clip behind a layer with dequantized inputs.

    There onnxruntime and others compute the layer on integers, with the Relu in it; nothing else may stand between.
    """
    node = wiring.scope.nodes[index]
    takers = wiring.consumers[node.output[0]]
    layer = wiring.source(node.input[0])
    if len(takers) != 1 or takers[0] < 0 or layer is None or layer[1].op_type == "DequantizeLinear":
        return None
    before = (layer[0].source(name) for name in layer[1].input)
    taker = wiring.scope.nodes[takers[0]]
    if taker.op_type != "QuantizeLinear" or taker.input[0] != node.output[0]:
        return None
    if not any(one is not None and one[1].op_type == "DequantizeLinear" for one in before):
        return None
    found = quantization_of(wiring, taker, convolved=_layer(layer[1]) is Origin.CONVOLUTION)
    return (takers[0], found) if isinstance(found, Quantization) else None


def quantization_of(wiring: Wiring, node: onnx.NodeProto, *, convolved: bool = False) -> Quantization | str:
    """How the output of a QuantizeLinear or an operator on integers is quantized, or why JumpReLU cannot go behind."""
    kind = QLINEAR.get((node.domain, node.op_type))
    place = 2 if kind is None else kind.zero_point
    scale_name = node.input[place - 1] if len(node.input) >= place else ""
    zero_name = node.input[place] if len(node.input) > place else ""
    scale = constant_value(wiring, scale_name) if scale_name else None
    zero = constant_value(wiring, zero_name) if zero_name else _no_zero_point(node)
    if scale is None or zero is None or is_overridable(wiring, scale_name) or is_overridable(wiring, zero_name):
        return f"{_FOLDED} its scale or zero point is no constant"
    if scale.size != 1 or zero.size != 1:
        return f"{_FOLDED} it has one scale a channel"
    element_type = next((number for number, dtype in INTEGER_TYPES.items() if dtype == zero.dtype), 0)
    if not element_type or scale.dtype != np.float32:
        types = f"{zero.dtype} with a scale of {scale.dtype}"
        return f"{_FOLDED} {types} has no JumpReLU; quantize to 8 or 16 bits with scales of float32"
    domain = node.domain if kind is None else quantizer_domain(element_type, wiring.scope.opset)
    found = Quantization(
        element_type, float(scale.item()), int(zero.item()), scale_name, zero_name, domain, kind is None, convolved
    )
    problem = found.problem()
    return f"{_FOLDED} {problem}" if problem else found


def _no_zero_point(node: onnx.NodeProto) -> npt.NDArray[Any] | None:
    """The zero point of a QuantizeLinear without one: 0 of its output's type, uint8 where that is not given."""
    given = attribute_of(node, "output_dtype")
    element_type = int(onnx.TensorProto.UINT8) if given is None or not given.i else int(given.i)
    return np.zeros((), INTEGER_TYPES[element_type]) if element_type in INTEGER_TYPES else None


def _starts_at_zero(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether the integers of a QuantizeLinear or an operator on integers start at 0."""
    kind = QLINEAR.get((node.domain, node.op_type))
    place = 2 if kind is None else kind.zero_point
    if len(node.input) > place and node.input[place]:
        return _is_lowest(constant_value(wiring, node.input[place]))
    return kind is None and _is_lowest(_no_zero_point(node))


def _is_lowest(zero: npt.NDArray[Any] | None) -> bool:
    """Whether an array is the lowest integer of its type."""
    if zero is None or not zero.size:
        return False
    try:
        lowest = ml_dtypes.iinfo(zero.dtype).min  # type: ignore[no-untyped-call]
    except ValueError:  # no integers
        return False
    return not np.any(zero != lowest)


def _layer(node: onnx.NodeProto) -> Origin:
    if node.op_type in _CONVOLUTIONS:
        return Origin.CONVOLUTION
    return Origin.LINEAR if node.op_type in _LINEAR else Origin.OTHER


def _origins(wiring: Wiring, names: Iterable[str]) -> set[Origin]:
    """What may have given a negative number among values; nothing where none is ever negative."""
    waiting = [(wiring, name) for name in names]
    seen: set[tuple[Scope, str]] = set()
    found: set[Origin] = set()
    added = False
    while waiting:
        around, name = waiting.pop()
        home = around.home(name)
        if home is None or (home.scope, name) in seen:
            continue
        if len(seen) == _STEPS:
            return {*found, Origin.OTHER}
        seen.add((home.scope, name))
        produced = home.producer(name)
        # A chain of Identity is followed here step by step, not from each step anew.
        followed = produced is not None and produced[1].op_type in _UNARY
        value = None if followed else constant_value(home, name)
        if value is not None:
            if value.dtype.kind not in "bu" and not (value >= 0).all():
                found.add(Origin.LINEAR)
            continue
        if produced is None:
            found.add(Origin.INPUT)
            continue
        before = _negative_only_with(home, produced[1])
        if before is None:
            found.add(_layer(produced[1]))
        added |= produced[1].op_type == "Add" and not any(home.constant(one) is not None for one in before or ())
        waiting += [(home, one) for one in before or () if one]
    # A residual connection adds an input to a value; what adds a number to an input prepares it.
    return {*found, Origin.LINEAR} if added and Origin.INPUT in found else found


def _negative_only_with(wiring: Wiring, node: onnx.NodeProto) -> Sequence[str] | None:
    """The inputs one of which is negative where the output is; None where the output may be negative whatever they are.

    Where chooses between values by a condition that nothing is known of: it is JumpReLU in some of its forms, so no
    ReLU is claimed behind it.
    """
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") or (node.domain, node.op_type) in QLINEAR:
        return _quantized_only_with(wiring, node)
    if node.op_type in ("QLinearSigmoid", "QLinearSoftmax", OP_TYPE, QUANTIZED_OP_TYPE, ADD_OP_TYPE):
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


def _quantized_only_with(wiring: Wiring, node: onnx.NodeProto) -> Sequence[str] | None:
    """The same of what quantizes, dequantizes, or computes with integers."""
    if node.op_type == "DequantizeLinear" and not (len(node.input) > 2 and node.input[2]):
        source = wiring.source(node.input[0])
        starts = source is not None and source[1].op_type == "QuantizeLinear" and _starts_at_zero(*source)
    else:
        starts = _starts_at_zero(wiring, node)
    if starts:
        return ()
    kind = QLINEAR.get((node.domain, node.op_type))
    if kind is not None:
        return _values(wiring, node, kind) if kind.values(len(node.input)) else None
    value = constant_value(wiring, node.input[0])
    zero = constant_value(wiring, node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if value is not None and node.op_type == "DequantizeLinear":
        return None if (value < (0 if zero is None else zero)).any() else ()
    return list(node.input[:1])


def _values(wiring: Wiring, node: onnx.NodeProto, kind: QLinear) -> list[str]:
    """The values that an operator on integers takes, but those whose integers start at 0; zero points stand behind."""
    places = kind.values(len(node.input))
    return [node.input[i] for i in places if not _is_lowest(constant_value(wiring, node.input[i + 2]))]


def _clips_from_zero(wiring: Wiring, node: onnx.NodeProto) -> bool:
    given = attribute_of(node, "min")
    if given is not None and not given.ref_attr_name:
        return bool(given.f >= 0)
    minimum = constant_value(wiring, node.input[1]) if len(node.input) > 1 and node.input[1] else None
    return minimum is not None and bool((minimum >= 0).all())
