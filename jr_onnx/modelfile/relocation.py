"""A model whose external data get other names: only the `location` entries are written anew."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from jr_onnx.errors import ModelError
from jr_onnx.modelfile.schema import CHILDREN, TENSOR_EXTERNAL_DATA
from jr_onnx.modelfile.source import Source
from jr_onnx.modelfile.splice import Message, Piece
from jr_onnx.modelfile.tensors import all_tensors
from jr_onnx.modelfile.wire import encode_field

_LOCATION = "location"


def relocate(source: Source, names: Mapping[str, str]) -> list[Piece]:
    """The model with other locations of its external data, as new bytes and spans of the source's.

    Args:
        source: the model.
        names: the new location for each one that a tensor with external data has.

    Raises:
        ModelError: a tensor names several locations, so that another reader could follow another one than ours.
    """
    for tensor in all_tensors(source.skeleton):
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if external and sum(entry.key == _LOCATION for entry in tensor.external_data) > 1:
            raise ModelError(f"tensor '{tensor.name}' names several files for its external data; save the model again")
    root = source.root()
    _relocate(root, "Model", names)
    return root.pieces()


def _relocate(message: Message, kind: str, names: Mapping[str, str]) -> None:
    for number, child in CHILDREN[kind].items():
        for index in range(len(message.fields(number))):
            _relocate(message.child(number, index), child, names)
    for field in message.fields(TENSOR_EXTERNAL_DATA) if kind == "Tensor" else ():
        entry = onnx.StringStringEntryProto.FromString(message.buffer[field.value : field.end])
        if entry.key == _LOCATION and entry.value in names:
            entry.value = names[entry.value]
            message.replace(field, encode_field(TENSOR_EXTERNAL_DATA, entry.SerializeToString()))
