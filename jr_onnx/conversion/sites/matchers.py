"""What each operator that may be a ReLU says of itself: one short function an operator, and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnx

from jr_onnx.conversion.forms.recognise import Match
from jr_onnx.conversion.graph.names import ACTIVATIONS, ADD_OP_TYPE, DOMAIN, mark_of
from jr_onnx.conversion.graph.scopes import attribute_of, own_domain
from jr_onnx.conversion.graph.wiring import Wiring, constant_value, is_overridable
from jr_onnx.conversion.quantization import Quantization
from jr_onnx.conversion.sites.bounds import GATE, is_quantized_gate
from jr_onnx.conversion.sites.quantized import QLINEAR, folded, quantizer_behind
from jr_onnx.conversion.sites.spelled_out import shape_of_zero


class SiteKind(Enum):
    """What stands at a site now."""

    RELU = "Relu"
    HARDENED = "JumpReLU"
    FUSED = "fused Relu"
    CLIP = "Clip"
    QUANTIZED = "Relu of integers"
    RECURRENT = "recurrent Relu"

    @property
    def stays(self) -> bool:
        """Whether the node itself stays, and JumpReLU goes behind it."""
        return self in (SiteKind.FUSED, SiteKind.CLIP, SiteKind.QUANTIZED)


@dataclass(frozen=True)
class Found:
    """A site before its types are looked up; the attributes are those of `jr_onnx.conversion.sites.survey.Site`.

    Attributes:
        zero: the shape of the constant that the input is compared with: it must not widen the shape of the input.
        formula: how several operators spell this Relu out; such a one is listed, not converted.
        behind: what stays in front of a JumpReLU that was put behind it.
        quantization: how the integers that JumpReLU compares stand for numbers.
        named: the node that has the name of the site, where that is not the one that gives its output.
    """

    kind: SiteKind
    input: str
    output: str
    nodes: tuple[int, ...]
    rectified: bool = False
    hardened: Match | None = None
    zero: tuple[int, ...] = ()
    formula: str = ""
    behind: Found | None = None
    quantization: Quantization | None = None
    named: int | None = None


@dataclass(frozen=True)
class OtherActivation:
    """An activation that may be taken for a ReLU and is none; `what` says what it does."""

    what: str


#: Of a constant that may be another one when the model runs.
A_DEFAULT = "the default of a graph input, which may be overridden; make it an initializer alone"

#: A site, or why it looks like one and is none, or what else it is, or nothing to say.
Verdict = Found | str | OtherActivation | None


def operator_name(node: onnx.NodeProto) -> str:
    """The operator of a node, with its domain where that is not ONNX's own."""
    return f"{node.domain}.{node.op_type}" if own_domain(node.domain) else node.op_type


def _relu(wiring: Wiring, index: int) -> Verdict:
    node = wiring.scope.nodes[index]
    if len(node.input) != 1 or len(node.output) != 1 or not node.output[0]:
        return "it does not have one input and one output"
    return Found(SiteKind.RELU, node.input[0], node.output[0], (index,))


def _fused(wiring: Wiring, index: int) -> Verdict:
    """onnxruntime's Conv or Gemm with an activation: Relu, or Clip with its bounds in activation_params."""
    node = wiring.scope.nodes[index]
    activation, parameters = attribute_of(node, "activation"), attribute_of(node, "activation_params")
    if activation is None or not node.output or not node.output[0]:
        return None
    first = next(iter(parameters.floats), None) if parameters is not None else None
    if activation.s == b"Relu" or (activation.s == b"LeakyRelu" and first == 0):
        return Found(SiteKind.FUSED, node.input[0], node.output[0], (index,))
    if activation.s == b"Clip" and first == 0:
        return Found(SiteKind.CLIP, node.input[0], node.output[0], (index,))
    named = activation.s.decode(errors="replace")
    return OtherActivation(f"a fused {named}") if named in ("LeakyRelu", "ThresholdedRelu") else None


