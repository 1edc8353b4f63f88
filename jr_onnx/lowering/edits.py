"""The changes to a model, described without touching it: what a plan comes to, for a file or for any other graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import onnx

from jr_onnx.forms.write import NewNode
from jr_onnx.graph.scopes import Scope


@dataclass
class ScopeEdit:
    """Changes to one scope's nodes.

    Attributes:
        replaced: index of a node -> what stands there instead; nothing at all for a node that goes.
        first: nodes in front of all others: the constants of a function, casts of a jump input.
        imports: for the main graph, whether the model's opset imports gain (True) or lose (False) the jr_onnx domain,
            for a function, whether the function's do; None if they stay.
    """

    scope: Scope
    replaced: dict[int, tuple[NewNode, ...]] = field(default_factory=dict)
    first: list[NewNode] = field(default_factory=list)
    imports: bool | None = None


@dataclass
class ModelEdit:
    """Changes to a model.

    Attributes:
        scopes: changes to nodes.
        initializers: new initializers of the main graph, by name.
        new_input: a new input of the main graph; its default is the initializer of the same name.
        jump_input: the graph input that is a jump afterwards; None where there is none.
        dropped: names of initializers of the main graph, and of inputs, that go.
        dropped_inputs: names of inputs of the main graph that go while the initializers stay.
        dropped_functions: names of functions of the jr_onnx domain that go.
        function: the function jr_onnx::JumpReLU to add.
        ir_version: the new IR version; None if it stays.
        metadata: entries of metadata_props in place of all that begin with "jr_onnx.".
    """

    scopes: dict[Scope, ScopeEdit] = field(default_factory=dict)
    initializers: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    new_input: onnx.ValueInfoProto | None = None
    jump_input: str | None = None
    dropped: set[str] = field(default_factory=set)
    dropped_inputs: set[str] = field(default_factory=set)
    dropped_functions: set[str] = field(default_factory=set)
    function: onnx.FunctionProto | None = None
    ir_version: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def at(self, scope: Scope) -> ScopeEdit:
        """The edit of a scope, to add to."""
        return self.scopes.setdefault(scope, ScopeEdit(scope))
