"""The activations of RNN, GRU and LSTM: Relu becomes ThresholdedRelu, with the jump as its activation_alpha.

The alphas of a node are one list for all its activations: each activation that has an alpha takes the next one, and
those behind the end of the list have their defaults. A new alpha in the middle therefore needs those before it
written out. Source: ONNX operator RNN; onnxruntime's rnn_helpers.cc.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

import onnx

from jr_onnx.conversion.forms.write import AttributeValue
from jr_onnx.conversion.graph.names import ACTIVATIONS, mark_of

#: The activations that take an alpha, and its default. ONNX says 1 for ThresholdedRelu, and nothing for Affine and
#: ScaledTanh; these are onnxruntime's, so that writing one out changes nothing there.
_ALPHAS: Mapping[bytes, float] = {
    b"affine": 0.0,
    b"elu": 1.0,
    b"hardsigmoid": 0.2,
    b"leakyrelu": 0.01,
    b"scaledtanh": 0.0,
    b"thresholdedrelu": 0.0,
}


def with_threshold(node: onnx.NodeProto, jump: float) -> tuple[dict[str, AttributeValue], dict[str, str]]:
    """The attributes in which every Relu is a ThresholdedRelu at `jump`, and the marks that say which those are.

    A node that is marked already gets the new jump where it had the old one.
    """
    marked = _marked(node)
    names: list[bytes] = []
    alphas: list[float] = []
    needed = 0
    places: list[str] = []
    for place, (name, alpha, explicit) in enumerate(_activations(node)):
        kind = name.lower()
        if kind == b"relu" or (place in marked and kind == b"thresholdedrelu"):
            name, alpha, explicit = b"ThresholdedRelu", jump, True
            places.append(str(place))
        names.append(name)
        if alpha is not None:
            alphas.append(alpha)
        if explicit:
            needed = len(alphas)
    if node.op_type == "RNN":
        # onnxruntime up to 1.28 takes the alpha of the n-th direction from the n-th place, and there must be one.
        alphas += alphas[-1:] * (len(names) - len(alphas))
    else:
        del alphas[needed:]
    return {"activations": names, "activation_alpha": alphas}, {ACTIVATIONS: ",".join(places)}


def without_threshold(node: onnx.NodeProto) -> dict[str, AttributeValue | None]:
    """The attributes in which every activation that is marked is a Relu again; None for one that goes."""
    marked = _marked(node)
    names: list[bytes] = []
    alphas: list[float] = []
    for place, (name, alpha, explicit) in enumerate(_activations(node)):
        is_ours = place in marked and name.lower() == b"thresholdedrelu"
        names.append(b"Relu" if is_ours else name)
        if explicit and alpha is not None and not is_ours:
            alphas.append(alpha)
    return {"activations": names, "activation_alpha": alphas or None}


def thresholds(node: onnx.NodeProto) -> list[float]:
    """The alpha of each activation that is marked as a JumpReLU."""
    marked = _marked(node)
    return [
        alpha
        for place, (name, alpha, _) in enumerate(_activations(node))
        if place in marked and name.lower() == b"thresholdedrelu" and alpha is not None
    ]


def _marked(node: onnx.NodeProto) -> set[int]:
    """Which activations are marked as a JumpReLU."""
    places = (mark_of(node, ACTIVATIONS) or "").split(",")
    return {int(place) for place in places if place.isdecimal() and len(place) < 4}


def _activations(node: onnx.NodeProto) -> Iterator[tuple[bytes, float | None, bool]]:
    """Each activation with its alpha, if it takes one, and whether that is written out."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    given = deque(attributes["activation_alpha"].floats if "activation_alpha" in attributes else ())
    for name in attributes["activations"].strings if "activations" in attributes else ():
        kind = name.lower()
        explicit = bool(given) and kind in _ALPHAS
        yield name, given.popleft() if explicit else _ALPHAS.get(kind), explicit
