"""A model that ONNX's own tools can judge without its large payloads: what is left out has a placeholder.

A skeleton is no valid model: to the checker a tensor without data is broken, and an attribute without its value too.
What the file itself lacks gets no placeholder, so that it is still found.
"""

from __future__ import annotations

import onnx

from jr_onnx.modelfile.schema import CHILDREN, PAYLOADS
from jr_onnx.modelfile.skeleton import PAYLOAD_LIMIT
from jr_onnx.modelfile.tensors import all_tensors
from jr_onnx.modelfile.wire import LENGTH_DELIMITED, Buffer, encode_field, encode_header, read_fields

#: To the checker a tensor whose data are not at hand; it looks for no file behind a "#".
ELSEWHERE = "#left-out"

#: In the schema: a tensor's strings, and an attribute's string and strings. They may be empty, but must be there.
_STRINGS = {("Tensor", 6), ("Attribute", 4), ("Attribute", 9)}


def judgeable(buffer: Buffer) -> onnx.ModelProto:
    """The model in `buffer` with an empty string for each large one, and each large tensor as external data."""
    model = onnx.ModelProto()
    model.ParseFromString(b"".join(_reduced(buffer, 0, len(buffer), "Model")))
    for tensor in all_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            del tensor.external_data[:]
            tensor.external_data.add(key="location", value=ELSEWHERE)
    return model


def _reduced(buffer: Buffer, start: int, end: int, message: str) -> list[bytes]:
    chunks: list[bytes] = []
    left_out = False
    for field in read_fields(buffer, start, end):
        child = CHILDREN[message].get(field.number)
        if field.wire_type != LENGTH_DELIMITED or field.end - field.value <= PAYLOAD_LIMIT:
            chunks.append(buffer[field.start : field.end])
        elif child is not None:
            inner = _reduced(buffer, field.value, field.end, child)
            chunks += [encode_header(field.number, sum(map(len, inner))), *inner]
        elif (message, field.number) in _STRINGS:
            chunks.append(encode_field(field.number, b""))
        elif message == "Tensor" and field.number in PAYLOADS["Tensor"]:
            left_out = True
        else:  # an attribute's numbers too: shapes follow from how many they are
            chunks.append(buffer[field.start : field.end])
    if left_out:
        chunks.append(onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL).SerializeToString())
    return chunks
