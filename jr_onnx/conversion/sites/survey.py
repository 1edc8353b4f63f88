"""Where a model has a ReLU: every site in every scope, and what looks like one but is left alone, with the reason.

site                                                          converted to
Relu; LeakyRelu, PRelu and Elu of 0 below 0; Max(x, 0)        JumpReLU in its place
JumpReLU, or any form of it that jr-onnx wrote before         JumpReLU with the new jump in its place
FusedConv, FusedGemm, nchwc.Conv with activation Relu         JumpReLU behind it
Clip with minimum 0 (ReLU6), if asked for                     JumpReLU behind it
QuantizeLinear and QLinear operators that fold a Relu         JumpReLU of the integers behind it
RNN, GRU, (DynamicQuantize)LSTM with Relu as an activation    ThresholdedRelu there, with activation_alpha
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import onnx

from jr_onnx.conversion.element_types import FLOAT, NUMPY_TYPES, type_name
from jr_onnx.conversion.forms.recognise import Match
from jr_onnx.conversion.forms.table import LOWEST_OPSET
from jr_onnx.conversion.forms.write import is_jump_relu
from jr_onnx.conversion.graph.names import DOMAIN
from jr_onnx.conversion.graph.scopes import Scope, attribute_of, own_domain
from jr_onnx.conversion.graph.value_types import Dimension, ValueType, ValueTypes
from jr_onnx.conversion.graph.wiring import Wiring, constant_value
from jr_onnx.conversion.metadata import Record, record_of
from jr_onnx.conversion.quantization import Quantization
from jr_onnx.conversion.sites.bounds import GATE, GUARD, is_gate, is_guard
from jr_onnx.conversion.sites.hardened import covered_by, hardened_in, only_covered, quantization_at
from jr_onnx.conversion.sites.matchers import (
    MATCHERS,
    Found,
    OtherActivation,
    SiteKind,
    Verdict,
    activation_inside,
    on_integers,
    operator_name,
)
from jr_onnx.conversion.sites.spelled_out import spelled_out
from jr_onnx.conversion.sites.written_out import written_out

#: Why a Clip with minimum 0 is left alone.
WITH_CLIP_ONLY = "a Clip is converted with `clip=True` only"

#: What may be the lower bound in a gate.
_IN_GATES = (SiteKind.RELU, SiteKind.CLIP)


@dataclass(frozen=True)
class Site:
    """One place in a model where JumpReLU can be put.

    Attributes:
        path: the scope path, which tells the site from all others: "If_3/then_branch/Relu_1".
        name: the node's name, as it was before it was hardened; may be empty.
        op_type: the node's operator, with its domain where that is not ONNX's own.
        kind: what stands there.
        element_type: `TensorProto.DataType` of the input and the output; 0 where it is not known.
        shape: of the input and the output; None where the rank is unknown.
        opset: the version of ONNX's operators that may be written here. In a function that is the older one of its own
            and the model's, because onnxruntime inlines functions at the model's.
        input: the value that the site reads.
        output: the value that the site gives.
        problem: why the site cannot be converted; empty if it can.
        scope: where it stands.
        nodes: the indices of the nodes that make it up; the last gives the output.
        hardened: the form of JumpReLU that stands there already.
        rectified: whether the input of JumpReLU is never negative.
        behind: what a JumpReLU was put behind; the name is that node's.
        blocked: whether the value is in onnxruntime's blocked NCHWc layout, in which there is no axis of channels.
        channels_last: whether the last axis is that of channels.
        quantization: how the integers that JumpReLU compares stand for numbers; None where it compares numbers.
    """

    path: str
    name: str
    op_type: str
    kind: SiteKind
    element_type: int
    shape: tuple[Dimension, ...] | None
    opset: int
    input: str
    output: str
    problem: str
    scope: Scope = field(repr=False)
    nodes: tuple[int, ...] = field(repr=False)
    hardened: Match | None = field(repr=False)
    rectified: bool = False
    behind: Found | None = field(default=None, repr=False)
    blocked: bool = False
    channels_last: bool = False
    quantization: Quantization | None = None

    @property
    def jump_type(self) -> int:
        """The element type of the jump: the site's own, but float for the jump of integers or of an activation."""
        return FLOAT if self.quantization is not None or self.kind is SiteKind.RECURRENT else self.element_type


@dataclass(frozen=True)
class LeftAlone:
    """A node that looks like a ReLU and is not converted, and why; `scope` is the path of its scope alone."""

    path: str
    scope: str
    name: str
    op_type: str
    reason: str


@dataclass(frozen=True)
class Survey:
    """All that was found in a model, in the order of its nodes.

    Attributes:
        others: activations that may be taken for a ReLU and are none, with what they do.
    """

    sites: tuple[Site, ...]
    left_alone: tuple[LeftAlone, ...]
    others: tuple[LeftAlone, ...]


