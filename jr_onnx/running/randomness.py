"""Does a model draw random numbers? Two runs of such a model differ, and cannot be compared."""

from __future__ import annotations

import onnx

from jr_onnx.graph.scopes import Scope, all_scopes, own_domain
from jr_onnx.sites.jumps import wiring_of

#: (domain, op_type). A seed does not help: it fixes what the first run of a session draws, not the second.
_DRAWING = {
    *(("", f"Random{kind}") for kind in ("Normal", "NormalLike", "Uniform", "UniformLike")),
    ("", "Bernoulli"),
    ("", "Multinomial"),
    ("com.microsoft", "Sampling"),
}

#: Which input of a Dropout says whether it trains, and so draws.
_TRAINING_MODE = 2


def why_random(model: onnx.ModelProto) -> str:
    """Why the outputs of a model are random, with the node that draws; empty if nothing draws.

    A Dropout draws where its training mode is true or not known, as one that is an input of the model.

    Args:
        model: or its skeleton.
    """
    for scope in all_scopes(model):
        for index, node in enumerate(scope.nodes):
            if _draws(scope, node):
                return f"its outputs are random: node '{scope.path_of(index)}' ({node.op_type}) draws numbers"
    return ""


def _draws(scope: Scope, node: onnx.NodeProto) -> bool:
    operator = own_domain(node.domain), node.op_type
    if operator != ("", "Dropout"):
        return operator in _DRAWING
    name = node.input[_TRAINING_MODE] if len(node.input) > _TRAINING_MODE else ""
    if not name:
        return False
    training = wiring_of(scope).constant(name)
    return training is None or bool(training.any())
