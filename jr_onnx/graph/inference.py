"""ONNX's shape inference, kept from what it crashes on.

A few operators read the type of their input there without asking whether it has one. Where nothing is known of it (a
graph input without a type, what an unknown operator gives), that ends the process.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx.shape_inference

from jr_onnx.graph.scopes import Scope, all_scopes, own_domain

#: (domain, op_type): all of ONNX 1.17 to 1.23 for which that is so, as a test of every version of every operator shows.
_CRASHING = frozenset({("", "RegexFullMatch"), ("ai.onnx.ml", "DictVectorizer"), ("ai.onnx.ml", "LabelEncoder")})

#: What goes behind the operator of a node that the inference must pass over: it does so where it knows no operator.
_ASIDE = "#aside"


def infer_shapes(model: onnx.ModelProto, *, strict: bool = False) -> onnx.ModelProto:
    """`onnx.shape_inference.infer_shapes`; nodes that would crash it are passed over until their inputs have types.

    Args:
        strict: check types, and raise for whatever cannot be inferred.

    Raises:
        InferenceError, ValidationError, ValueError, RuntimeError: what ONNX's own raises.
    """
    if not any(map(_crashes, _nodes(model))):
        return onnx.shape_inference.infer_shapes(model, check_type=strict, strict_mode=strict)
    inferred, aside, before = model, -1, -2
    while aside != before:  # with each round more values have types
        known = onnx.ModelProto()
        known.CopyFrom(inferred)
        aside, before = _set_aside(known), aside
        inferred = onnx.shape_inference.infer_shapes(known, check_type=strict, strict_mode=strict)
        for node in _nodes(inferred):
            node.op_type = node.op_type.removesuffix(_ASIDE)
    return inferred


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return (node for scope in all_scopes(model) for node in scope.nodes)


def _crashes(node: onnx.NodeProto) -> bool:
    return (own_domain(node.domain), node.op_type) in _CRASHING


def _set_aside(model: onnx.ModelProto) -> int:
    """How many nodes the inference must pass over; those of functions too, whose values have types only in a call."""
    number = 0
    for scope in all_scopes(model):
        for node in filter(_crashes, scope.nodes):
            if not all(_has_type(scope, name) for name in node.input):
                node.op_type = f"{node.op_type}{_ASIDE}"
                number += 1
    return number


def _has_type(scope: Scope, name: str) -> bool:
    around: Scope | None = scope
    while around is not None:
        graph = around.graph
        if graph is not None:
            values = (*graph.value_info, *graph.input, *graph.output)
            if any(value.name == name and value.type.WhichOneof("value") for value in values):
                return True
            if any(tensor.name == name for tensor in graph.initializer):
                return True
        around = around.parent
    return False
