"""The element type and the shape of any value in a model, as declared, or else as ONNX's shape inference finds them.

A model-local function declares no types: its values have those of its calls, so its body is inferred once for each
combination of input types that it is called with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import onnx
import onnx.checker
import onnx.shape_inference

from jr_onnx.conversion.graph.scopes import FunctionKey, Scope, all_scopes, called_by, key_of, own_domain
from jr_onnx.conversion.graph.stand_ins import put_stand_ins

#: A dimension: its size, its symbolic name, or None where nothing is known.
Dimension = int | str | None


@dataclass(frozen=True)
class ValueType:
    """A tensor's element type (`TensorProto.DataType`) and its shape; the shape is None where the rank is unknown."""

    element_type: int
    shape: tuple[Dimension, ...] | None


@dataclass(frozen=True)
class OtherType:
    """The type of what is no tensor, such as a sequence of tensors: a serialized `TypeProto`."""

    serialized: bytes


Table = dict[str, ValueType | OtherType]


class ValueTypes:
    """Types by scope and name. Inference runs only if a value is asked for whose type or rank is not declared."""

    def __init__(self, model: onnx.ModelProto, scopes: tuple[Scope, ...]) -> None:
        """`scopes` are all scopes of `model`, in the order of `all_scopes`."""
        self._model = model
        self._scopes = scopes
        self._declared = {scope: _declared(scope) for scope in scopes}

    def lookup(self, scope: Scope, name: str) -> tuple[ValueType, ...]:
        """The types of a tensor as seen from a scope.

        One type as a rule; none where it is unknown, or no tensor; several in a function that is called with several.
        """
        declared = _visible(self._declared, scope, name)
        if isinstance(declared, ValueType) and declared.shape is not None:
            return (declared,)
        for around in _outwards(scope):
            if around in self._inferred and name in self._inferred[around]:
                return tuple(found for found in self._inferred[around][name] if isinstance(found, ValueType))
        return (declared,) if isinstance(declared, ValueType) else ()

    def is_called(self, scope: Scope) -> bool:
        """Whether a scope is part of the main graph, or of a function that the main graph calls, at any remove."""
        return scope.outermost.function is None or scope.outermost in self._inferred

    def calls_function(self, node: onnx.NodeProto) -> bool:
        """Whether a node calls one of the model's functions."""
        return self._function_of(node) is not None

    @cached_property
    def _inferred(self) -> dict[Scope, dict[str, dict[ValueType | OtherType, None]]]:
        """Scope -> name -> the types it has, in order of appearance; only functions can have several."""
        found: dict[Scope, dict[str, dict[ValueType | OtherType, None]]] = {}
        graphs = [scope for scope in self._scopes if scope.outermost.function is None]
        inferred = _infer(self._model)
        tables = {a: _declared(b) for a, b in zip(graphs, all_scopes(inferred), strict=False)}
        self._record(tables, found, set())
        return found

    @cached_property
    def _functions(self) -> dict[FunctionKey, Scope]:
        return {key_of(scope.function): scope for scope in self._scopes if scope.function is not None}

    @cached_property
    def _inside(self) -> dict[Scope, list[Scope]]:
        """The main graph or a function -> its scopes, in their order."""
        inside: dict[Scope, list[Scope]] = defaultdict(list)
        for scope in self._scopes:
            inside[scope.outermost].append(scope)
        return inside

    def _record(
        self,
        tables: dict[Scope, Table],
        found: dict[Scope, dict[str, dict[ValueType | OtherType, None]]],
        done: set[object],
    ) -> None:
        """Take the types of the scopes in `tables` into `found`, and follow the calls that are made in them."""
        for scope, table in tables.items():
            types = found.setdefault(scope, {})
            for name, value_type in table.items():
                types.setdefault(name, {})[value_type] = None
        for scope in tables:
            for node in scope.nodes:
                function = self._function_of(node)
                if function is None:
                    continue
                inputs = tuple(_visible(tables, scope, name) for name in node.input)
                call = (function, inputs, tuple(a.SerializeToString() for a in node.attribute))
                if call not in done:
                    done.add(call)
                    self._record(self._instantiate(function, node, inputs), found, done)

    def _instantiate(
        self, scope: Scope, call: onnx.NodeProto, inputs: tuple[ValueType | OtherType | None, ...]
    ) -> dict[Scope, Table]:
        """The types in a function, and in the bodies in it, for one call."""
        function = scope.function
        if function is None:
            return {}
        model = onnx.ModelProto(ir_version=self._model.ir_version, functions=self._called_in(scope))
        model.opset_import.extend(function.opset_import)
        for name, value_type in zip(function.input, inputs, strict=False):
            if value_type is not None:
                model.graph.input.append(_value_info(name, value_type))
        model.graph.value_info.extend(function.value_info)
        model.graph.node.extend(function.node)
        _bind_attributes(model.graph.node, {a.name: a for a in (*function.attribute_proto, *call.attribute)})
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in function.output)
        return {a: _declared(b) for a, b in zip(self._inside[scope], all_scopes(_infer(model)), strict=False)}

    def _called_in(self, scope: Scope) -> list[onnx.FunctionProto]:
        """The functions that a function calls, at any remove: all of them would make the inference quadratic."""
        called: dict[Scope, None] = {}
        waiting = [scope]
        while waiting:
            for inside in self._inside[waiting.pop()]:
                for function in filter(None, map(self._function_of, inside.nodes)):
                    if function not in called:
                        called[function] = None
                        waiting.append(function)
        return [function.function for function in called if function.function is not None]

    def _function_of(self, node: onnx.NodeProto) -> Scope | None:
        """The function that a node calls."""
        return self._functions.get(called_by(node))


