"""A JumpReLU that a model has already, written out in ONNX's operators: as sparse autoencoders have it, when exported.

written as               as in                              of JumpReLU it differs
Relu(x) * Cast(x > t)    SAELens, Gemma Scope's tutorial    where it gives -0.0
x * Cast(x > t)          SAELens, in training               where it gives -0.0, and at -inf, where it gives NaN
Where(x > t, x, 0)       torch.where                        at NaN, where it gives 0

For every other x they are the same, if the thresholds t are finite and not negative.
Sources: sae_lens/saes/jumprelu_sae.py of SAELens; arXiv 2407.14435 (JumpReLU in sparse autoencoders).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from jr_onnx.conversion.forms.recognise import Match
from jr_onnx.conversion.forms.table import Form
from jr_onnx.conversion.graph.scopes import own_domain
from jr_onnx.conversion.graph.wiring import Wiring, constant_value, is_overridable
from jr_onnx.conversion.sites.matchers import A_DEFAULT, Found, SiteKind

_ZEROS = "the sign of a zero is lost"

GATED_RELU = Form("Relu(x) * (x > t)", (), {}, differs=_ZEROS)
GATED = Form("x * (x > t)", (), {}, differs=f"-inf becomes 0, which was NaN, and {_ZEROS}")
CHOSEN = Form("Where(x > t, x, 0)", (), {}, differs="NaN goes through, which became 0")


def written_out(wiring: Wiring, index: int) -> Found | str | None:
    """The JumpReLU that a node ends, or why it is not taken for one; None where it does not look like one."""
    for form, x, nodes, compared in _candidates(wiring, index):
        threshold = _threshold(wiring, compared, x)
        if threshold is None:
            continue
        values = constant_value(wiring, threshold)
        if values is not None and not values.any():
            return None  # a Relu
        why_not = _why_not(wiring, threshold)
        if why_not:
            return f"JumpReLU written as {form.name}, but its threshold {why_not}"
        node = wiring.scope.nodes[index]
        zero = constant_value(wiring, node.input[2]) if form is CHOSEN else None
        if zero is not None and is_overridable(wiring, node.input[2]):
            return f"JumpReLU written as {form.name}, but its 0 is {A_DEFAULT}"
        y = node.output[0]
        gone = [index]
        for one in (*nodes, compared):  # what others take too stays for them
            if set(wiring.consumers[wiring.scope.nodes[one].output[0]]) <= set(gone):
                gone.insert(0, one)
        match = Match(form, tuple(gone), index, {"x": x, "y": y, "jump": threshold}, False)
        shape = () if zero is None else zero.shape
        return Found(SiteKind.HARDENED, x, y, match.nodes, hardened=match, zero=shape)
    return None


def compared_values(model: onnx.ModelProto) -> set[str]:
    """The names that a value may be compared with; in bodies and functions none, where exporters put no weights."""
    return {name for node in model.graph.node if node.op_type in ("Greater", "Less") for name in node.input}


def _candidates(wiring: Wiring, index: int) -> Iterator[tuple[Form, str, tuple[int, ...], int]]:
    """How a node may end a JumpReLU: the form, x, the nodes between, and the comparison."""
    node = wiring.scope.nodes[index]
    if own_domain(node.domain) or not node.output:
        return
    if node.op_type == "Where" and len(node.input) == 3:
        compared, zero = wiring.producer(node.input[0]), constant_value(wiring, node.input[2])
        if compared is not None and zero is not None and not zero.any():
            yield CHOSEN, node.input[1], (), compared[0]
    if node.op_type != "Mul" or len(node.input) != 2:
        return
    for factor, mask in (tuple(node.input), tuple(reversed(node.input))):
        cast = wiring.producer(mask)
        compared = wiring.producer(cast[1].input[0]) if cast is not None and _is(cast[1], "Cast") else None
        if cast is None or compared is None:
            continue
        relu = wiring.producer(factor)
        if relu is not None and _is(relu[1], "Relu"):
            yield GATED_RELU, relu[1].input[0], (relu[0], cast[0]), compared[0]
        yield GATED, factor, (cast[0],), compared[0]


def _threshold(wiring: Wiring, compared: int, x: str) -> str | None:
    """What x is compared with, if a node says where x is above it."""
    node = wiring.scope.nodes[compared]
    if own_domain(node.domain) or len(node.input) != 2:
        return None
    pair = {"Greater": (0, 1), "Less": (1, 0)}.get(node.op_type)
    return str(node.input[pair[1]]) if pair is not None and node.input[pair[0]] == x else None


def _why_not(wiring: Wiring, threshold: str) -> str:
    values = constant_value(wiring, threshold)
    if values is None:
        return f"is {wiring.unread(threshold) or 'no constant'}"
    if is_overridable(wiring, threshold):
        return f"is {A_DEFAULT}"
    if sum(size != 1 for size in values.shape) > 1:
        return "differs along more than one axis, which the kernels do not take"
    numbers = values.astype(np.float64)
    return "" if np.isfinite(numbers).all() and (numbers >= 0).all() else "is negative or not finite in places"


def _is(node: onnx.NodeProto, op_type: str) -> bool:
    return bool(node.op_type == op_type and not own_domain(node.domain) and len(node.input) == 1)
