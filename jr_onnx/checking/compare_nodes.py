"""One difference between two models: fields compared, and the nodes of a scope matched and compared."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import onnx
from google.protobuf.message import Message

from jr_onnx.checking import rules
from jr_onnx.conversion.element_types import NUMPY_TYPES, type_name
from jr_onnx.conversion.forms.recognise import thresholded_of
from jr_onnx.conversion.graph.scopes import Scope, attribute_of, graphs_in, own_domain
from jr_onnx.conversion.policy import jump_text
from jr_onnx.conversion.sites.matchers import SiteKind, operator_name
from jr_onnx.conversion.sites.survey import Site
from jr_onnx.conversion.sites.surveyed import Side


class Kind(Enum):
    """What a difference is about: a word for people, and the rule of `check` that it breaks."""

    SITE_NOT_CONVERTED = "Relu, not JumpReLU", rules.UNCONVERTED
    SITE_CONVERTED = "JumpReLU, not Relu", rules.UNPLANNED
    NODES = "nodes", rules.NODES
    ORDER = "order of nodes", rules.ORDER
    OPERATOR = "operator", rules.OPERATOR
    EDGE = "edge", rules.EDGE
    NODE_NAME = "name of a node", rules.NODE_NAME
    INITIALIZER = "initializer", rules.INITIALIZER
    WEIGHTS = "weights", rules.WEIGHTS
    INTERFACE = "interface", rules.INTERFACE
    DECLARED_TYPE = "declared type", rules.DECLARED_TYPE
    METADATA = "jr_onnx metadata", rules.METADATA
    SOURCE = "source of the conversion", rules.OTHER_ORIGINAL
    FUNCTION = "function", rules.FUNCTION
    BODY = "body of JumpReLU", rules.BODY
    OPSETS = "opset import", rules.OPSETS
    IR_VERSION = "IR version", rules.IR_VERSION
    JUMP = "jump", rules.JUMP
    EXTERNAL = "external data", rules.EXTERNAL
    OTHER = "other", rules.OTHER

    def __init__(self, text: str, rule: str) -> None:
        self.text, self.rule = text, rule


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        subject: what differs, as the beginning of a sentence: "initializer 'w'".
        ours: what the first model has there; None where it has nothing.
        theirs: what the second model has there; None where it has nothing.
        node: the scope path of the node, if it is about one.
    """

    kind: Kind
    subject: str
    ours: str | None
    theirs: str | None
    node: str = ""

    def sentence(self, reference: str) -> str:
        """In words; `reference` names the first model, like "the plan"."""
        if self.theirs is None:
            return f"{self.subject} is missing" + (f" ({self.ours})" if self.ours else "")
        if self.ours is None:
            return f"{self.subject} is new" + (f" ({self.theirs})" if self.theirs else "")
        if not self.ours and not self.theirs:
            return f"{self.subject}: not the same"
        return f"{self.subject}: {self.theirs}; {reference} says {self.ours}"


# --- Protos compared field by field, and types as text ----------------------------------------------------------------


def differing_fields(one: Message, other: Message, skip: Collection[str] = ()) -> list[str]:
    """The names of the fields that differ; "unknown fields" where nothing that has a name does."""
    if one == other:
        return []
    names = [field.name for field in one.DESCRIPTOR.fields]
    differing = [name for name in names if not _same(one, other, name)]
    # Messages also differ by fields that this version of ONNX does not know.
    return [name for name in differing if name not in skip] if differing else ["unknown fields"]


def _same(one: Message, other: Message, name: str) -> bool:
    descriptor = one.DESCRIPTOR.fields_by_name[name]
    if descriptor.has_presence and one.HasField(name) != other.HasField(name):
        return False
    # As messages, because lists of numbers compare by value: a NaN is not itself there, and 0.0 is -0.0.
    return bool(_field_alone(one, name) == _field_alone(other, name))


def _field_alone(message: Message, name: str) -> object:
    value = getattr(message, name)
    if isinstance(value, str | bytes):  # text that is not UTF-8 is read as bytes, and cannot be written
        return value
    alone = type(message)()
    if hasattr(value, "MergeFrom"):  # a message, or a list
        getattr(alone, name).MergeFrom(value)
    else:
        setattr(alone, name, value)
    return alone


def in_one_only(
    ours: Mapping[str, object], theirs: Mapping[str, object]
) -> Iterator[tuple[str, str | None, str | None]]:
    """Names that only one side has, as (name, ours, theirs): "" on the side that has it, None on the other."""
    yield from ((name, "", None) for name in ours if name not in theirs)
    yield from ((name, None, "") for name in theirs if name not in ours)


