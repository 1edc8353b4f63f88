"""What each operator that may be a ReLU says of itself: one short function an operator, and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnx

from jr_onnx.forms.recognise import Match
from jr_onnx.forms.table import ADD_OP_TYPE, DOMAIN
from jr_onnx.graph.scopes import own_domain
from jr_onnx.graph.wiring import Wiring
from jr_onnx.marks import ACTIVATIONS, mark_of


class SiteKind(Enum):
    """What stands at a site now."""

    RELU = "Relu"
    HARDENED = "JumpReLU"
    FUSED = "fused Relu"
    CLIP = "Clip"
    RECURRENT = "recurrent Relu"

    @property
    def stays(self) -> bool:
        """Whether the node itself stays, and JumpReLU goes behind it."""
        return self in (SiteKind.FUSED, SiteKind.CLIP)


@dataclass(frozen=True)
class Found:
    """A site before its types are looked up; the attributes are those of `jr_onnx.sites.survey.Site`."""

    kind: SiteKind
    input: str
    output: str
    nodes: tuple[int, ...]
    rectified: bool = False
    hardened: Match | None = None


#: A site, or why it looks like one and is none, or nothing to say.
Verdict = Found | str | None


def operator_name(node: onnx.NodeProto) -> str:
    """The operator of a node, with its domain where that is not ONNX's own."""
    return f"{node.domain}.{node.op_type}" if own_domain(node.domain) else node.op_type


def attribute_of(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    """An attribute by name; None where the node does not have it."""
    return next((attribute for attribute in node.attribute if attribute.name == name), None)


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
    if activation.s == b"Relu":
        return Found(SiteKind.FUSED, node.input[0], node.output[0], (index,))
    if activation.s == b"Clip" and parameters is not None and list(parameters.floats[:1]) == [0.0]:
        return Found(SiteKind.CLIP, node.input[0], node.output[0], (index,))
    return None


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
        constant = wiring.constant(node.input[1])
        if constant is None:
            return "its minimum is not a constant"
        lowest = constant
    else:
        return None
    return (
        Found(SiteKind.CLIP, node.input[0], node.output[0], (index,)) if lowest.size == 1 and not lowest.any() else None
    )


def _recurrent(wiring: Wiring, index: int) -> Verdict:
    """RNN, GRU or LSTM; the names of activations are matched in any case, as onnxruntime does it."""
    node = wiring.scope.nodes[index]
    activations = attribute_of(node, "activations")
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
    inputs = wiring.scope.nodes[index].input
    constants = [wiring.constant(name) for name in inputs] if len(inputs) == 2 else []
    if any(constant is not None and not constant.any() for constant in constants):
        return "a Relu written as Max(x, 0); write it as Relu to have it converted"
    return None


def _thresholded(wiring: Wiring, index: int) -> Verdict:
    alpha = attribute_of(wiring.scope.nodes[index], "alpha")
    return f"the model's own threshold: alpha = {alpha.f if alpha is not None else 1.0:g}"


#: Operators whose output may be negative, behind which a quantizer that starts at 0 is a Relu.
_LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "BatchNormalization"})


def _quantizer(zero_point: int, linear_input_only: bool) -> Callable[[Wiring, int], Verdict]:
    """A quantizing operator whose output starts at 0; `zero_point` is the index of that input."""

    def match(wiring: Wiring, index: int) -> Verdict:
        node = wiring.scope.nodes[index]
        if linear_input_only:
            producer = wiring.producer(node.input[0]) if node.input else None
            if producer is None or producer[1].op_type not in _LINEAR:
                return None
        if len(node.input) <= zero_point or not node.input[zero_point]:
            return None
        zero = wiring.constant(node.input[zero_point])
        if zero is None or zero.dtype.kind not in "iu" or (zero != np.iinfo(zero.dtype).min).any():
            return None
        return "a Relu is folded into its zero point; harden the model before it is quantized"

    return match


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
    ("", "QuantizeLinear"): _quantizer(2, linear_input_only=True),
    ("", "QLinearConv"): _quantizer(7, linear_input_only=False),
    ("", "QLinearMatMul"): _quantizer(7, linear_input_only=False),
    ("com.microsoft", "QLinearAdd"): _quantizer(7, linear_input_only=False),
    ("com.microsoft", "QGemm"): _quantizer(8, linear_input_only=False),
}
