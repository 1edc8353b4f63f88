"""Nothing but the sites changed: the skeleton that HARDENED should have against the one that it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from jr_onnx.checking import rules
from jr_onnx.checking.expected import Expected, Hardened
from jr_onnx.checking.fields import differing_fields, missing_and_new, type_text
from jr_onnx.checking.findings import Finding, finding
from jr_onnx.checking.nodes import NodesComparison
from jr_onnx.forms.table import DOMAIN
from jr_onnx.graph.scopes import Scope, function_name, own_domain
from jr_onnx.metadata import JUMP, PREFIX, SOURCE
from jr_onnx.sites.matchers import SiteKind, attribute_of
from jr_onnx.sites.survey import Site

#: Fields with a rule of their own; all others are compared as they are.
_MODEL_FIELDS = {"graph", "functions", "opset_import", "ir_version", "metadata_props"}
_GRAPH_FIELDS = {"node", "initializer", "input", "output", "value_info"}
_FUNCTION_FIELDS = {"node", "opset_import", "value_info"}
_PAYLOADS = {"raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"}


def compare(expected: Expected, hardened: Hardened) -> Iterator[Finding]:
    """All differences between the two skeletons."""
    ours, theirs = expected.model, hardened.model
    yield from _sites(expected, hardened)
    if ours.ir_version != theirs.ir_version:
        yield finding(rules.IR_VERSION, f"IR version {theirs.ir_version}, the plan says {ours.ir_version}")
    yield from _imports("the model", ours.opset_import, theirs.opset_import)
    yield from _metadata(expected.model, hardened)
    for name in differing_fields(ours, theirs, _MODEL_FIELDS):
        yield finding(rules.OTHER, f"the model's {name} differs")
    yield from _functions(expected, hardened)
    yield from _scopes(expected, hardened)


def _sites(expected: Expected, hardened: Hardened) -> Iterator[Finding]:
    """Sites that are converted and should not be, or the other way round."""
    for key, site in expected.sites.items():
        there = hardened.sites.get(key)
        if there is None or _is_converted(site) == _is_converted(there):
            continue
        if _is_converted(site):
            yield finding(rules.UNCONVERTED, f"is a {there.op_type} still", there.path)
        else:
            yield finding(rules.UNPLANNED, f"is a JumpReLU, but the plan leaves this {site.op_type} alone", there.path)


def _is_converted(site: Site) -> bool:
    if site.kind is SiteKind.RECURRENT:
        activations = attribute_of(site.scope.nodes[site.nodes[-1]], "activations")
        return activations is not None and all(name.lower() != b"relu" for name in activations.strings)
    return site.kind is SiteKind.HARDENED


def _imports(
    where: str, ours: Iterable[onnx.OperatorSetIdProto], theirs: Iterable[onnx.OperatorSetIdProto]
) -> Iterator[Finding]:
    wanted = {own_domain(opset.domain): opset.version for opset in ours}
    found = {own_domain(opset.domain): opset.version for opset in theirs}
    for domain in sorted({*wanted, *found}):
        if wanted.get(domain) != found.get(domain):
            yield finding(
                rules.OPSETS,
                f"{where} imports {_import(domain, found.get(domain))}, the plan says "
                f"{_import(domain, wanted.get(domain))}",
            )


def _import(domain: str, version: int | None) -> str:
    name = domain or "ai.onnx"
    return f"no {name}" if version is None else f"{name} {version}"


def _metadata(expected: onnx.ModelProto, hardened: Hardened) -> Iterator[Finding]:
    ours = {entry.key: entry.value for entry in expected.metadata_props}
    theirs = {entry.key: entry.value for entry in hardened.model.metadata_props}
    for key in dict.fromkeys((*ours, *theirs)):
        wanted, found = ours.get(key), theirs.get(key)
        if wanted == found:
            continue
        rule = rules.METADATA if key.startswith(PREFIX) else rules.OTHER
        if key == JUMP and found is not None and wanted is not None:
            rule = rules.JUMP
        if key == SOURCE and found is not None:
            rule = rules.OTHER_ORIGINAL
        have = "is missing" if found is None else f"is '{found}'"
        yield finding(rule, f"metadata '{key}' {have}" + (f" and should be '{wanted}'" if wanted is not None else ""))


def _functions(expected: Expected, hardened: Hardened) -> Iterator[Finding]:
    """What functions are and import; their nodes are compared as scopes."""
    ours = {_name(f): f for f in expected.model.functions}
    theirs = {_name(f): f for f in hardened.model.functions}
    for name, verb in missing_and_new(ours, theirs):
        rule = rules.BODY if name.startswith(f"{DOMAIN}::") else rules.FUNCTION
        yield finding(rule, f"function {name} {verb}")
    for name in ours.keys() & theirs.keys():
        if ours[name].domain == DOMAIN:
            if ours[name] != theirs[name]:
                yield finding(rules.BODY, f"the body of {name} is not the one that jr-onnx ships for its opset")
            continue
        yield from _imports(f"function {name}", ours[name].opset_import, theirs[name].opset_import)
        for field in differing_fields(ours[name], theirs[name], _FUNCTION_FIELDS):
            yield finding(rules.FUNCTION, f"function {name}: its {field} differs")
        yield from _declared(f"function {name}", ours[name].value_info, theirs[name].value_info)


def _name(function: onnx.FunctionProto) -> str:
    return function_name(function.domain, function.name, function.overload)


def _scopes(expected: Expected, hardened: Hardened) -> Iterator[Finding]:
    """Every scope that both have, matched by number; scopes of nodes that differ are reported with their nodes."""
    comparison = NodesComparison(expected, hardened)
    ours = [scope for scope in expected.scopes if not _is_body(scope)]
    theirs = [scope for scope in hardened.scopes if not _is_body(scope)]
    for our, their in zip(ours, theirs, strict=False):
        if our.graph is None and their.graph is None and _name_of(our) != _name_of(their):
            continue  # reported as a missing and a new function
        if our.graph is not None and their.graph is not None:
            yield from _graph(their.path, our.graph, their.graph, comparison.jumps)
        yield from comparison.compare(our, their)


def _is_body(scope: Scope) -> bool:
    function = scope.outermost.function
    return function is not None and function.domain == DOMAIN


def _name_of(scope: Scope) -> str:
    return "" if scope.function is None else _name(scope.function)


def _graph(where: str, ours: onnx.GraphProto, theirs: onnx.GraphProto, jumps: frozenset[str]) -> Iterator[Finding]:
    prefix = f"{where}: " if where else ""
    yield from _initializers(prefix, ours, theirs, jumps)
    for kind, our_values, their_values in (("input", ours.input, theirs.input), ("output", ours.output, theirs.output)):
        yield from _interface(prefix + kind, our_values, their_values)
    yield from _declared(where or "the graph", ours.value_info, theirs.value_info)
    for name in differing_fields(ours, theirs, _GRAPH_FIELDS):
        yield finding(rules.OTHER, f"{prefix}the graph's {name} differs")


def _initializers(
    prefix: str, ours: onnx.GraphProto, theirs: onnx.GraphProto, jumps: frozenset[str]
) -> Iterator[Finding]:
    wanted = {tensor.name: tensor for tensor in ours.initializer}
    found = {tensor.name: tensor for tensor in theirs.initializer}
    for name, verb in missing_and_new(wanted, found):
        yield finding(rules.INITIALIZER, f"{prefix}initializer '{name}' {verb}")
    common = [name for name in wanted if name in found]
    if common != [name for name in found if name in wanted]:
        yield finding(rules.INITIALIZER, f"{prefix}the initializers stand in another order")
    for name in common:
        for rule, what in tensor_differences(wanted[name], found[name], is_jump=name in jumps):
            yield finding(rule, f"{prefix}initializer '{name}': {what}")


def tensor_differences(ours: onnx.TensorProto, theirs: onnx.TensorProto, *, is_jump: bool) -> Iterator[tuple[str, str]]:
    """Rule and message for each way in which a tensor of the skeleton differs."""
    fields = set(differing_fields(ours, theirs))
    if fields & {"data_type", "dims"}:
        yield rules.INITIALIZER, f"{type_text(theirs)}, the original has {type_text(ours)}"
    elif fields & _PAYLOADS:
        yield (rules.JUMP if is_jump else rules.WEIGHTS), _payload_text(ours, theirs, is_jump=is_jump)
    if fields & {"external_data", "data_location"}:
        yield rules.EXTERNAL, "its data lie elsewhere than the original's"
    if fields - _PAYLOADS - {"data_type", "dims", "external_data", "data_location"}:
        names = ", ".join(sorted(fields - _PAYLOADS))
        yield rules.OTHER, f"{names} differ"


def _payload_text(ours: onnx.TensorProto, theirs: onnx.TensorProto, *, is_jump: bool) -> str:
    if not is_jump:
        return "its bytes are not the original's"
    try:
        have, want = (onnx.numpy_helper.to_array(tensor).ravel() for tensor in (theirs, ours))
    except (ValueError, TypeError, RuntimeError):
        return "the jump is damaged"
    worst = next((i for i in range(min(len(have), len(want))) if have[i] != want[i]), 0)
    return f"the jump is {float(have[worst])!r} and should be {float(want[worst])!r}"


def _interface(
    kind: str, ours: Iterable[onnx.ValueInfoProto], theirs: Iterable[onnx.ValueInfoProto]
) -> Iterator[Finding]:
    wanted, found = {value.name: value for value in ours}, {value.name: value for value in theirs}
    for name, verb in missing_and_new(wanted, found):
        yield finding(rules.INTERFACE, f"{kind} '{name}' {verb}")
    if wanted.keys() == found.keys() and list(wanted) != list(found):
        yield finding(rules.INTERFACE, f"{kind}s stand in another order")
    for name in wanted.keys() & found.keys():
        if wanted[name] != found[name]:
            yield finding(rules.INTERFACE, f"{kind} '{name}': {_type_change(wanted[name], found[name])}")


def _declared(
    where: str, ours: Iterable[onnx.ValueInfoProto], theirs: Iterable[onnx.ValueInfoProto]
) -> Iterator[Finding]:
    wanted, found = {value.name: value for value in ours}, {value.name: value for value in theirs}
    for name, verb in missing_and_new(wanted, found):
        yield finding(rules.DECLARED_TYPE, f"{where}: the declared type of '{name}' {verb}")
    for name in wanted.keys() & found.keys():
        if wanted[name] != found[name]:
            yield finding(
                rules.DECLARED_TYPE, f"{where}: '{name}' is declared {_type_change(wanted[name], found[name])}"
            )


def _type_change(ours: onnx.ValueInfoProto, theirs: onnx.ValueInfoProto) -> str:
    have, want = type_text(theirs), type_text(ours)
    return f"{have}, the original has {want}" if have != want else "with another doc string or other metadata"
