"""Who gives and who takes a value within one scope, and which values are constants."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from jr_onnx.conversion.element_types import FLOAT, NUMPY_TYPES
from jr_onnx.conversion.graph.names import defined_names, initializer_names, outputs_of, used_names
from jr_onnx.conversion.graph.scopes import FREE_INITIALIZERS, Scope, attribute_of, own_domain

#: A constant with more elements is not read: it is no bound, zero point or jump, and a damaged one may claim any size.
LARGEST = 1 << 20

#: How many nodes are followed from a value to the constant behind it; no exporter writes nearly as many.
FARTHEST = 32

#: NumPy has no arrays of more axes.
_MOST_AXES = 32

INT64 = onnx.TensorProto.INT64

_NO_NUMBERS = (onnx.TensorProto.STRING, onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)

INTEGERS = frozenset(getattr(onnx.TensorProto, f"{sign}INT{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64))

#: The types to which a Cast of a constant is followed: those of a jump, and of a zero point.
_CASTS = {*NUMPY_TYPES, *INTEGERS}


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

    @cached_property
    def bodies(self) -> dict[int, list[Wiring]]:
        """The index of a node -> the edges of the graphs in its attributes."""
        bodies: dict[int, list[Wiring]] = defaultdict(list)
        for scope in self.scope.bodies():
            if scope.step is not None:
                bodies[scope.step[0]].append(Wiring(scope, self))
        return bodies

    def producer(self, name: str) -> tuple[int, onnx.NodeProto] | None:
        """The node of this scope that gives a value."""
        index = self.producers.get(name)
        return None if index is None else (index, self.scope.nodes[index])

    def home(self, name: str) -> Wiring | None:
        """The scope that a value belongs to: this one or the nearest around it; None where it is defined nowhere.

        Whatever looks a value up by its name begins here, because what a body defines, its inputs among it, hides a
        value of the same name outside.
        """
        if name in self._defined:
            return self
        return self.outer.home(name) if self.outer else None

    def source(self, name: str) -> tuple[Wiring, onnx.NodeProto] | None:
        """The node that gives a value, in this scope or around it, and the edges of the node's scope."""
        home = self.home(name)
        index = home.producers.get(name) if home is not None else None
        return None if home is None or index is None else (home, home.scope.nodes[index])

    def unread(self, name: str) -> str:
        """Why `constant` does not know the numbers of a constant; empty where it does, and of text and what varies."""
        home = self.home(name)
        tensor = home._tensors.get(name) if home else None
        if tensor is None or tensor.data_type in _NO_NUMBERS or _numbers(tensor) is not None:
            return ""
        return "in another file" if tensor.data_location else "too large to be read, or damaged"

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The numbers of an initializer or of a Constant node, here or outside; None where it is not constant.

        An initializer that is also an input of the main graph may be overridden (`is_overridable`); its default counts.
        """
        home = self.home(name)
        tensor = home._tensors.get(name) if home else None
        return _numbers(tensor) if tensor is not None else None

    @cached_property
    def _defined(self) -> set[str]:
        """Every name that this scope itself gives to a value."""
        if self.scope.graph is not None:
            return set(defined_names(self.scope.graph))
        inputs = self.scope.function.input if self.scope.function is not None else ()
        return {*inputs, *self.producers}

    @cached_property
    def _tensors(self) -> dict[str, onnx.TensorProto]:
        tensors = {}
        if self.scope.graph is not None:
            tensors = {tensor.name: tensor for tensor in self.scope.graph.initializer}
        for node in self.scope.nodes:
            for attribute in node.attribute if node.op_type == "Constant" and node.output else ():
                tensor = _tensor_in(attribute)
                if tensor is not None:
                    tensors[node.output[0]] = tensor
        if self.scope.graph is not None and self.scope.parent and self.scope.ir_version >= FREE_INITIALIZERS:
            for value in self.scope.graph.input:  # of a body: what its node passes in
                tensors.pop(value.name, None)
        return tensors

    @cached_property
    def _defaults(self) -> set[str]:
        """The inputs that have a default."""
        graph = self.scope.graph
        if graph is None or self.scope.parent is not None or self.scope.ir_version < FREE_INITIALIZERS:
            return set()
        return {value.name for value in graph.input} & set(initializer_names(graph))


def _numbers(tensor: onnx.TensorProto) -> npt.NDArray[Any] | None:
    """What a tensor holds; None where that is too much, no real numbers, damaged, or in another file."""
    # ONNX would look for another file in the current folder.
    if tensor.data_location or tensor.data_type in _NO_NUMBERS or math.prod(tensor.dims) > LARGEST:
        return None
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError, RuntimeError, LookupError):  # not all in the skeleton, or of no known type
        return None


def _tensor_in(attribute: onnx.AttributeProto) -> onnx.TensorProto | None:
    """The value in an attribute of a Constant node; None where it is no number, or whatever a function's call says."""
    if attribute.ref_attr_name:
        return None
    if attribute.name == "value" and attribute.HasField("t"):
        return attribute.t
    if attribute.name == "value_float":
        return onnx.TensorProto(data_type=FLOAT, float_data=[attribute.f])
    if attribute.name == "value_floats":
        return onnx.TensorProto(data_type=FLOAT, dims=[len(attribute.floats)], float_data=attribute.floats)
    if attribute.name == "value_int":
        return onnx.TensorProto(data_type=INT64, int64_data=[attribute.i])
    if attribute.name == "value_ints":
        return onnx.TensorProto(data_type=INT64, dims=[len(attribute.ints)], int64_data=attribute.ints)
    return None


