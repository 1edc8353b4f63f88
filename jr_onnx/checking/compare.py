"""What differs between two models, payloads aside, and which rule each difference breaks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import onnx
from google.protobuf.message import Message

from jr_onnx.checking.compare_nodes import (
    Difference,
    Kind,
    NodesComparison,
    differing_fields,
    in_one_only,
    is_converted,
    tensor_text,
    type_text,
)
from jr_onnx.checking.report import Finding, finding
from jr_onnx.conversion.element_types import type_name
from jr_onnx.conversion.graph.names import DOMAIN, PREFIX
from jr_onnx.conversion.graph.scopes import Scope, function_name, own_domain
from jr_onnx.conversion.metadata import JUMP, REVERT, SOURCE
from jr_onnx.conversion.policy import jump_text
from jr_onnx.conversion.sites.surveyed import Side

#: Fields that are compared one by one; all others are compared as they are.
_MODEL_FIELDS = {"graph", "functions", "opset_import", "ir_version", "metadata_props"}
_GRAPH_FIELDS = {"node", "initializer", "input", "output", "value_info"}
_FUNCTION_FIELDS = {"node", "opset_import", "value_info"}
_PAYLOADS = {"raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"}
_SHAPE = {"data_type", "dims"}
_PLACE = {"external_data", "data_location"}


def differences(ours: Side, theirs: Side) -> Iterator[Difference]:
    """All differences between the skeletons of two models."""
    found = False
    for difference in _named_differences(ours, theirs):
        found = True
        yield difference
    if not found and not same_but_for_order(ours.model, theirs.model):
        yield Difference(Kind.OTHER, "how the model is encoded", "", "")


def same_but_for_order(ours: onnx.ModelProto, theirs: onnx.ModelProto) -> bool:
    """Whether two models are equal; the order of opset imports and metadata and the way back say nothing of the model.

    The order differs where a model imported jr_onnx for no use, and an earlier conversion dropped that; onnx_ir sorts
    metadata.
    """
    return ours == theirs or _in_order(ours) == _in_order(theirs)


def _in_order(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for holder in (copy, *copy.functions):
        holder.opset_import.sort(key=lambda opset: opset.domain)
    for entry in [one for one in copy.metadata_props if one.key == REVERT]:
        copy.metadata_props.remove(entry)
    copy.metadata_props.sort(key=lambda entry: entry.key)
    return copy


def _named_differences(ours: Side, theirs: Side) -> Iterator[Difference]:
    yield from _sites(ours, theirs)
    if ours.model.ir_version != theirs.model.ir_version:
        yield Difference(Kind.IR_VERSION, "IR version", str(ours.model.ir_version), str(theirs.model.ir_version))
    yield from _imports("opset import", ours.model.opset_import, theirs.model.opset_import)
    yield from _metadata(ours.model, theirs.model)
    yield from _other("the model's", ours.model, theirs.model, _MODEL_FIELDS)
    yield from _functions(ours.model, theirs.model)
    yield from _scopes(ours, theirs)


def _sites(ours: Side, theirs: Side) -> Iterator[Difference]:
    """Sites that are converted on one side only."""
    for key, site in ours.sites.items():
        there = theirs.sites.get(key)
        if there is None or is_converted(site) == is_converted(there):
            continue
        if is_converted(site):
            yield Difference(Kind.SITE_NOT_CONVERTED, "operator", "JumpReLU", there.op_type, there.path)
        else:
            yield Difference(Kind.SITE_CONVERTED, "operator", site.op_type, "JumpReLU", there.path)


def _imports(
    subject: str, ours: Iterable[onnx.OperatorSetIdProto], theirs: Iterable[onnx.OperatorSetIdProto]
) -> Iterator[Difference]:
    wanted = {own_domain(opset.domain): str(opset.version) for opset in ours}
    found = {own_domain(opset.domain): str(opset.version) for opset in theirs}
    for domain in sorted({*wanted, *found}, key=str):
        if wanted.get(domain) != found.get(domain):
            name = f"{subject} '{domain or 'ai.onnx'}'"
            yield Difference(Kind.OPSETS, name, wanted.get(domain), found.get(domain))


def _metadata(ours: onnx.ModelProto, theirs: onnx.ModelProto) -> Iterator[Difference]:
    wanted = {str(entry.key): str(entry.value) for entry in ours.metadata_props}
    found = {str(entry.key): str(entry.value) for entry in theirs.metadata_props}
    for key in dict.fromkeys((*wanted, *found)):
        if wanted.get(key) == found.get(key) or key == REVERT:  # it says nothing of the model
            continue
        kind = Kind.METADATA if key.startswith(PREFIX) else Kind.OTHER
        if key in wanted and key in found:
            kind = {JUMP: Kind.JUMP, SOURCE: Kind.SOURCE}.get(key, kind)
        yield Difference(kind, f"metadata '{key}'", wanted.get(key), found.get(key))


def _other(whose: str, ours: Message, theirs: Message, skip: Collection[str]) -> Iterator[Difference]:
    for name in differing_fields(ours, theirs, skip):
        yield Difference(Kind.OTHER, f"{whose} {name}", "", "")


def _functions(ours: onnx.ModelProto, theirs: onnx.ModelProto) -> Iterator[Difference]:
    """What functions are and import; their nodes are compared as scopes."""
    wanted = {_name(function): function for function in ours.functions}
    found = {_name(function): function for function in theirs.functions}
    for name, here, there in in_one_only(wanted, found):
        kind = Kind.BODY if name.startswith(f"{DOMAIN}::") else Kind.FUNCTION
        yield Difference(kind, f"function {name}", here, there)
    for name in (name for name in wanted if name in found):
        one, other = wanted[name], found[name]
        if one.domain == DOMAIN:
            if one != other:
                yield Difference(Kind.BODY, f"the body of {name}", "", "")
            continue
        yield from _imports(f"function {name}: opset import", one.opset_import, other.opset_import)
        for field in differing_fields(one, other, _FUNCTION_FIELDS):
            yield Difference(Kind.FUNCTION, f"function {name}: its {field}", "", "")
        subject = f"function {name}: the declared type of"
        yield from _values_of(Kind.DECLARED_TYPE, subject, one.value_info, other.value_info)


def _name(function: onnx.FunctionProto) -> str:
    return function_name(function.domain, function.name, function.overload)


def _scopes(ours: Side, theirs: Side) -> Iterator[Difference]:
    """Scopes matched by function and number; scopes in nodes that only one side has are reported with these nodes."""
    comparison = NodesComparison(ours, theirs)
    found = {key: scope for scope, key in theirs.keys.items()}
    for one, key in ours.keys.items():
        other = found.get(key)
        if other is None or _is_body(one):
            continue  # reported as a missing node or function, or with the function
        if one.graph is not None and other.graph is not None:
            yield from _graph(other.path, one.graph, other.graph, comparison.jumps)
        yield from comparison.compare(one, other)


def _is_body(scope: Scope) -> bool:
    function = scope.outermost.function
    return function is not None and function.domain == DOMAIN


def _graph(where: str, ours: onnx.GraphProto, theirs: onnx.GraphProto, jumps: frozenset[str]) -> Iterator[Difference]:
    prefix = f"{where}: " if where else ""
    yield from _initializers(prefix, ours, theirs, jumps)
    yield from _interface(f"{prefix}input", ours.input, theirs.input)
    yield from _interface(f"{prefix}output", ours.output, theirs.output)
    yield from _values_of(Kind.DECLARED_TYPE, f"{prefix}the declared type of", ours.value_info, theirs.value_info)
    yield from _other(f"{prefix}the graph's", ours, theirs, _GRAPH_FIELDS)


def _initializers(
    prefix: str, ours: onnx.GraphProto, theirs: onnx.GraphProto, jumps: frozenset[str]
) -> Iterator[Difference]:
    wanted = {tensor.name: tensor for tensor in ours.initializer}
    found = {tensor.name: tensor for tensor in theirs.initializer}
    for name, here, there in in_one_only(wanted, found):
        yield Difference(Kind.INITIALIZER, f"{prefix}initializer '{name}'", here, there)
    if [name for name in wanted if name in found] != [name for name in found if name in wanted]:
        yield Difference(Kind.INITIALIZER, f"{prefix}the order of the initializers", "", "")
    for name in (name for name in wanted if name in found):
        yield from _tensor(f"{prefix}initializer '{name}'", wanted[name], found[name], is_jump=name in jumps)


def _tensor(subject: str, ours: onnx.TensorProto, theirs: onnx.TensorProto, *, is_jump: bool) -> Iterator[Difference]:
    fields = set(differing_fields(ours, theirs))
    if fields & _SHAPE:
        yield Difference(Kind.INITIALIZER, subject, type_text(ours), type_text(theirs))
    elif fields & _PAYLOADS and is_jump:
        yield Difference(Kind.JUMP, f"{subject}, a jump", *_values(ours, theirs))
    elif fields & _PAYLOADS:
        yield Difference(Kind.WEIGHTS, f"the bytes of {subject}", "", "")
    if fields & _PLACE:
        yield Difference(Kind.EXTERNAL, f"where the data of {subject} lie", _place(ours), _place(theirs))
    rest = fields - _PAYLOADS - _SHAPE - _PLACE
    if rest:
        yield Difference(Kind.OTHER, f"{subject}: its {', '.join(sorted(rest))}", "", "")


def _values(ours: onnx.TensorProto, theirs: onnx.TensorProto) -> tuple[str, str]:
    """The first value that differs, of both."""
    if onnx.TensorProto.EXTERNAL in (ours.data_location, theirs.data_location):
        return _place(ours), _place(theirs)
    try:
        one, other = (onnx.numpy_helper.to_array(tensor).ravel() for tensor in (ours, theirs))
    except (ValueError, TypeError, RuntimeError):
        return "", ""
    place = next((i for i in range(min(len(one), len(other))) if one[i] != other[i]), 0)
    return (
        jump_text(float(one[place]), type_name(ours.data_type)),
        jump_text(float(other[place]), type_name(theirs.data_type)),
    )


def _place(tensor: onnx.TensorProto) -> str:
    return tensor_text(tensor) if tensor.data_location == onnx.TensorProto.EXTERNAL else "in the model file"


def _interface(
    kind: str, ours: Iterable[onnx.ValueInfoProto], theirs: Iterable[onnx.ValueInfoProto]
) -> Iterator[Difference]:
    yield from _values_of(Kind.INTERFACE, kind, ours, theirs)
    wanted, found = [value.name for value in ours], [value.name for value in theirs]
    if set(wanted) == set(found) and wanted != found:
        yield Difference(Kind.INTERFACE, f"the order of {kind}s", ", ".join(wanted), ", ".join(found))


def _values_of(
    kind: Kind, subject: str, ours: Iterable[onnx.ValueInfoProto], theirs: Iterable[onnx.ValueInfoProto]
) -> Iterator[Difference]:
    wanted, found = {value.name: value for value in ours}, {value.name: value for value in theirs}
    for name, here, there in in_one_only(wanted, found):
        yield Difference(kind, f"{subject} '{name}'", here, there)
    for name, value in wanted.items():
        if name in found and value != found[name]:
            yield Difference(kind, f"{subject} '{name}'", *_types(value, found[name]))


def _types(ours: onnx.ValueInfoProto, theirs: onnx.ValueInfoProto) -> tuple[str, str]:
    """Both types; empty where the types are the same, and only doc strings or metadata differ."""
    one, other = type_text(ours), type_text(theirs)
    return (one, other) if one != other else ("", "")


def compare(expected: Side, hardened: Side) -> Iterator[Finding]:
    """All differences between the two skeletons, as findings."""
    for difference in differences(expected, hardened):
        message = difference.sentence("the plan")
        if difference.kind is Kind.SITE_NOT_CONVERTED:
            message = f"is a {difference.theirs} still"
        if difference.kind is Kind.SITE_CONVERTED:
            message = f"is a JumpReLU, but the plan leaves this {difference.ours} alone"
        yield finding(difference.kind.rule, message, difference.node)
