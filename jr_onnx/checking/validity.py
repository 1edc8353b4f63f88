"""What ONNX itself says of the hardened model: its checker, strict shape inference, and whether its data are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import onnx.checker
import onnx.shape_inference

from jr_onnx.checking import rules
from jr_onnx.checking.report import Finding, finding
from jr_onnx.conversion.graph.names import DOMAIN, OP_TYPE
from jr_onnx.conversion.graph.scopes import all_scopes
from jr_onnx.conversion.graph.stand_ins import put_stand_ins
from jr_onnx.conversion.graph.value_types import infer_shapes
from jr_onnx.errors import ModelError
from jr_onnx.files.external import all_tensors, data_files
from jr_onnx.files.skeleton import PAYLOAD_LIMIT
from jr_onnx.files.source import Source
from jr_onnx.files.wire import CHILDREN, LENGTH_DELIMITED, PAYLOADS, Buffer, encode_field, encode_header, read_fields
from jr_onnx.text import one_line

#: How onnx says that what it judges follows from data that are in another file, or too large to be read.
_NEEDS_DATA = "external tensors"


def check_validity(hardened: Source, original: Source | None) -> Iterator[Finding]:
    """onnx.checker and strict shape inference, without large payloads; a fault that ORIGINAL has too is named so."""
    theirs = _judged(hardened)
    ours = None if original is None else _judged(original)
    for rule, judge in ((rules.CHECKER, _checker_error), (rules.INFERENCE, _inference_error)):
        error = judge(theirs)
        if _NEEDS_DATA in error:
            yield finding(rules.NOT_RUN, f"{rules.RULES[rule].name} cannot judge without the data: {error}")
        elif error and ours is not None and _same_fault(error, judge(ours)):
            yield Finding(rule, f"{error}; the original fails too", "", "warning")
        elif error:
            yield finding(rule, error)


def _judged(source: Source) -> onnx.ModelProto:
    """What is judged: of what onnxruntime adds to ONNX's own domain when it optimises, ONNX knows nothing."""
    model = judgeable(source.buffer)
    put_stand_ins(model, foreign=False)
    return model


def _same_fault(error: str, other: str) -> bool:
    """Whether two messages are of one fault: they name the operator, which a site does not keep."""
    return error.replace(f"{DOMAIN}::{OP_TYPE}", "Relu").replace(OP_TYPE, "Relu") == other


def _checker_error(model: onnx.ModelProto) -> str:
    return _error_of(lambda: onnx.checker.check_model(model))


def _inference_error(model: onnx.ModelProto) -> str:
    """A sparse initializer is dense to the nodes that take it, in onnxruntime; ONNX's inference refuses those nodes."""
    for graph in filter(None, (scope.graph for scope in all_scopes(model))):
        for sparse in graph.sparse_initializer:
            dense = graph.initializer.add(name=sparse.values.name, data_type=sparse.values.data_type, dims=sparse.dims)
            dense.data_location = onnx.TensorProto.EXTERNAL
            dense.external_data.add(key="location", value=ELSEWHERE)
        del graph.sparse_initializer[:]
    return _error_of(lambda: infer_shapes(model, strict=True))


def _error_of(judge: Callable[[], object]) -> str:
    """What it raises, in one line, with the node that it is about; empty if nothing."""
    try:
        judge()
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        return one_line(error)[:500]
    return ""


def has_external(model: onnx.ModelProto) -> bool:
    """Whether a tensor's data are in another file."""
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in all_tensors(model))


def check_external(model: onnx.ModelProto, path: Path | None) -> list[Finding]:
    """What is wrong with the external data files of a model."""
    if path is None:
        text = "external data: the hardened model is in memory, so its data files are not known; give its file"
        return [finding(rules.NOT_RUN, text)] if has_external(model) else []
    try:
        data_files(model, path)
    except ModelError as error:
        return [finding(rules.EXTERNAL, str(error))]
    return []


# --- A model that ONNX's own tools can judge without its large payloads: what is left out has a placeholder -----------

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