def tensor_text(tensor: onnx.TensorProto) -> str:
    """The values of a small tensor, or where its data lie: a file is not read, least of all from another folder."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return ", ".join(f"{entry.key}={entry.value}" for entry in tensor.external_data)
    if len(tensor.raw_data) > 16:
        return "a tensor"
    values = onnx.numpy_helper.to_array(tensor)
    if tensor.data_type in NUMPY_TYPES and values.ndim == 0:
        return jump_text(float(values), type_name(tensor.data_type))
    return str(values.tolist())


def type_text(value: onnx.TensorProto | onnx.ValueInfoProto) -> str:
    """ "float[2, N, ?]"; what is no tensor by the name of its kind."""
    if isinstance(value, onnx.TensorProto):
        return f"{type_name(value.data_type)}{list(value.dims)}"
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return str(kind or "nothing").removesuffix("_type")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return f"{type_name(tensor.elem_type)} of unknown rank"
    dims = [str(d.dim_value if d.HasField("dim_value") else d.dim_param or "?") for d in tensor.shape.dim]
    return f"{type_name(tensor.elem_type)}[{', '.join(dims)}]"


# --- The nodes of one scope of two models, matched and compared -------------------------------------------------------

_HANDLED = {"op_type", "domain", "overload", "input", "output", "name", "attribute"}


def is_converted(site: Site) -> bool:
    """Whether a site is a JumpReLU; of RNN, GRU and LSTM whether no activation is a Relu."""
    if site.kind is SiteKind.RECURRENT:
        activations = attribute_of(site.scope.nodes[site.nodes[-1]], "activations")
        return activations is not None and all(name.lower() != b"relu" for name in activations.strings)
    return site.kind is SiteKind.HARDENED


class NodesComparison:
    """Compares scopes. Nodes of sites that are converted on one side only are left out: these are differences already.

    Attributes:
        jumps: the names of the constants that are jumps.
    """

    def __init__(self, ours: Side, theirs: Side) -> None:
        self._ours, self._theirs = ours, theirs
        known = [site.hardened.values for site in ours.sites.values() if site.hardened is not None]
        self.jumps = frozenset(values["jump"] for values in known if "jump" in values)
        both = (key for key in ours.sites if key in theirs.sites)
        self._left_out = {key for key in both if is_converted(ours.sites[key]) != is_converted(theirs.sites[key])}

    def compare(self, ours: Scope, theirs: Scope) -> Iterator[Difference]:
        """All differences between two scopes' nodes."""
        our_nodes, their_nodes = self._nodes(self._ours, ours), self._nodes(self._theirs, theirs)
        pairs = _paired(ours, our_nodes, theirs, their_nodes)
        matched_ours, matched_theirs = {i for i, _ in pairs}, {j for _, j in pairs}
        for index in (i for i in our_nodes if i not in matched_ours):
            yield Difference(Kind.NODES, _described(ours.nodes[index]), "", None, ours.path_of(index))
        for index in (j for j in their_nodes if j not in matched_theirs):
            yield Difference(Kind.NODES, _described(theirs.nodes[index]), None, "", theirs.path_of(index))
        yield from _order(pairs, theirs)
        repeated = _repeated_names(theirs)
        jump_nodes = self._jump_nodes(ours)
        for i, j in pairs:
            pair = ours.nodes[i], theirs.nodes[j]
            yield from _node(*pair, theirs.path_of(j), repeated, is_jump=i in jump_nodes)

    def _nodes(self, side: Side, scope: Scope) -> list[int]:
        sites = [site for key, site in side.sites_in[scope] if key in self._left_out]
        left_out = {index for site in sites for index in (*site.nodes, *(site.behind.nodes if site.behind else ()))}
        return [index for index in range(len(scope.nodes)) if index not in left_out]

    def _jump_nodes(self, scope: Scope) -> set[int]:
        """Nodes that hold a jump: as a constant's value, or in an attribute of their own."""
        kinds = (SiteKind.HARDENED, SiteKind.RECURRENT)
        sites = [site for _, site in self._ours.sites_in[scope] if site.kind in kinds]
        own = {site.nodes[-1] for site in sites}
        own |= {index for site in sites if site.hardened and (index := thresholded_of(site.hardened)) is not None}
        return own | {i for i, node in enumerate(scope.nodes) if node.output and node.output[0] in self.jumps}