def constant_value(wiring: Wiring, name: str) -> npt.NDArray[Any] | None:
    """A constant, also by ConstantOfShape, behind Identity or Cast, or as the difference of a constant with itself.

    A jump that is a graph input is cast where sites have several element types, and the zero in the function
    jr_onnx::JumpReLU is such a difference.
    """
    passed: list[onnx.NodeProto] = []
    value = wiring.constant(name)
    while value is None:
        source = wiring.source(name)
        if source is None:
            return None
        wiring, node = source
        if node.op_type == "ConstantOfShape":
            value = _filled(wiring, node)
            break
        if len(passed) == FARTHEST or not _keeps_constant(node):
            return None
        passed.append(node)
        name = node.input[0]
        value = wiring.constant(name)
    if value is None:
        return None
    for node in reversed(passed):
        to = attribute_of(node, "to")
        if node.op_type == "Sub":
            value = np.zeros_like(value)
        elif to is not None:  # a Cast
            with np.errstate(invalid="ignore", over="ignore"):
                value = value.astype(onnx.helper.tensor_dtype_to_np_dtype(to.i))
    return value


def is_overridable(wiring: Wiring, name: str) -> bool:
    """Whether a value that `constant_value` knows comes from a default that whoever runs the model may override.

    Source: https://github.com/onnx/onnx/blob/main/docs/IR.md (graphs, initializers). What onnxruntime does is the same:
    `InferenceSession.get_overridable_initializers` is empty before IR version 4, and those inputs cannot be fed.
    """
    for _ in range(FARTHEST + 1):
        home = wiring.home(name)
        if home is None or name in home._defaults:
            return home is not None
        source = home.source(name)
        if source is None or not source[1].input:
            return False
        wiring, name = home, source[1].input[0]
    return False


def number_of(wiring: Wiring, name: str) -> float | None:
    """The one number that a constant holds, quantized or not, if a value is such a constant."""
    constant = constant_value(wiring, name) if name else None
    if constant is not None:
        return float(constant.item()) if constant.size == 1 else None
    source = wiring.source(name) if name else None
    if source is None or source[1].op_type != "DequantizeLinear":
        return None
    return dequantized_number(source[0], list(source[1].input))


def dequantized_number(wiring: Wiring, names: Sequence[str]) -> float | None:
    """What an integer, its scale and its zero point, if there is one, stand for, if all are constants of one number.

    The number itself, where it is quantized when the model runs.
    """
    source = wiring.source(names[0]) if names else None
    if source is not None and source[1].op_type == "QuantizeLinear":
        return number_of(source[0], source[1].input[0])
    constants = [constant_value(wiring, name) for name in names if name]
    if len(constants) < 2 or any(constant is None or constant.size != 1 for constant in constants):
        return None
    integer, scale, *zero = (float(constant.item()) for constant in constants if constant is not None)
    return (integer - sum(zero)) * scale


def fill_of(node: onnx.NodeProto) -> npt.NDArray[Any] | None:
    """The one number, of shape [1], that a ConstantOfShape repeats; None where that is not known."""
    given = attribute_of(node, "value")
    if given is None:
        return np.zeros(1, np.float32)
    fill = None if given.ref_attr_name else _numbers(given.t)
    return fill if fill is not None and fill.size == 1 else None


def _filled(wiring: Wiring, node: onnx.NodeProto) -> npt.NDArray[Any] | None:
    shape = wiring.constant(node.input[0]) if node.input and not own_domain(node.domain) else None
    if shape is None or shape.ndim != 1 or shape.dtype != np.int64 or (shape < 0).any():
        return None
    dimensions = [int(dimension) for dimension in shape]
    if math.prod(dimensions) > LARGEST or len(dimensions) > _MOST_AXES:
        return None
    fill = fill_of(node)
    return None if fill is None else np.full(dimensions, fill.reshape(()))


def _keeps_constant(node: onnx.NodeProto) -> bool:
    """Whether a node gives a constant where its first input is one, as far as `constant_value` can follow."""
    if own_domain(node.domain) or not node.input:
        return False
    if node.op_type == "Cast":
        to = attribute_of(node, "to")
        return to is not None and to.i in _CASTS
    return node.op_type == "Identity" or (node.op_type == "Sub" and len(set(node.input)) == 1)
