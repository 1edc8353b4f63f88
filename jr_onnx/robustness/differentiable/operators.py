"""What every operator of the copy is made of: the node as the operator sees it, and the type of the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor

from jr_onnx.robustness.gradients.errors import UnsupportedOperatorError

#: Takes the node and its inputs, None for those that are left out; gives one output, or a tuple of them.
Operator: TypeAlias = Callable[..., "Tensor | tuple[Tensor, ...]"]
Operators: TypeAlias = Mapping[str, Operator]

#: The floating types that become the one that the copy computes in.
_FLOATING = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.BFLOAT16,
)

_OTHER: Mapping[int, torch.dtype] = {
    onnx.TensorProto.BOOL: torch.bool,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.UINT16: torch.uint16,
    onnx.TensorProto.INT16: torch.int16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.UINT32: torch.uint32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.UINT64: torch.uint64,
}


@dataclass(frozen=True)
class Call:
    """A node as its operator sees it.

    Attributes:
        op_type: the operator.
        opset: the version of ONNX's operators.
        attributes: name -> value; strings are str, tensors are `torch.Tensor`.
        outputs: how many outputs are asked for.
        dtype: the floating type that the copy computes in.
    """

    op_type: str
    opset: int
    attributes: Mapping[str, Any]
    outputs: int
    dtype: torch.dtype

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(name, default)

    def axes(self, given: Tensor | None) -> list[int] | None:
        """The axes: an input in newer opsets, an attribute in older ones; None where neither is there."""
        return self.get("axes") if given is None else ints(given)

    def torch_type(self, element_type: int) -> torch.dtype:
        """The torch dtype for a `TensorProto.DataType`."""
        if element_type in _FLOATING:
            return self.dtype
        if element_type not in _OTHER:
            raise self.unsupported(f"{onnx.TensorProto.DataType.Name(element_type)} tensors")
        return _OTHER[element_type]

    def unsupported(self, detail: str) -> UnsupportedOperatorError:
        """The error that says what of this node cannot be done."""
        return UnsupportedOperatorError(self.op_type, detail)

    def one_output(self) -> None:
        """Refuse a node of which more than the first output is used."""
        if self.outputs > 1:
            raise self.unsupported("more outputs than the first")


def ints(tensor: Tensor) -> list[int]:
    """The integers in a tensor of any shape."""
    return [int(value) for value in tensor.reshape(-1).tolist()]


def to_tensor(array: npt.NDArray[Any], dtype: torch.dtype) -> Tensor:
    """An array as a tensor; every floating type becomes `dtype`, integers of less than 8 bits become 8-bit ones."""
    name = array.dtype.name
    if name in ("int2", "int4", "uint2", "uint4"):
        array = array.astype(np.int8 if name.startswith("int") else np.uint8)
    if array.dtype.kind in "fV":  # those of ml_dtypes are "V"
        return torch.from_numpy(np.array(array, np.float64)).to(dtype)
    if array.dtype.kind not in "iub":
        raise TypeError(f"no tensor of {array.dtype}")
    return torch.from_numpy(np.array(array, order="C"))


def attribute_values(node: onnx.NodeProto, dtype: torch.dtype) -> dict[str, Any]:
    """The attributes of a node as Python values and tensors."""
    values: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif isinstance(value, onnx.TensorProto):
            value = to_tensor(onnx.numpy_helper.to_array(value), dtype)
        elif attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
            value = list(value)
        values[attribute.name] = value
    return values
