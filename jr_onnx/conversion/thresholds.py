"""The numbers of a model's thresholds, which a skeleton lacks: a sparse autoencoder has many thousands of them."""

from __future__ import annotations

import contextlib
import math

import onnx
from google.protobuf.message import DecodeError

from jr_onnx.conversion.element_types import NUMPY_TYPES
from jr_onnx.conversion.graph.wiring import LARGEST
from jr_onnx.conversion.sites.written_out import compared_values
from jr_onnx.errors import ModelError
from jr_onnx.files.external import data_files
from jr_onnx.files.source import Source
from jr_onnx.files.wire import GRAPH_INITIALIZER, MODEL_GRAPH


def with_thresholds(source: Source) -> onnx.ModelProto:
    """The skeleton, with the initializers in it that a value is compared with, as far as they can be read."""
    names = compared_values(source.skeleton)
    wanted = [i for i, one in enumerate(source.skeleton.graph.initializer) if one.name in names and _may_be_one(one)]
    if not wanted:
        return source.skeleton
    model = onnx.ModelProto()
    model.CopyFrom(source.skeleton)
    # What cannot be read stays as it is, which says why to whoever asks for its numbers.
    with contextlib.suppress(ModelError, DecodeError, OSError):
        fields = source.root().child(MODEL_GRAPH).fields(GRAPH_INITIALIZER)
        for index in wanted:
            tensor = onnx.TensorProto.FromString(source.buffer[fields[index].value : fields[index].end])
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                _read_external(tensor, source)
            model.graph.initializer[index].CopyFrom(tensor)
    return model


def _may_be_one(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in NUMPY_TYPES and 0 < math.prod(tensor.dims) <= LARGEST


def _read_external(tensor: onnx.TensorProto, source: Source) -> None:
    if source.path is None:
        raise ModelError("a model in memory has no folder in which its external data lie")
    data_files(source.skeleton, source.path)  # none of them leaves the folder, nor reaches behind its file's end
    entries = {entry.key: entry.value for entry in tensor.external_data}
    with (source.path.parent / entries["location"]).open("rb") as file:
        file.seek(int(entries.get("offset", 0)))
        tensor.raw_data = file.read(math.prod(tensor.dims) * NUMPY_TYPES[tensor.data_type].itemsize)
    tensor.data_location = onnx.TensorProto.DEFAULT
