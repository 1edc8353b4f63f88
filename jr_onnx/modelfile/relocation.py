"""A model whose external data get other names: only the `location` entries are written anew."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from jr_onnx.errors import ModelError
from jr_onnx.modelfile.schema import CHILDREN, TENSOR_EXTERNAL_DATA
from jr_onnx.modelfile.source import Source
from jr_onnx.modelfile.splice import Message, Piece
from jr_onnx.modelfile.tensors import all_tensors, tensors_of
from jr_onnx.modelfile.wire import encode_field

_LOCATION = "location"


def relocate(source: Source, names: Mapping[str, str]) -> list[Piece]:
    """The model with other locations of its external data, as new bytes and spans of the source's.

    Raises:
        ModelError: as `record_locations`.
    """
    root = source.root()
    record_locations(source, root, names)
    return root.pieces()


def record_locations(source: Source, root: Message, names: Mapping[str, str]) -> None:
    """Record on a model's message that its external data get other locations.

    Args:
        source: the model.
        root: its message, which may have other edits.
        names: the new location for each one that changes, as the model spells it.

    Raises:
        ModelError: a tensor names several locations, so that another reader could follow another one than ours.
    """
    for tensor in all_tensors(source.skeleton) if names else ():
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if external and sum(entry.key == _LOCATION for entry in tensor.external_data) > 1:
            raise ModelError(f"tensor '{tensor.name}' names several files for its external data; save the model again")
    if names:
        _record(root, "Model", names)


def relocated(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """The node itself, with the other locations in its tensors."""
    for tensor in tensors_of([node]) if names else ():
        for entry in tensor.external_data:
            if entry.key == _LOCATION:
                entry.value = names.get(entry.value, entry.value)
    return node


def _record(message: Message, kind: str, names: Mapping[str, str]) -> None:
    for number, child in CHILDREN[kind].items():
        for index in range(len(message.fields(number))):
            _record(message.child(number, index), child, names)
    for field in message.fields(TENSOR_EXTERNAL_DATA) if kind == "Tensor" else ():
        entry = onnx.StringStringEntryProto.FromString(message.buffer[field.value : field.end])
        if entry.key == _LOCATION and entry.value in names:
            entry.value = names[entry.value]
            message.replace(field, encode_field(TENSOR_EXTERNAL_DATA, entry.SerializeToString()))
