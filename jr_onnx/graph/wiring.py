"""Who gives and who takes a value within one scope, and which values are constants."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from jr_onnx.element_types import FLOAT
from jr_onnx.graph.scopes import Scope
from jr_onnx.graph.structure import outputs_of, used_names

#: A constant with more elements is not read: it is no bound, zero point or jump, and a damaged one may claim any size.
_LARGEST = 1 << 20


class Wiring:
    """The edges of one scope. Values of the scopes around it are found through `outer`."""

    def __init__(self, scope: Scope, outer: Wiring | None) -> None:
        self.scope = scope
        self.outer = outer

    @cached_property
    def producers(self) -> dict[str, int]:
        """Value -> the index of the node that gives it."""
        return {name: index for index, node in enumerate(self.scope.nodes) for name in node.output if name}

    @cached_property
    def consumers(self) -> dict[str, list[int]]:
        """Value -> the indices of the nodes that take it, in attributes' graphs too; -1 is the scope's output."""
        consumers: dict[str, list[int]] = defaultdict(list)
        for index, node in enumerate(self.scope.nodes):
            for name in used_names(node):
                consumers[name].append(index)
        for name in outputs_of(self.scope):
            consumers[name].append(-1)
        return consumers

    def producer(self, name: str) -> tuple[int, onnx.NodeProto] | None:
        """The node of this scope that gives a value."""
        index = self.producers.get(name)
        return None if index is None else (index, self.scope.nodes[index])

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The value of an initializer or of a Constant node, here or outside; None where it is not constant.

        An initializer that is also a graph input can be overridden (from IR version 4 on), but its default counts.
        """
        tensor = self._tensors.get(name)
        if tensor is None:
            return self.outer.constant(name) if self.outer and name not in self.producers else None
        if math.prod(tensor.dims) > _LARGEST:
            return None
        try:
            return np.asarray(onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError, RuntimeError, LookupError):  # not all in the skeleton, or of no known type
            return None

    @cached_property
    def _tensors(self) -> dict[str, onnx.TensorProto]:
        tensors = {}
        if self.scope.graph is not None:
            tensors = {tensor.name: tensor for tensor in self.scope.graph.initializer}
        for node in self.scope.nodes:
            for attribute in node.attribute if node.op_type == "Constant" and node.output else ():
                if attribute.name == "value" and attribute.HasField("t"):
                    tensors[node.output[0]] = attribute.t
                elif attribute.name == "value_float":
                    tensors[node.output[0]] = onnx.TensorProto(data_type=FLOAT, float_data=[attribute.f])
        # What is in another file would be looked up in the current folder.
        return {name: tensor for name, tensor in tensors.items() if not tensor.data_location}