def survey(model: onnx.ModelProto, scopes: tuple[Scope, ...], *, clip: bool) -> Survey:
    """Find the sites of a model; payloads of tensors are not needed.

    Args:
        model: the model, or its skeleton.
        scopes: all its scopes.
        clip: whether Clip with minimum 0 is a site.

    """
    types, record = ValueTypes(model, scopes), record_of(model)
    sites: list[Site] = []
    left: list[LeftAlone] = []
    others: list[LeftAlone] = []
    wirings: dict[Scope | None, Wiring] = {}
    for scope in scopes:
        if is_jump_relu(scope.outermost.function):
            continue  # the body of jr_onnx::JumpReLU itself
        wiring = wirings[scope] = Wiring(scope, wirings.get(scope.parent))
        opset = min(scope.opset, scopes[0].opset)
        for index, verdict in _in_scope(wiring, types, record, clip=clip):
            item = _typed(verdict, scope, index, opset, types) if isinstance(verdict, Found) else verdict
            if isinstance(item, Site):
                sites.append(item)
            elif isinstance(item, OtherActivation):
                others.append(_left_alone(scope, index, f"no ReLU: {item.what}"))
            else:
                left.append(_left_alone(scope, index, item))
    return Survey(tuple(sites), tuple(left), tuple(others))


def _left_alone(scope: Scope, index: int, reason: str) -> LeftAlone:
    node = scope.nodes[index]
    return LeftAlone(scope.path_of(index), scope.path, node.name, operator_name(node), reason)


def _in_scope(
    wiring: Wiring, types: ValueTypes, record: Record, *, clip: bool
) -> Iterator[tuple[int, Found | str | OtherActivation]]:
    scope = wiring.scope
    known = hardened_in(wiring, record)
    inside = {index for match in known.values() for index in match.nodes[:-1]}
    behind = {index: _stays_before(wiring, match, types) for index, match in known.items()}
    fronts = {front.nodes[-1] for front in behind.values() if front is not None}
    covered = covered_by(wiring, known)
    for index in range(len(scope.nodes)):
        if index in inside:
            continue
        found: Verdict
        if index in known:
            match = known[index]
            front = behind[index]
            quantization = quantization_at(wiring, match, front)
            found = Found(
                SiteKind.HARDENED, match.x, match.y, match.nodes, match.rectified, match, (), "", front, quantization
            )
        else:
            found = _verdict(wiring, index, types)
            if isinstance(found, Found):
                left, found = _why_left(wiring, index, found, clip=clip), on_integers(wiring, index, found)
                stays = index in fronts or found.kind is SiteKind.FUSED or found.quantization is not None
                if stays and only_covered(wiring, found.output, covered):
                    continue  # its JumpReLU stands behind it, and is a site of its own
                found = left or found
        if found is not None:
            yield index, found


def _why_left(wiring: Wiring, index: int, found: Found, *, clip: bool) -> str:
    """Why what could be converted is left alone; empty where it is not."""
    if found.kind in _IN_GATES and is_gate(wiring, index, found.input):
        return GATE
    if is_guard(wiring, index):
        return GUARD
    return WITH_CLIP_ONLY if found.kind is SiteKind.CLIP and not clip else ""


def _verdict(wiring: Wiring, index: int, types: ValueTypes) -> Verdict:
    """What a node that is no JumpReLU is; of one that calls a function that is not ours, its body says that."""
    node = wiring.scope.nodes[index]
    domain = own_domain(node.domain)
    if not any(node.input) or not any(node.output) or (domain not in ("", DOMAIN) and types.calls_function(node)):
        return None
    matcher = MATCHERS.get((domain, node.op_type))
    if matcher is None:
        return activation_inside(node) if domain else _spelled_out(wiring, index)
    verdict = matcher(wiring, index)
    if not domain and isinstance(verdict, Found) and types.calls_function(node):
        return "the model has a function of this name in ONNX's domain, and runtimes choose which is meant; rename it"
    return verdict


def _spelled_out(wiring: Wiring, index: int) -> Found | None:
    formula = spelled_out(wiring, index)
    if formula is None:
        return None
    x, written = formula
    return Found(SiteKind.RELU, x, wiring.scope.nodes[index].output[0], (index,), formula=written)


def _stays_before(wiring: Wiring, match: Match, types: ValueTypes) -> Found | None:
    """What a JumpReLU was put behind, by the name that its input was given then; None where it took a node's place."""
    produced = wiring.producer(match.x) if "/rectified" in match.x else None
    if produced is None:
        return None
    found, index = _verdict(wiring, produced[0], types), produced[0]
    if found is None and produced[1].op_type == "QuantizeLinear" and produced[1].input:  # of a Relu
        index = wiring.producers.get(produced[1].input[0], index)
        found = _verdict(wiring, index, types)
    if isinstance(found, Found):
        found = on_integers(wiring, index, found)
    return found if isinstance(found, Found) and found.kind.stays else None


def _named(found: Found, index: int) -> int:
    """The node that has the name of the site."""
    if found.hardened is None:
        return index
    if found.behind is None:
        return found.hardened.carrier
    return found.behind.nodes[-1] if found.behind.named is None else found.behind.named