def _paired(ours: Scope, our_nodes: list[int], theirs: Scope, their_nodes: list[int]) -> list[tuple[int, int]]:
    """Nodes of both sides that are the same node: by the first value that they give, else by place and operator."""
    givers = {_first_output(theirs.nodes[j]): j for j in reversed(their_nodes)}
    givers.pop("", None)  # nodes without an output
    pairs = [(i, givers[_first_output(ours.nodes[i])]) for i in our_nodes if _first_output(ours.nodes[i]) in givers]
    taken_ours, taken_theirs = {i for i, _ in pairs}, {j for _, j in pairs}
    rest: dict[str, deque[int]] = defaultdict(deque)
    for j in their_nodes:
        if j not in taken_theirs:
            rest[theirs.nodes[j].op_type].append(j)
    for i in our_nodes:
        if i not in taken_ours and rest[ours.nodes[i].op_type]:
            pairs.append((i, rest[ours.nodes[i].op_type].popleft()))
    return sorted(pairs)


def _first_output(node: onnx.NodeProto) -> str:
    return next(filter(None, node.output), "")


def _order(pairs: list[tuple[int, int]], scope: Scope) -> Iterator[Difference]:
    highest = -1
    for _, j in pairs:
        if j < highest:
            other = f"'{scope.path_of(highest)}'"
            yield Difference(Kind.ORDER, "its place", f"behind {other}", f"before {other}", scope.path_of(j))
            return
        highest = j


def _repeated_names(scope: Scope) -> set[str]:
    return {name for name, times in Counter(node.name for node in scope.nodes).items() if name and times > 1}


def _node(
    ours: onnx.NodeProto, theirs: onnx.NodeProto, path: str, repeated: set[str], *, is_jump: bool
) -> Iterator[Difference]:
    if ours == theirs:
        return
    if _operator(ours) != _operator(theirs):
        yield Difference(Kind.OPERATOR, "operator", operator_name(ours), operator_name(theirs), path)
        return
    found = [*_wiring(ours, theirs, path, repeated), *_attributes(ours, theirs, path, is_jump=is_jump)]
    found += [Difference(Kind.OPERATOR, f"its {n}", "", "", path) for n in differing_fields(ours, theirs, _HANDLED)]
    if not found and not any(graphs_in(ours)):
        found.append(Difference(Kind.OTHER, "how it is encoded", "", "", path))
    yield from found


def _wiring(ours: onnx.NodeProto, theirs: onnx.NodeProto, path: str, repeated: set[str]) -> Iterator[Difference]:
    for kind, wanted, found in (("inputs", ours.input, theirs.input), ("outputs", ours.output, theirs.output)):
        if list(wanted) != list(found):
            yield Difference(Kind.EDGE, kind, _names(wanted), _names(found), path)
    if ours.name != theirs.name:
        also = ", as another node is called" if theirs.name in repeated else ""
        yield Difference(Kind.NODE_NAME, "name", f"'{ours.name}'", f"'{theirs.name}'{also}", path)


def _attributes(ours: onnx.NodeProto, theirs: onnx.NodeProto, path: str, *, is_jump: bool) -> Iterator[Difference]:
    wanted, found = {a.name: a for a in ours.attribute}, {a.name: a for a in theirs.attribute}
    for name in dict.fromkeys((*wanted, *found)):
        one, other = wanted.get(name), found.get(name)
        if one is not None and other is not None and (one == other or _graphs_only(one, other)):
            continue
        threshold = is_jump and name in ("alpha", "activation_alpha", "value")
        here, there = (None if attribute is None else _value(attribute) for attribute in (one, other))
        yield Difference(Kind.JUMP if threshold else Kind.OPERATOR, f"attribute '{name}'", here, there, path)


def _graphs_only(ours: onnx.AttributeProto, theirs: onnx.AttributeProto) -> bool:
    """Whether the two differ inside their graphs at most, which are compared as scopes."""
    one, other = onnx.NodeProto(attribute=[ours]), onnx.NodeProto(attribute=[theirs])
    if len(list(graphs_in(one))) != len(list(graphs_in(other))):
        return False
    return not differing_fields(ours, theirs, {"g", "graphs"})


def _value(attribute: onnx.AttributeProto) -> str:
    try:
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.type == onnx.AttributeProto.TENSOR:
            value = tensor_text(attribute.t)
        elif attribute.type == onnx.AttributeProto.FLOAT:
            value = jump_text(attribute.f, "float")
    except (ValueError, TypeError, KeyError, RuntimeError):
        value = "damaged"
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _operator(node: onnx.NodeProto) -> tuple[str, str, str]:
    return own_domain(node.domain), node.op_type, node.overload


def _described(node: onnx.NodeProto) -> str:
    return f"{operator_name(node)} -> {_names(node.output)}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "nothing"