def _clip(wiring: Wiring, index: int) -> Verdict:
    """Clip with minimum 0; the bounds are attributes before opset 11 and inputs from then on."""
    node = wiring.scope.nodes[index]
    if not node.output or not node.output[0]:
        return None
    minimum = attribute_of(node, "min")
    if minimum is not None and minimum.ref_attr_name:  # in a function: whatever the call says
        return "its minimum is not a constant"
    if minimum is not None:
        lowest = np.asarray(minimum.f)
    elif len(node.input) > 1 and node.input[1]:
        constant = constant_value(wiring, node.input[1])
        if constant is None:
            return f"its minimum is {wiring.unread(node.input[1]) or 'not a constant'}"
        lowest = constant
    else:
        return None
    if lowest.size != 1 or lowest.any():
        return None
    if minimum is None and is_overridable(wiring, node.input[1]):
        return f"its minimum is {A_DEFAULT}"
    return Found(SiteKind.CLIP, node.input[0], node.output[0], (index,))


def _recurrent(wiring: Wiring, index: int) -> Verdict:
    """RNN, GRU, LSTM or DynamicQuantizeLSTM; the names of activations have any case, as onnxruntime reads them."""
    node = wiring.scope.nodes[index]
    activations = attribute_of(node, "activations")
    if activations is not None and activations.ref_attr_name:
        return "its activations are whatever the call of its function says"
    output = next(filter(None, node.output), None)
    names = {name.lower() for name in activations.strings} if activations is not None else set()
    if output is None or not names & {b"relu", b"thresholdedrelu"}:
        return None
    if b"relu" not in names and mark_of(node, ACTIVATIONS) is None:
        return "the model's own threshold in its activations"
    return Found(SiteKind.RECURRENT, node.input[0], output, (index,))


def _with_add(_wiring: Wiring, _index: int) -> Verdict:
    return "is optimised for CUDA; harden or change the model that it was made from"


def _max(wiring: Wiring, index: int) -> Verdict:
    node = wiring.scope.nodes[index]
    if len(node.input) != 2:
        return None
    for x, other in (node.input, reversed(node.input)):
        zero = shape_of_zero(wiring, other, x)
        if zero is not None and is_overridable(wiring, other):
            return f"its 0 is {A_DEFAULT}"
        if zero is not None:
            return Found(SiteKind.RELU, x, node.output[0], (index,), zero=zero)
        unread = wiring.unread(other)
        if unread:
            return f"Max with a constant that is {unread}; where it is 0, this is a Relu"
    return None


def _leaky(wiring: Wiring, index: int) -> Verdict:
    node = wiring.scope.nodes[index]
    alpha = attribute_of(node, "alpha")
    if alpha is not None and alpha.ref_attr_name:
        return "its slope is whatever the call of its function says"
    slope = alpha.f if alpha is not None else 0.01
    if slope == 0 and own_domain(node.domain):
        return "a Relu of integers"
    if slope == 0:
        return Found(SiteKind.RELU, node.input[0], node.output[0], (index,))
    return OtherActivation(f"it gives {slope:g} x below 0")


def _elu(wiring: Wiring, index: int) -> Verdict:
    """Elu, and Selu, which is gamma times Elu. Celu with alpha 0 divides by it: that is no Relu, but NaN."""
    node = wiring.scope.nodes[index]
    alpha, gamma = attribute_of(node, "alpha"), attribute_of(node, "gamma")
    if any(given is not None and given.ref_attr_name for given in (alpha, gamma)):
        return "its alpha or gamma is whatever the call of its function says"
    if alpha is None or alpha.f != 0:
        return _other(wiring, index)
    if node.op_type == "Selu" and (gamma is None or gamma.f != 1):
        return "a Relu times gamma, written as Selu with alpha 0; write it as Relu and Mul"
    return Found(SiteKind.RELU, node.input[0], node.output[0], (index,))


def _prelu(wiring: Wiring, index: int) -> Verdict:
    node = wiring.scope.nodes[index]
    slope = constant_value(wiring, node.input[1]) if len(node.input) == 2 else None
    if slope is None or not slope.size:
        unread = wiring.unread(node.input[1]) if len(node.input) == 2 else ""
        return OtherActivation(f"its slopes below 0 are {unread or 'no constants'}")
    if not slope.any() and is_overridable(wiring, node.input[1]):
        return f"its slopes below 0 are {A_DEFAULT}"
    if not slope.any():  # onnxruntime widens the shape of x to that of the slope
        return Found(SiteKind.RELU, node.input[0], node.output[0], (index,), zero=slope.shape)
    lowest, highest = float(slope.min()), float(slope.max())
    slopes = f"{lowest:g}" if lowest == highest else f"{lowest:g} to {highest:g} times"
    return OtherActivation(f"it gives {slopes} x below 0")


