"""Edits of a model, recorded on its bytes: only what an edit names is written anew."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import onnx

from jr_onnx.forms.table import DOMAIN, DOMAIN_VERSION
from jr_onnx.forms.write import NewNode, tensor_of, to_proto
from jr_onnx.graph.scopes import Scope
from jr_onnx.lowering.edits import ModelEdit, ScopeEdit
from jr_onnx.marks import PREFIX
from jr_onnx.modelfile import schema
from jr_onnx.modelfile.relocation import record_locations, relocated
from jr_onnx.modelfile.source import Source
from jr_onnx.modelfile.splice import Message, Piece
from jr_onnx.modelfile.wire import VARINT, Field, encode_field, encode_integer


def rewrite(source: Source, edit: ModelEdit, locations: Mapping[str, str] = MappingProxyType({})) -> list[Piece]:
    """The edited model, as new bytes and spans of the source's.

    Args:
        locations: other locations of its external data, for those that change.

    Raises:
        ModelError: a tensor of which the location changes has several.
        WireError: the model has a singular message field twice.
    """
    root = source.root()
    graph = root.child(schema.MODEL_GRAPH)
    record_locations(source, root, locations)
    for scope_edit in edit.scopes.values():
        _edit_scope(root, scope_edit, locations)
    _edit_values(graph, source.skeleton.graph, edit)
    if edit.dropped_functions:
        for field, function in zip(root.fields(schema.MODEL_FUNCTIONS), source.skeleton.functions, strict=True):
            if function.domain == DOMAIN and function.name in edit.dropped_functions:
                root.replace(field, b"")
    if edit.function is not None:
        root.append(encode_field(schema.MODEL_FUNCTIONS, edit.function.SerializeToString()))
    if edit.ir_version is not None:
        for field in root.fields(schema.MODEL_IR_VERSION, VARINT):
            root.replace(field, encode_integer(schema.MODEL_IR_VERSION, edit.ir_version))
    _edit_metadata(root, source.skeleton, edit)
    return root.pieces()


def message_of(root: Message, scope: Scope) -> Message:
    """The GraphProto or FunctionProto of a scope."""
    if scope.parent is None or scope.step is None:
        return (
            root.child(schema.MODEL_GRAPH) if scope.index is None else root.child(schema.MODEL_FUNCTIONS, scope.index)
        )
    node, attribute, number = scope.step
    inside = message_of(root, scope.parent).child(_node_number(scope.parent), node)
    holder = inside.child(schema.NODE_ATTRIBUTE, attribute)
    return holder.child(schema.ATTRIBUTE_G) if number is None else holder.child(schema.ATTRIBUTE_GRAPHS, number)


def _node_number(scope: Scope) -> int:
    return schema.GRAPH_NODE if scope.graph is not None else schema.FUNCTION_NODE


def _edit_scope(root: Message, edit: ScopeEdit, locations: Mapping[str, str]) -> None:
    message, number = message_of(root, edit.scope), _node_number(edit.scope)
    nodes = message.fields(number)

    def encoded(new: tuple[NewNode, ...] | list[NewNode]) -> bytes:
        protos = (to_proto(n, None if n.heir_of is None else _parsed(message, nodes[n.heir_of])) for n in new)
        return b"".join(encode_field(number, relocated(proto, locations).SerializeToString()) for proto in protos)

    for index, new in edit.replaced.items():
        message.replace(nodes[index], encoded(new))
    if edit.first:
        message.insert(nodes[0].start, encoded(edit.first))
    if edit.imports is None:
        return
    main = edit.scope.function is None
    holder, imports = (root, schema.MODEL_OPSET_IMPORT) if main else (message, schema.FUNCTION_OPSET_IMPORT)
    if edit.imports:
        opset = onnx.helper.make_opsetid(DOMAIN, DOMAIN_VERSION)
        holder.append(encode_field(imports, opset.SerializeToString()))
    for field in holder.fields(imports) if not edit.imports else ():
        if onnx.OperatorSetIdProto.FromString(holder.buffer[field.value : field.end]).domain == DOMAIN:
            holder.replace(field, b"")


def _parsed(message: Message, field: Field) -> onnx.NodeProto:
    """A node from the file itself: nothing that it carries is lost, as it may be in the skeleton."""
    node = onnx.NodeProto()
    node.ParseFromString(message.buffer[field.value : field.end])
    return node


def _edit_values(graph: Message, skeleton: onnx.GraphProto, edit: ModelEdit) -> None:
    for field, tensor in zip(graph.fields(schema.GRAPH_INITIALIZER), skeleton.initializer, strict=True):
        if tensor.name in edit.dropped:
            graph.replace(field, b"")
    for field, value in zip(graph.fields(schema.GRAPH_INPUT), skeleton.input, strict=True):
        if value.name in edit.dropped | edit.dropped_inputs:
            graph.replace(field, b"")
    for name, array in edit.initializers.items():
        graph.append(encode_field(schema.GRAPH_INITIALIZER, tensor_of(name, array).SerializeToString()))
    if edit.new_input is not None:
        graph.append(encode_field(schema.GRAPH_INPUT, edit.new_input.SerializeToString()))


def _edit_metadata(root: Message, skeleton: onnx.ModelProto, edit: ModelEdit) -> None:
    for field, entry in zip(root.fields(schema.MODEL_METADATA), skeleton.metadata_props, strict=True):
        if entry.key.startswith(PREFIX):
            root.replace(field, b"")
    for key, value in edit.metadata.items():
        entry = onnx.StringStringEntryProto(key=key, value=value)
        root.append(encode_field(schema.MODEL_METADATA, entry.SerializeToString()))
