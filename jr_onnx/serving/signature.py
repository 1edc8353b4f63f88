"""What a model takes and gives, in the terms of the Open Inference Protocol, which the servers share.

Source: https://github.com/kserve/open-inference-protocol, "Tensor Data Types".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
import onnx.shape_inference

from jr_onnx.conversion.element_types import type_name
from jr_onnx.conversion.graph.names import initializer_names
from jr_onnx.conversion.graph.value_types import infer_shapes
from jr_onnx.conversion.metadata import jump_input_of
from jr_onnx.errors import ModelError

#: ONNX `TensorProto.DataType` -> the protocol's name. The servers have no bfloat16, and nothing for other types.
DATATYPES: Mapping[int, str] = {
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.UINT16: "UINT16",
    onnx.TensorProto.UINT32: "UINT32",
    onnx.TensorProto.UINT64: "UINT64",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT16: "INT16",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
    onnx.TensorProto.STRING: "BYTES",
}

#: A dimension that is chosen by each request.
FREE = -1


@dataclass(frozen=True)
class Tensor:
    """An input or output of a served model.

    Attributes:
        name: as in the model.
        element_type: `TensorProto.DataType`, one of `DATATYPES`.
        shape: with -1 for a dimension that is free.
        default: what a request gets that leaves this input out; None where it must not.
    """

    name: str
    element_type: int
    shape: tuple[int, ...]
    default: float | None = None

    @property
    def datatype(self) -> str:
        """The protocol's name of the element type."""
        return DATATYPES[self.element_type]

    def __str__(self) -> str:
        optional = "" if self.default is None else f", optional, default {self.default!r}"
        return f"{self.name} ({self.datatype} {list(self.shape)}{optional})"


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a served model, in the model's order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_signature(model: onnx.ModelProto) -> Signature:
    """The inputs that a request has, the jump input of a hardened model among them, and the outputs.

    Other inputs that have an initializer are constants as far as a server goes. Shapes of outputs are as shape
    inference finds them, because that is how onnxruntime reports them to a server, and Triton compares.

    Args:
        model: or its skeleton.

    Raises:
        ModelError: an input or output is not a tensor, or of an element type or rank that cannot be served.
    """
    constants = set(initializer_names(model.graph))
    jump = jump_input_of(model)
    inputs = [value for value in model.graph.input if value.name not in constants or value.name == jump]
    inferred = {value.name: value for value in _inferred(model)}
    outputs = [inferred.get(value.name, value) for value in model.graph.output]
    defaults = {} if jump is None else {jump: _default(model, jump)}
    return Signature(_tensors(inputs, "input", defaults), _tensors(outputs, "output", {}))


def _inferred(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    try:
        return list(infer_shapes(model).graph.output)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):  # the declared shapes have to do
        return []


def _default(model: onnx.ModelProto, jump: str) -> float | None:
    tensor = next((one for one in model.graph.initializer if one.name == jump), None)
    if tensor is None:
        return None
    try:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:  # which would be read from the current folder
            return float(onnx.numpy_helper.to_array(tensor))
    except (TypeError, ValueError):
        pass
    raise ModelError(
        f"input '{jump}' is recorded as the jump, and its default is not a number; convert the original again"
    )


def _tensors(
    values: Iterable[onnx.ValueInfoProto], kind: str, defaults: Mapping[str, float | None]
) -> tuple[Tensor, ...]:
    return tuple(_tensor(value, f"{kind} '{value.name}'", defaults.get(value.name)) for value in values)


def _tensor(value: onnx.ValueInfoProto, where: str, default: float | None) -> Tensor:
    if not value.type.HasField("tensor_type"):
        kind = (value.type.WhichOneof("value") or "value of no type").removesuffix("_type")
        raise ModelError(f"{where} is a {kind}; the servers carry tensors only")
    tensor = value.type.tensor_type
    if tensor.elem_type not in DATATYPES:
        raise ModelError(
            f"{where} is {type_name(tensor.elem_type)}, which the servers do not carry; cast it in the model"
        )
    if not tensor.HasField("shape"):
        raise ModelError(f"{where} declares no shape; export the model with the rank of its inputs and outputs")
    sizes = (dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else FREE for dim in tensor.shape.dim)
    return Tensor(value.name, tensor.elem_type, tuple(sizes), default)
