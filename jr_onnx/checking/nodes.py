"""The nodes of one scope against those that it should have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx

from jr_onnx.checking import rules
from jr_onnx.checking.expected import Expected, Hardened
from jr_onnx.checking.fields import differing_fields
from jr_onnx.checking.findings import Finding, finding
from jr_onnx.graph.scopes import Scope, graphs_in, own_domain
from jr_onnx.sites.matchers import SiteKind, operator_name
from jr_onnx.sites.survey import Site

_HANDLED = {"op_type", "domain", "overload", "input", "output", "name", "attribute"}


class NodesComparison:
    """Compares scopes. Nodes of sites that are converted on one side only are left out: they have a finding already.

    Attributes:
        jumps: the names of the constants that are jumps.
    """

    def __init__(self, expected: Expected, hardened: Hardened) -> None:
        self._numbers = {id(scope): number for number, scope in enumerate((*expected.scopes,))}
        self._numbers.update({id(scope): number for number, scope in enumerate(hardened.scopes)})
        self._ours, self._theirs = expected.sites, hardened.sites
        known = [site.hardened.values for site in self._ours.values() if site.hardened is not None]
        self.jumps = frozenset(values["jump"] for values in known if "jump" in values)
        self._excused = {key for key, site in self._ours.items() if self._differs(key, site)}

    def _differs(self, key: tuple[int, str], site: Site) -> bool:
        other = self._theirs.get(key)
        if other is None:
            return False
        return (site.kind is SiteKind.HARDENED) != (other.kind is SiteKind.HARDENED)

    def compare(self, ours: Scope, theirs: Scope) -> Iterator[Finding]:
        """All differences between two scopes' nodes."""
        left_out = self._nodes_of_excused(ours, self._ours), self._nodes_of_excused(theirs, self._theirs)
        our_nodes = [i for i in range(len(ours.nodes)) if i not in left_out[0]]
        their_nodes = [i for i in range(len(theirs.nodes)) if i not in left_out[1]]
        pairs = _paired(ours, our_nodes, theirs, their_nodes)
        matched_ours, matched_theirs = {i for i, _ in pairs}, {j for _, j in pairs}
        for index in our_nodes:
            if index not in matched_ours:
                node = ours.nodes[index]
                yield finding(rules.NODES, f"{_described(node)} is missing", ours.path_of(index))
        for index in their_nodes:
            if index not in matched_theirs:
                node = theirs.nodes[index]
                yield finding(rules.NODES, f"{_described(node)} is new", theirs.path_of(index))
        yield from _order(pairs, theirs)
        repeated = _repeated_names(theirs)
        jump_nodes = self._jump_nodes(ours)
        for i, j in pairs:
            yield from _node(ours.nodes[i], theirs.nodes[j], theirs.path_of(j), repeated, is_jump=i in jump_nodes)

    def _nodes_of_excused(self, scope: Scope, sites: object) -> set[int]:
        known = self._ours if sites is self._ours else self._theirs
        number = self._numbers[id(scope)]
        return {index for key in self._excused if key[0] == number for index in known[key].nodes}

    def _jump_nodes(self, scope: Scope) -> set[int]:
        """Nodes that hold a jump: as a constant's value, or in an attribute of their own."""
        number = self._numbers[id(scope)]
        kinds = (SiteKind.HARDENED, SiteKind.RECURRENT)
        own = {site.nodes[-1] for (at, _), site in self._ours.items() if at == number and site.kind in kinds}
        return own | {i for i, node in enumerate(scope.nodes) if node.output and node.output[0] in self.jumps}


def _paired(ours: Scope, our_nodes: list[int], theirs: Scope, their_nodes: list[int]) -> list[tuple[int, int]]:
    """Nodes of both sides that are the same node: by the first value that they give, else by place and operator."""
    givers = {_first_output(theirs.nodes[j]): j for j in reversed(their_nodes)}
    pairs = [(i, givers[_first_output(ours.nodes[i])]) for i in our_nodes if _first_output(ours.nodes[i]) in givers]
    taken_ours, taken_theirs = {i for i, _ in pairs}, {j for _, j in pairs}
    rest_ours = [i for i in our_nodes if i not in taken_ours]
    rest_theirs = [j for j in their_nodes if j not in taken_theirs]
    for i in rest_ours:
        node = ours.nodes[i]
        j = next((j for j in rest_theirs if theirs.nodes[j].op_type == node.op_type), None)
        if j is not None:
            rest_theirs.remove(j)
            pairs.append((i, j))
    return sorted(pairs)


