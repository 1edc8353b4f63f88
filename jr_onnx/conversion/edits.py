"""The edits of a model: described without touching it, and carried out on the bytes of a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy.typing as npt
import onnx

from jr_onnx.conversion.forms.write import NewNode, tensor_of, to_proto
from jr_onnx.conversion.graph.names import DOMAIN, DOMAIN_VERSION, PREFIX, initializer_names
from jr_onnx.conversion.graph.scopes import FREE_INITIALIZERS, Scope
from jr_onnx.files import wire
from jr_onnx.files.external import record_locations, relocated
from jr_onnx.files.source import Source
from jr_onnx.files.splice import Message, Piece
from jr_onnx.files.wire import VARINT, Field, encode_field, encode_integer


@dataclass
class ScopeEdit:
    """Changes to one scope's nodes.

    Attributes:
        replaced: index of a node -> what stands there instead; nothing at all for a node that goes.
        first: nodes in front of all others: the constants of a function, casts of a jump input.
        dropped_inputs: names of inputs of a graph that go.
        imports: for the main graph, whether the model's opset imports gain (True) or lose (False) the jr_onnx domain,
            for a function, whether the function's do; None if they stay.
    """

    scope: Scope
    replaced: dict[int, tuple[NewNode, ...]] = dataclasses.field(default_factory=dict)
    first: list[NewNode] = dataclasses.field(default_factory=list)
    dropped_inputs: set[str] = dataclasses.field(default_factory=set)
    imports: bool | None = None


@dataclass
class ModelEdit:
    """Changes to a model.

    Attributes:
        scopes: changes to nodes.
        initializers: new initializers of the main graph, by name.
        new_input: a new input of the main graph; its default is the initializer of the same name.
        jump_input: the graph input that is a jump afterwards; None where there is none.
        dropped: names of initializers of the main graph that go.
        dropped_functions: names of functions of the jr_onnx domain that go.
        functions: the functions of the jr_onnx domain to add.
        ir_version: the new IR version; None if it stays.
        metadata: entries of metadata_props in place of all that begin with "jr_onnx.".
    """

    scopes: dict[Scope, ScopeEdit] = dataclasses.field(default_factory=dict)
    initializers: dict[str, npt.NDArray[Any]] = dataclasses.field(default_factory=dict)
    new_input: onnx.ValueInfoProto | None = None
    jump_input: str | None = None
    dropped: set[str] = dataclasses.field(default_factory=set)
    dropped_functions: set[str] = dataclasses.field(default_factory=set)
    functions: list[onnx.FunctionProto] = dataclasses.field(default_factory=list)
    ir_version: int | None = None
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)

    def at(self, scope: Scope) -> ScopeEdit:
        """The edit of a scope, to add to."""
        return self.scopes.setdefault(scope, ScopeEdit(scope))

    def raise_ir_version(self, version: int, scopes: Iterable[Scope]) -> None:
        """Raise the model to an IR version.

        Inputs that an older version wants of every initializer go: from here on they would be overridable in the main
        graph, which costs constant folding and fusions, and passed in by nobody in a body.
        """
        self.ir_version = version
        for scope in scopes:
            if scope.graph is not None and scope.ir_version < FREE_INITIALIZERS:
                self.at(scope).dropped_inputs.update(initializer_names(scope.graph))


# --- Edits of a model, recorded on its bytes: only what an edit names is written anew ---------------------------------


def rewrite(source: Source, edit: ModelEdit, locations: Mapping[str, str] = MappingProxyType({})) -> list[Piece]:
    """The edited model, as new bytes and spans of the source's.

    Args:
        locations: other locations of its external data, for those that change.

    Raises:
        ModelError: a tensor of which the location changes has several.
        WireError: the model has a singular message field twice.
    """
    root = source.root()
    graph = root.child(wire.MODEL_GRAPH)
    record_locations(source, root, locations)
    for scope_edit in edit.scopes.values():
        _edit_scope(root, scope_edit, locations)
    _edit_values(graph, source.skeleton.graph, edit)
    if edit.dropped_functions:
        for field, function in zip(root.fields(wire.MODEL_FUNCTIONS), source.skeleton.functions, strict=True):
            if function.domain == DOMAIN and function.name in edit.dropped_functions:
                root.replace(field, b"")
    if edit.ir_version is not None:
        for field in root.fields(wire.MODEL_IR_VERSION, VARINT):
            root.replace(field, encode_integer(wire.MODEL_IR_VERSION, edit.ir_version))
    _edit_metadata(root, source.skeleton, edit)
    for function in edit.functions:
        root.append(wire.MODEL_FUNCTIONS, function.SerializeToString())
    return root.pieces()


def message_of(root: Message, scope: Scope) -> Message:
    """The GraphProto or FunctionProto of a scope."""
    if scope.parent is None or scope.step is None:
        return root.child(wire.MODEL_GRAPH) if scope.index is None else root.child(wire.MODEL_FUNCTIONS, scope.index)
    node, attribute, number = scope.step
    inside = message_of(root, scope.parent).child(_node_number(scope.parent), node)
    holder = inside.child(wire.NODE_ATTRIBUTE, attribute)
    return holder.child(wire.ATTRIBUTE_G) if number is None else holder.child(wire.ATTRIBUTE_GRAPHS, number)


def _node_number(scope: Scope) -> int:
    return wire.GRAPH_NODE if scope.graph is not None else wire.FUNCTION_NODE


def _edit_scope(root: Message, edit: ScopeEdit, locations: Mapping[str, str]) -> None:
    message, number = message_of(root, edit.scope), _node_number(edit.scope)
    nodes = message.fields(number)

    def encoded(new: tuple[NewNode, ...] | list[NewNode]) -> bytes:
        protos = (to_proto(n, None if n.replaces is None else _parsed(message, nodes[n.replaces])) for n in new)
        return b"".join(encode_field(number, relocated(proto, locations).SerializeToString()) for proto in protos)

    for index, new in edit.replaced.items():
        message.replace(nodes[index], encoded(new))
    if edit.first:
        message.insert(nodes[0].start, encoded(edit.first))
    if edit.scope.graph is not None and edit.dropped_inputs:
        _drop(message, wire.GRAPH_INPUT, edit.scope.graph.input, edit.dropped_inputs)
    if edit.imports is None:
        return
    main = edit.scope.function is None
    holder, imports = (root, wire.MODEL_OPSET_IMPORT) if main else (message, wire.FUNCTION_OPSET_IMPORT)
    if edit.imports:
        opset = onnx.helper.make_opsetid(DOMAIN, DOMAIN_VERSION)
        holder.append(imports, opset.SerializeToString())
    for field in holder.fields(imports) if not edit.imports else ():
        if onnx.OperatorSetIdProto.FromString(holder.buffer[field.value : field.end]).domain == DOMAIN:
            holder.replace(field, b"")


def _parsed(message: Message, field: Field) -> onnx.NodeProto:
    """A node from the file itself: nothing that it carries is lost, as it may be in the skeleton."""
    node = onnx.NodeProto()
    node.ParseFromString(message.buffer[field.value : field.end])
    return node


def _edit_values(graph: Message, skeleton: onnx.GraphProto, edit: ModelEdit) -> None:
    _drop(graph, wire.GRAPH_INITIALIZER, skeleton.initializer, edit.dropped)
    for name, array in edit.initializers.items():
        graph.append(wire.GRAPH_INITIALIZER, tensor_of(name, array).SerializeToString())
    if edit.new_input is not None:
        graph.append(wire.GRAPH_INPUT, edit.new_input.SerializeToString())


def _drop(
    graph: Message, number: int, parsed: Iterable[onnx.ValueInfoProto | onnx.TensorProto], names: set[str]
) -> None:
    for field, one in zip(graph.fields(number), parsed, strict=True):
        if one.name in names:
            graph.replace(field, b"")


def _edit_metadata(root: Message, skeleton: onnx.ModelProto, edit: ModelEdit) -> None:
    for field, entry in zip(root.fields(wire.MODEL_METADATA), skeleton.metadata_props, strict=True):
        if entry.key.startswith(PREFIX):
            root.replace(field, b"")
    for key, value in edit.metadata.items():
        entry = onnx.StringStringEntryProto(key=key, value=value)
        root.append(wire.MODEL_METADATA, entry.SerializeToString())
