"""Protos compared field by field, and types as text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import onnx
from google.protobuf.message import Message

from jr_onnx.element_types import NUMPY_TYPES, type_name
from jr_onnx.text import jump_text


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
