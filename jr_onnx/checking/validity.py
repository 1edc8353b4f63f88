"""What ONNX itself says of the hardened model: its checker, strict shape inference, and whether its data are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import onnx.checker
import onnx.shape_inference

from jr_onnx.checking import rules
from jr_onnx.checking.findings import Finding, finding
from jr_onnx.errors import ModelError
from jr_onnx.modelfile.external import DataFile, data_files
from jr_onnx.modelfile.skeleton import PAYLOAD_LIMIT
from jr_onnx.modelfile.tensors import all_tensors

#: To the checker a tensor whose data are not at hand; it looks for no file behind a "#".
_ELSEWHERE = "#left-out"


def check_validity(model: onnx.ModelProto, original: onnx.ModelProto | None) -> Iterator[Finding]:
    """onnx.checker and strict shape inference on the skeleton; the original's own faults are named as such."""
    theirs = without_payloads(model)
    ours = None if original is None else without_payloads(original)
    for rule, judge in ((rules.CHECKER, _checker_error), (rules.INFERENCE, _inference_error)):
        error = judge(theirs)
        if error:
            inherited = ours is not None and bool(judge(ours))
            note = "; the original fails too" if inherited else ""
            yield Finding(rule, f"{error}{note}", "", "warning" if inherited else "error")


def without_payloads(skeleton: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a skeleton in which the tensors without payload are external, so that it is a valid model."""
    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    for tensor in all_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or _is_empty(tensor):
            del tensor.external_data[:]
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=_ELSEWHERE)
    return model


def _is_empty(tensor: onnx.TensorProto) -> bool:
    count = 1
    for dim in tensor.dims:
        count *= dim
    stored = len(tensor.raw_data) or any(
        getattr(tensor, name)
        for name in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
    )
    return count * 4 >= PAYLOAD_LIMIT // 4 and not stored


def _checker_error(model: onnx.ModelProto) -> str:
    return _error_of(lambda: onnx.checker.check_model(model), onnx.checker.ValidationError)


def _inference_error(model: onnx.ModelProto) -> str:
    return _error_of(
        lambda: onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True),
        onnx.shape_inference.InferenceError,
    )


def _error_of(judge: Callable[[], object], kind: type[Exception]) -> str:
    """The first line of what it raises, with the node that it is about; empty if nothing."""
    try:
        judge()
    except (kind, ValueError, RuntimeError) as error:
        return " ".join(str(error).split())[:500]
    return ""


def check_external(model: onnx.ModelProto, path: Path | None) -> tuple[tuple[DataFile, ...], list[Finding]]:
    """The external data files of a model, or what is wrong with them."""
    if path is None:
        return (), []
    try:
        return data_files(model, path.parent), []
    except ModelError as error:
        return (), [finding(rules.EXTERNAL, str(error))]
