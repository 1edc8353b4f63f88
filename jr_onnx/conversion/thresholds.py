"""The numbers of a model's thresholds, which a skeleton lacks: a sparse autoencoder has many thousands of them."""

from __future__ import annotations

import math
from pathlib import Path

import onnx

from jr_onnx.conversion.element_types import NUMPY_TYPES
from jr_onnx.conversion.graph.wiring import LARGEST
from jr_onnx.conversion.sites.written_out import compared_values
from jr_onnx.files.external import data_files
from jr_onnx.files.source import Source
from jr_onnx.files.wire import GRAPH_INITIALIZER, MODEL_GRAPH


def with_thresholds(source: Source) -> onnx.ModelProto:
    """The skeleton, with the initializers in it that a value is compared with.

    Raises:
        ModelError: external data among them cannot be read.
    """
    names = compared_values(source.skeleton)
    wanted = [index for index, one in enumerate(source.skeleton.graph.initializer) if one.name in names]
    model = onnx.ModelProto()
    model.CopyFrom(source.skeleton)
    fields = source.root().child(MODEL_GRAPH).fields(GRAPH_INITIALIZER)
    for index in wanted:
        tensor = model.graph.initializer[index]
        if tensor.data_type not in NUMPY_TYPES or math.prod(tensor.dims) > LARGEST:
            continue
        tensor.ParseFromString(source.buffer[fields[index].value : fields[index].end])
        if tensor.data_location == onnx.TensorProto.EXTERNAL and source.path is not None:
            data_files(source.skeleton, source.path)
            _read(tensor, source.path.parent)
    return model


def _read(tensor: onnx.TensorProto, folder: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    size = math.prod(tensor.dims) * NUMPY_TYPES[tensor.data_type].itemsize
    with (folder / entries["location"]).open("rb") as file:
        file.seek(int(entries.get("offset", 0)))
        tensor.raw_data = file.read(size)
    tensor.data_location = onnx.TensorProto.DEFAULT
