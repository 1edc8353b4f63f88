"""Every list of nodes in a model: the main graph, the bodies in it at any depth, and the model-local functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import onnx
import onnx.defs

#: From this IR version on an initializer need not be an input of its graph; one that is can be overridden by a caller.
#: Before it every initializer is listed as an input, and is constant all the same.
FREE_INITIALIZERS = 4

#: How to reach a body from the scope around it: node index, attribute index, index in `graphs` (None for `g`).
Step = tuple[int, int, int | None]


@dataclass(frozen=True, eq=False)
class Scope:
    """A list of nodes that share a name space.

    Attributes:
        path: "" for the main graph, "If_3/then_branch" for a body, "domain::name" for a function.
        graph: the graph; None for a function.
        function: the function; None for a graph.
        parent: the scope around a body; its values can be used in here.
        step: where in `parent` this body stands.
        index: which of `ModelProto.functions` a function is.
        opsets: domain -> version, as imported by the model or by the function around; "" is ONNX's own domain.
        ir_version: of the model.
    """

    path: str
    graph: onnx.GraphProto | None
    function: onnx.FunctionProto | None
    parent: Scope | None
    step: Step | None
    index: int | None
    opsets: Mapping[str, int]
    ir_version: int

    @property
    def nodes(self) -> Sequence[onnx.NodeProto]:
        holder = self.graph or self.function
        return () if holder is None else cast("Sequence[onnx.NodeProto]", holder.node)

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators in here; 0 where none is imported."""
        return self.opsets.get("", 0)

    @cached_property
    def outermost(self) -> Scope:
        """The main graph or the function that this scope lies in."""
        return self.parent.outermost if self.parent is not None else self

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """One label a node that tells it from its neighbours: its name, or with #index where that does not."""
        names = Counter(node.name for node in self.nodes)
        labels = []
        for index, node in enumerate(self.nodes):
            label = node.name
            if not label or names[label] > 1:
                label = f"{label or node.op_type}#{index}"
                while label in names:
                    label += "#"
            labels.append(label)
        return tuple(labels)

    def path_of(self, index: int) -> str:
        """The scope path of a node: "If_3/then_branch/Relu_1"."""
        return f"{self.path}/{self.labels[index]}" if self.path else self.labels[index]

    @cached_property
    def expanded(self) -> str:
        """The operator around this scope that runtimes replace by a function of ONNX, SequenceMap; empty if none is.

        onnxruntime mixes up the names of values when that function's body calls a model-local one
        (https://github.com/microsoft/onnxruntime/issues/12491).
        """
        if self.parent is None or self.step is None:
            return ""
        node = self.parent.nodes[self.step[0]]
        return node.op_type if _is_function(node, self.opsets) else self.parent.expanded

    def bodies(self) -> Iterator[Scope]:
        """The graphs in the attributes of this scope's nodes."""
        for index, node in enumerate(self.nodes):
            for position, attribute in enumerate(node.attribute):
                for number, graph in _graphs_of(attribute):
                    name = attribute.name if number is None else f"{attribute.name}[{number}]"
                    path = f"{self.path_of(index)}/{name}"
                    yield Scope(path, graph, None, self, (index, position, number), None, self.opsets, self.ir_version)


def all_scopes(model: onnx.ModelProto) -> Iterator[Scope]:
    """Every scope of a model; each comes before the bodies in it, the main graph comes first, the functions last."""
    opsets, ir = _opsets(model.opset_import), model.ir_version
    yield from _with_bodies(Scope("", model.graph, None, None, None, None, opsets, ir))
    for index, function in enumerate(model.functions):
        # What a function does not import itself it does not have; the checker's rule, and onnxruntime's.
        path = function_name(function.domain, function.name, function.overload)
        yield from _with_bodies(Scope(path, None, function, None, None, index, _opsets(function.opset_import), ir))


def function_name(domain: str, name: str, overload: str) -> str:
    """How messages name a function, or the operator of a node that calls one."""
    return f"{domain}::{name}" + (f":{overload}" if overload else "")


#: The domain, the name and the overload of a function, which is what a node calls it by.
FunctionKey = tuple[str, str, str]


def functions_of(model: onnx.ModelProto) -> dict[FunctionKey, onnx.FunctionProto]:
    """The model-local functions, by what calls them."""
    return {key_of(function): function for function in model.functions}


def key_of(function: onnx.FunctionProto) -> FunctionKey:
    """What calls a function."""
    return own_domain(function.domain), function.name, function.overload


def called_by(node: onnx.NodeProto) -> FunctionKey:
    """The function that a node calls, if the model has such a one."""
    return own_domain(node.domain), node.op_type, node.overload


def schema_of(domain: str, op_type: str, version: int) -> onnx.defs.OpSchema | None:
    """What ONNX defines of an operator as it is at a version of its domain; None where it knows none."""
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except (onnx.defs.SchemaError, TypeError):  # a TypeError: the version of a damaged model is beyond 32 bits
        return None


def _is_function(node: onnx.NodeProto, opsets: Mapping[str, int]) -> bool:
    """Whether ONNX defines an operator by a function."""
    domain = own_domain(node.domain)
    schema: Any = schema_of(domain, node.op_type, opsets.get(domain, 0))
    return schema is not None and bool(schema.has_function or schema.has_context_dependent_function)


def own_domain(domain: str) -> str:
    """ "" for ONNX's own domain under either of its names."""
    return "" if domain == "ai.onnx" else domain


def attribute_of(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    """An attribute by name; None where the node does not have it."""
    return next((attribute for attribute in node.attribute if attribute.name == name), None)


def graphs_in(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node's attributes: the branches of If, the bodies of Loop and Scan."""
    for attribute in node.attribute:
        for _, graph in _graphs_of(attribute):
            yield graph


def _graphs_of(attribute: onnx.AttributeProto) -> Iterator[tuple[int | None, onnx.GraphProto]]:
    if attribute.HasField("g"):
        yield None, attribute.g
    yield from enumerate(attribute.graphs)


def _with_bodies(scope: Scope) -> Iterator[Scope]:
    yield scope
    for body in scope.bodies():
        yield from _with_bodies(body)


def _opsets(imports: Sequence[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {own_domain(opset.domain): opset.version for opset in imports}