def _first_output(node: onnx.NodeProto) -> str:
    return next(filter(None, node.output), "")


def _order(pairs: list[tuple[int, int]], scope: Scope) -> Iterator[Finding]:
    highest = -1
    for _, j in pairs:
        if j < highest:
            yield finding(rules.ORDER, "stands before a node that it stood behind", scope.path_of(j))
            return
        highest = j


def _repeated_names(scope: Scope) -> set[str]:
    return {name for name, times in Counter(node.name for node in scope.nodes).items() if name and times > 1}


def _node(
    ours: onnx.NodeProto, theirs: onnx.NodeProto, path: str, repeated: set[str], *, is_jump: bool
) -> Iterator[Finding]:
    if ours == theirs:
        return
    if _operator(ours) != _operator(theirs):
        yield finding(rules.OPERATOR, f"is {_described(theirs)}, the plan says {_described(ours)}", path)
        return
    for kind, wanted, found in (("input", ours.input, theirs.input), ("output", ours.output, theirs.output)):
        if list(wanted) != list(found):
            verb = "reads" if kind == "input" else "gives"
            yield finding(rules.EDGE, f"{verb} {_names(found)}, the plan says {_names(wanted)}", path)
    if ours.name != theirs.name:
        also = ", as another node here is" if theirs.name in repeated else ""
        yield finding(rules.NODE_NAME, f"is called '{theirs.name}'{also}, the plan says '{ours.name}'", path)
    yield from _attributes(ours, theirs, path, is_jump=is_jump)
    for name in differing_fields(ours, theirs, _HANDLED):
        yield finding(rules.OPERATOR, f"its {name} differs", path)


def _attributes(ours: onnx.NodeProto, theirs: onnx.NodeProto, path: str, *, is_jump: bool) -> Iterator[Finding]:
    wanted, found = {a.name: a for a in ours.attribute}, {a.name: a for a in theirs.attribute}
    for name in dict.fromkeys((*wanted, *found)):
        if name not in found or name not in wanted:
            verb = "is missing" if name in wanted else "is new"
            yield finding(rules.OPERATOR, f"its attribute '{name}' {verb}", path)
        elif wanted[name] != found[name] and not _graphs_only(wanted[name], found[name]):
            is_threshold = is_jump and name in ("alpha", "activation_alpha", "value")
            yield finding(
                rules.JUMP if is_threshold else rules.OPERATOR,
                f"its attribute '{name}' is {_value(found[name])} and should be {_value(wanted[name])}",
                path,
            )


def _graphs_only(ours: onnx.AttributeProto, theirs: onnx.AttributeProto) -> bool:
    """Whether the two differ inside their graphs at most, which are compared as scopes."""
    one, other = onnx.NodeProto(attribute=[ours]), onnx.NodeProto(attribute=[theirs])
    if len(list(graphs_in(one))) != len(list(graphs_in(other))):
        return False
    return not differing_fields(ours, theirs, {"g", "graphs"})


def _value(attribute: onnx.AttributeProto) -> str:
    text = str(onnx.helper.get_attribute_value(attribute)) if attribute.type else "nothing"
    if attribute.type == onnx.AttributeProto.TENSOR:
        tensor = attribute.t
        return f"{onnx.numpy_helper.to_array(tensor).tolist()!r}" if len(tensor.raw_data) <= 16 else "another tensor"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _operator(node: onnx.NodeProto) -> tuple[str, str, str]:
    return own_domain(node.domain), node.op_type, node.overload


def _described(node: onnx.NodeProto) -> str:
    return f"{operator_name(node)} -> {_names(node.output)}"


def _names(names: object) -> str:
    listed = list(names)  # type: ignore[call-overload]
    return ", ".join(f"'{name}'" for name in listed) or "nothing"