def _folded(wiring: Wiring, index: int) -> Verdict:
    """A QuantizeLinear or an operator on integers, with a ReLU folded into its zero point."""
    found = folded(wiring, index)
    if not isinstance(found, Quantization):
        return found
    if is_quantized_gate(wiring, index, float(found.dequantized(np.iinfo(found.dtype).max))):
        return GATE
    y = wiring.scope.nodes[index].output[0]
    return Found(SiteKind.QUANTIZED, y, y, (index,), rectified=True, quantization=found)


def on_integers(wiring: Wiring, index: int, found: Found) -> Found:
    """A Relu or a Clip as what is quantized behind it, where it is a part of a layer that is computed on integers."""
    node = wiring.scope.nodes[index]
    if (node.op_type != "Relu" and found.kind is not SiteKind.CLIP) or own_domain(node.domain):
        return found
    behind = quantizer_behind(wiring, index)
    if behind is None:
        return found
    place, quantization = behind
    y = wiring.scope.nodes[place].output[0]
    kind = SiteKind.CLIP if found.kind is SiteKind.CLIP else SiteKind.QUANTIZED
    return Found(kind, y, y, (place,), rectified=True, quantization=quantization, named=index)


def _other(_wiring: Wiring, _index: int) -> Verdict:
    return OtherActivation("its values below 0 are not 0")


def _experts(wiring: Wiring, index: int) -> Verdict:
    """A mixture of experts; without the attribute its activation is Relu."""
    node = wiring.scope.nodes[index]
    return _INSIDE if attribute_of(node, "activation_type") is None else activation_inside(node)


_INSIDE = "a Relu inside of the operator, where no JumpReLU can be put"


def activation_inside(node: onnx.NodeProto) -> Verdict:
    """What the attributes of an operator that is not known say of an activation in it."""
    for name in ("activation", "activation_type", "activations", "fused_activation"):
        attribute = attribute_of(node, name)
        given = () if attribute is None else (attribute.s, *attribute.strings)
        if any(value.lower() in (b"relu", b"relu2", b"relu_squared") for value in given):
            return _INSIDE
    return None


def _thresholded(wiring: Wiring, index: int) -> Verdict:
    alpha = attribute_of(wiring.scope.nodes[index], "alpha")
    return f"the model's own threshold: alpha = {alpha.f if alpha is not None else 1.0:g}"


#: (domain, op_type) -> what it says of itself.
MATCHERS: Mapping[tuple[str, str], Callable[[Wiring, int], Verdict]] = {
    ("", "Relu"): _relu,
    ("", "Clip"): _clip,
    ("", "RNN"): _recurrent,
    ("", "GRU"): _recurrent,
    ("", "LSTM"): _recurrent,
    ("", "Max"): _max,
    (DOMAIN, ADD_OP_TYPE): _with_add,
    ("", "ThresholdedRelu"): _thresholded,
    ("com.microsoft", "FusedConv"): _fused,
    ("com.microsoft", "FusedGemm"): _fused,
    ("com.microsoft", "NhwcFusedConv"): _fused,
    ("com.microsoft.nchwc", "Conv"): _fused,
    ("com.microsoft", "FusedMatMulActivation"): _fused,
    ("com.microsoft", "DynamicQuantizeLSTM"): _recurrent,
    ("com.microsoft", "MoE"): _experts,
    ("com.microsoft", "QMoE"): _experts,
    ("", "LeakyRelu"): _leaky,
    ("", "PRelu"): _prelu,
    ("com.microsoft", "QLinearLeakyRelu"): _leaky,
    ("", "Elu"): _elu,
    ("", "Selu"): _elu,
    **{("", name): _other for name in ("Celu", "Gelu", "HardSwish", "Mish", "Softplus", "Swish")},
    **{("com.microsoft", name): _other for name in ("BiasGelu", "FastGelu", "Gelu", "QuickGelu")},
    ("", "QuantizeLinear"): _folded,
    ("com.microsoft", "QuantizeLinear"): _folded,
    **dict.fromkeys(QLINEAR, _folded),
}