def _typed(found: Found, scope: Scope, index: int, opset: int, types: ValueTypes) -> Site | str:
    """The site, or why it is none."""
    node = scope.nodes[index]
    if not types.is_called(scope):
        return "its function is never called"
    candidates = types.lookup(scope, found.output) or types.lookup(scope, found.input)
    quantization = found.quantization
    if quantization is not None:  # ONNX's inference knows no type of com.microsoft's operators
        candidates = tuple(replace(one, element_type=quantization.element_type) for one in candidates)
        candidates = candidates or (ValueType(quantization.element_type, None),)
    element_types = sorted({candidate.element_type for candidate in candidates})
    shapes = {candidate.shape for candidate in candidates}
    if len(element_types) == 1 and element_types[0] not in NUMPY_TYPES and quantization is None:
        return f"{type_name(element_types[0])} is not floating point"
    if not all(_keeps_shape(found.zero, one.shape) for one in types.lookup(scope, found.input) or [_UNKNOWN]):
        return f"a Relu written as {operator_name(node)}, whose 0 may have another shape than x; write it as Relu"
    if found.formula:
        return f"a Relu written as {found.formula}; write it as Relu"
    return Site(
        path=scope.path_of(index),
        name=scope.nodes[_named(found, index)].name,
        op_type=operator_name(node),
        kind=found.kind,
        element_type=element_types[0] if len(element_types) == 1 else 0,
        shape=shapes.pop() if len(shapes) == 1 else None,
        opset=opset,
        input=found.input,
        output=found.output,
        problem=_opset_problem(opset) or _type_problem(found, scope, element_types),
        scope=scope,
        nodes=found.nodes,
        hardened=found.hardened,
        rectified=found.rectified or found.kind.stays,
        behind=found.behind,
        blocked=node.domain == "com.microsoft.nchwc",
        channels_last=_is_channels_last(scope, found),
        quantization=quantization,
    )


_UNKNOWN = ValueType(0, None)


def _is_channels_last(scope: Scope, found: Found) -> bool:
    """Whether onnxruntime's layout was written into the model."""
    front = found if found.behind is None else found.behind
    last = attribute_of(scope.nodes[front.nodes[-1]], "channels_last")
    return last is not None and last.i == 1


def _keeps_shape(zero: tuple[int, ...], shape: tuple[Dimension, ...] | None) -> bool:
    """Whether a constant of one shape broadcasts to the other, so that the maximum of both has that shape."""
    if not zero:
        return True
    if shape is None or len(zero) > len(shape):
        return False
    return all(one in (1, other) for one, other in zip(reversed(zero), reversed(shape), strict=False))


def _opset_problem(opset: int) -> str:
    if opset < LOWEST_OPSET:
        return f"opset {opset} is older than {LOWEST_OPSET}; convert the model with onnx.version_converter first"
    return ""


def _type_problem(found: Found, scope: Scope, element_types: list[int]) -> str:
    if not element_types:
        place = "model" if scope.outermost.function is None else "function"  # no function sees the model's
        return (
            f"the element type of '{found.input}' cannot be inferred; "
            f"add it to the {place}'s value_info, or leave the node out with `exclude`"
        )
    if len(element_types) > 1:
        return (
            f"its function is called with {' and '.join(map(type_name, element_types))}, but a jump has one type; "
            "write the function into the graph first (onnx.inliner.inline_local_functions)"
        )
    return ""


def survey_written_out(model: onnx.ModelProto, scopes: tuple[Scope, ...]) -> Survey:
    """Find the JumpReLUs that a model has already, written out; its numbers must be those of `with_thresholds`."""
    types, record = ValueTypes(model, scopes), record_of(model)
    sites: list[Site] = []
    left: list[LeftAlone] = []
    wirings: dict[Scope | None, Wiring] = {}
    for scope in scopes:
        wiring = wirings[scope] = Wiring(scope, wirings.get(scope.parent))
        ours = hardened_in(wiring, record)
        for index in range(len(scope.nodes)):
            found: Found | Site | str | None = None if index in ours else written_out(wiring, index)
            if isinstance(found, Found):
                found = _widened(wiring, found, types) or _typed(found, scope, index, scope.opset, types)
            if isinstance(found, Site):
                sites.append(found)
            elif found is not None:
                left.append(_left_alone(scope, index, found))
    return Survey(tuple(sites), tuple(left), ())


def _widened(wiring: Wiring, found: Found, types: ValueTypes) -> str:
    """Why a JumpReLU that is written out cannot be one: its thresholds or its 0 may widen the shape of x."""
    values = constant_value(wiring, found.hardened.values["jump"]) if found.hardened else None
    shapes = {one.shape for one in types.lookup(wiring.scope, found.input)} or {None}
    constants = {"threshold": () if values is None else values.shape, "0": found.zero}
    wide = [name for name, one in constants.items() if not all(_keeps_shape(one, shape) for shape in shapes)]
    return f"JumpReLU written out, but its {wide[0]} may have a larger shape than x" if wide else ""
