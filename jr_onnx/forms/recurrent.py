"""The activations of RNN, GRU and LSTM: Relu becomes ThresholdedRelu, with the jump as its activation_alpha.

The alphas of a node are one list for all its activations: each activation that has an alpha takes the next one, and
those behind the end of the list have their defaults. A new alpha in the middle therefore needs those before it
written out. Source: ONNX operator RNN; the defaults are those of the operators of the same names, and of
onnxruntime's rnn_helpers.cc.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx

from jr_onnx.forms.write import AttributeValue

#: The activations that take an alpha, and its default.
_ALPHAS: Mapping[bytes, float] = {
    b"affine": 1.0,
    b"elu": 1.0,
    b"hardsigmoid": 0.2,
    b"leakyrelu": 0.01,
    b"scaledtanh": 1.0,
    b"thresholdedrelu": 1.0,
}


def with_threshold(node: onnx.NodeProto, jump: float, *, hardened: bool) -> dict[str, AttributeValue]:
    """The attributes `activations` and `activation_alpha` in which every Relu is a ThresholdedRelu at `jump`.

    `hardened`: the model was hardened before, so its ThresholdedRelu are JumpReLU and get the new jump.
    """
    names: list[bytes] = []
    alphas: list[float] = []
    for name, alpha in _activations(node):
        kind = name.lower()
        if kind == b"relu" or (hardened and kind == b"thresholdedrelu"):
            name, alpha = b"ThresholdedRelu", jump
        names.append(name)
        if alpha is not None:
            alphas.append(alpha)
    return {"activations": names, "activation_alpha": alphas}


def thresholds(node: onnx.NodeProto) -> list[float]:
    """The alpha of each ThresholdedRelu among the activations."""
    return [alpha for name, alpha in _activations(node) if alpha is not None and name.lower() == b"thresholdedrelu"]


def _activations(node: onnx.NodeProto) -> Iterator[tuple[bytes, float | None]]:
    """Each activation with its alpha, if it takes one."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    given = iter(attributes["activation_alpha"].floats if "activation_alpha" in attributes else ())
    for name in attributes["activations"].strings if "activations" in attributes else ():
        yield name, next(given, _ALPHAS[name.lower()]) if name.lower() in _ALPHAS else None