def _infer(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inferred types; where inference gives up, the model as it was."""
    known = onnx.ModelProto()
    known.CopyFrom(model)
    put_stand_ins(known)
    try:
        return infer_shapes(known)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError):
        # What stays unknown is reported node by node, where it matters.
        return known


def _declared(scope: Scope) -> Table:
    table: Table = {}
    graph, function = scope.graph, scope.function
    if graph is not None:
        table.update(_types_of((*graph.value_info, *graph.output, *graph.input)))
        table.update({t.name: ValueType(t.data_type, tuple(t.dims)) for t in graph.initializer})
        sparse = ((one.values, tuple(one.dims)) for one in graph.sparse_initializer)
        table.update({values.name: ValueType(values.data_type, dims) for values, dims in sparse})
    elif function is not None:
        table.update(_types_of(function.value_info))
    return table


def _types_of(values: Iterable[onnx.ValueInfoProto]) -> Iterator[tuple[str, ValueType | OtherType]]:
    for value in values:
        tensor = value.type.tensor_type
        if tensor.elem_type:
            shape = tuple(_dimension(dim) for dim in tensor.shape.dim) if tensor.HasField("shape") else None
            yield value.name, ValueType(tensor.elem_type, shape)
        elif value.type.WhichOneof("value") not in (None, "tensor_type"):
            yield value.name, OtherType(value.type.SerializeToString(deterministic=True))


def _dimension(dim: onnx.TensorShapeProto.Dimension) -> Dimension:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return str(dim.dim_param) or None


def _value_info(name: str, value_type: ValueType | OtherType) -> onnx.ValueInfoProto:
    if isinstance(value_type, OtherType):
        return onnx.ValueInfoProto(name=name, type=onnx.TypeProto.FromString(value_type.serialized))
    return onnx.helper.make_tensor_value_info(name, value_type.element_type, value_type.shape)


def _visible(tables: dict[Scope, Table], scope: Scope, name: str) -> ValueType | OtherType | None:
    return next((tables[s][name] for s in _outwards(scope) if s in tables and name in tables[s]), None)


def _outwards(scope: Scope) -> Iterator[Scope]:
    current: Scope | None = scope
    while current is not None:
        yield current
        current = current.parent


def _bind_attributes(nodes: Iterable[onnx.NodeProto], values: Mapping[str, onnx.AttributeProto]) -> None:
    """Put the call's attributes where a function's nodes refer to them, in bodies too."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.ref_attr_name in values:
                name = attribute.name
                attribute.CopyFrom(values[attribute.ref_attr_name])
                attribute.name = name
            for graph in (attribute.g, *attribute.graphs):
                _bind_attributes(graph.node, values)


# --- ONNX's shape inference, kept from what it crashes on -------------------------------------------------------------

#: (domain, op_type): all of ONNX 1.17 to 1.23 for which that is so, as a test of every version of every operator shows.
_CRASHING = frozenset({("", "RegexFullMatch"), ("ai.onnx.ml", "DictVectorizer"), ("ai.onnx.ml", "LabelEncoder")})

#: What goes behind the operator of a node that the inference must pass over: it does so where it knows no operator.
_ASIDE = "#aside"


def infer_shapes(model: onnx.ModelProto, *, strict: bool = False) -> onnx.ModelProto:
    """`onnx.shape_inference.infer_shapes`; nodes that would crash it are passed over until their inputs have types.

    Args:
        strict: check types, and raise for whatever cannot be inferred.

    Raises:
        InferenceError, ValidationError, ValueError, RuntimeError: what ONNX's own raises.
    """
    if not any(map(_crashes, _nodes(model))):
        return onnx.shape_inference.infer_shapes(model, check_type=strict, strict_mode=strict)
    inferred, aside, before = model, -1, -2
    while aside != before:  # with each round more values have types
        known = onnx.ModelProto()
        known.CopyFrom(inferred)
        aside, before = _set_aside(known), aside
        inferred = onnx.shape_inference.infer_shapes(known, check_type=strict, strict_mode=strict)
        for node in _nodes(inferred):
            node.op_type = node.op_type.removesuffix(_ASIDE)
    return inferred


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return (node for scope in all_scopes(model) for node in scope.nodes)


def _crashes(node: onnx.NodeProto) -> bool:
    return (own_domain(node.domain), node.op_type) in _CRASHING


def _set_aside(model: onnx.ModelProto) -> int:
    """How many nodes the inference must pass over; those of functions too, whose values have types only in a call."""
    number = 0
    scopes = tuple(all_scopes(model))
    tables = {scope: _declared(scope) for scope in scopes if scope.outermost.function is None}
    for scope in scopes:
        for node in filter(_crashes, scope.nodes):
            if any(_visible(tables, scope, name) is None for name in node.input):
                node.op_type = f"{node.op_type}{_ASIDE}"
                number += 1
    return number
