"""A graph as a list of steps: functions inlined, every form of JumpReLU one step, what no output needs left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import onnx.inliner
import torch
from google.protobuf.message import DecodeError
from torch import Tensor

from jr_onnx.conversion.forms.recognise import Match, recognise, step_of
from jr_onnx.conversion.forms.table import ALL_FORMS, HARD_SIGMOID, LOWEST_OPSET
from jr_onnx.conversion.graph.names import DOMAIN, FORM, OP_TYPE, PREFIX, mark_of, set_marks
from jr_onnx.conversion.graph.scopes import Scope, all_scopes, own_domain
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.conversion.graph.wiring import Wiring
from jr_onnx.conversion.sites.matchers import attribute_of, operator_name
from jr_onnx.errors import ModelError
from jr_onnx.files.source import open_file
from jr_onnx.robustness.gradients.errors import UnsupportedOperatorError
from jr_onnx.robustness.differentiable.operators import Call, attribute_values, to_tensor
from jr_onnx.robustness.differentiable.table import OPERATORS
from jr_onnx.text import one_line

#: Where a node says what its path was before functions were inlined.
_PATH = f"{PREFIX}path"


@dataclass(frozen=True)
class Step:
    """One operator to run.

    Attributes:
        call: the node as its operator sees it; None for a Relu or a JumpReLU.
        inputs: names; "" is an input that is left out. Of a JumpReLU: x, and the jump where it is a value.
        outputs: names.
        path: of a Relu or a JumpReLU: its path in the model, as `jr-onnx inspect` shows it.
        jump: of a Relu or a JumpReLU whose jump is no value: the jump.
        last_use: the values that no later step needs.
    """

    call: Call | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    path: str = ""
    jump: float = 0.0
    last_use: tuple[str, ...] = ()


@dataclass(frozen=True)
class Program:
    """What there is to run.

    Attributes:
        inputs: the graph inputs that have no default.
        outputs: the values asked for.
        steps: in topological order.
        constants: name -> value; initializers, and defaults of graph inputs.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    constants: Mapping[str, Tensor]


def read_model(model: onnx.ModelProto | str | Path) -> onnx.ModelProto:
    """A copy of the model with all its weights.

    Raises:
        ModelError: it cannot be read, or is not an ONNX model.
    """
    if isinstance(model, onnx.ModelProto):
        check_structure(model)
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    path = Path(model)
    with open_file(path) as source:  # says what is wrong with it
        check_structure(source.skeleton)
        try:
            return onnx.load(path)
        except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
            raise ModelError(one_line(error)) from error


def flatten(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions but JumpReLU; every node that may end a site says its path in the model given."""
    endings = {"Relu", *(form.ops[-1].op_type for form in ALL_FORMS)}
    for scope in all_scopes(model):
        for index, node in enumerate(scope.nodes):
            if node.op_type in endings:
                node.metadata_props.add(key=_PATH, value=scope.path_of(index))
    if all((function.domain, function.name) == (DOMAIN, OP_TYPE) for function in model.functions):
        return model
    return onnx.inliner.inline_selected_functions(model, [(DOMAIN, OP_TYPE)], exclude=True)


def compile_program(model: onnx.ModelProto, dtype: torch.dtype, outputs: Sequence[str] | None = None) -> Program:
    """The program of a model's main graph.

    Args:
        model: one that `flatten` gave.
        dtype: the floating type to compute in.
        outputs: the values to compute; None for the outputs of the graph.

    Raises:
        UnsupportedOperatorError: an operator, or the type of a tensor, has no counterpart in torch.
        ModelError: the opset is too old.
    """
    scope = next(all_scopes(model))
    if scope.opset < LOWEST_OPSET:
        raise ModelError(
            f"opset {scope.opset} is older than {LOWEST_OPSET}; convert the model with onnx.version_converter first"
        )
    wanted = tuple(outputs or (value.name for value in model.graph.output))
    steps = _needed(_steps(scope, dtype), wanted)
    used = {name for step in steps for name in step.inputs} | set(wanted)
    constants = {tensor.name: _constant(tensor, dtype) for tensor in model.graph.initializer if tensor.name in used}
    defaults = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(value.name for value in model.graph.input if value.name not in defaults)
    known = {"", *inputs, *constants}
    for step in steps:
        if missing := set(step.inputs) - known:
            raise ModelError(f"value '{min(missing)}' is used before it is given; sort the graph's nodes")
        known |= set(step.outputs)
    return Program(inputs, wanted, steps, constants)


def _constant(tensor: onnx.TensorProto, dtype: torch.dtype) -> Tensor:
    try:
        return to_tensor(onnx.numpy_helper.to_array(tensor), dtype)
    except (TypeError, ValueError, OSError, onnx.checker.ValidationError) as error:
        raise ModelError(f"initializer '{tensor.name}' cannot be read: {error}") from error


def _steps(scope: Scope, dtype: torch.dtype) -> list[Step]:
    matches = _matches(Wiring(scope, None))
    inside = {index for match in matches.values() for index in match.nodes[:-1]}
    return [
        _site(scope, index, matches.get(index))
        if index in matches or (node.op_type == "Relu" and not own_domain(node.domain))
        else _operation(scope, node, dtype)
        for index, node in enumerate(scope.nodes)
        if index not in inside
    ]


def _matches(wiring: Wiring) -> dict[int, Match]:
    """Every JumpReLU by the index of its last node; also one that another tool wrote, or took the mark from."""
    found: dict[int, Match] = {}
    for index, node in enumerate(wiring.scope.nodes):
        for form in ALL_FORMS:
            if (node.op_type, own_domain(node.domain)) != (form.ops[-1].op_type, form.ops[-1].domain):
                continue
            if mark_of(node, FORM) is None:
                path = _path_of(wiring.scope, index)
                set_marks(node, {FORM: form.name, _PATH: path})
                match = recognise(form, wiring, index)
                set_marks(node, {_PATH: path})
            else:
                match = recognise(form, wiring, index)
            if match is not None:
                found[index] = match
                break
    return found


def _path_of(scope: Scope, index: int) -> str:
    return mark_of(scope.nodes[index], _PATH) or scope.path_of(index)


def _site(scope: Scope, index: int, match: Match | None) -> Step:
    node = scope.nodes[index]
    path = _path_of(scope, index)
    if match is None:
        return Step(None, (node.input[0],), (node.output[0],), path)
    if "jump" in match.values:
        return Step(None, (match.x, match.values["jump"]), (match.y,), path)
    if match.form is HARD_SIGMOID:
        step = step_of(scope.nodes[match.nodes[-2]])
        if step is None:
            raise ModelError(f"node '{path}': is marked as a JumpReLU, but its HardSigmoid is no step")
        return Step(None, (match.x,), (match.y,), path, step)
    alpha = attribute_of(node, "alpha")
    return Step(None, (match.x,), (match.y,), path, 1.0 if alpha is None else alpha.f)


def _operation(scope: Scope, node: onnx.NodeProto, dtype: torch.dtype) -> Step:
    name = operator_name(node)
    try:
        attributes = attribute_values(node, dtype)
    except TypeError as error:
        raise UnsupportedOperatorError(name, str(error)) from error
    call = Call(name, scope.opset, attributes, sum(map(bool, node.output)), dtype)
    return Step(call, tuple(node.input), tuple(node.output))


def _needed(steps: list[Step], outputs: tuple[str, ...]) -> tuple[Step, ...]:
    """The steps that the outputs depend on, each with the values that it is the last to use."""
    alive = set(outputs)
    kept: list[Step] = []
    missing: set[str] = set()
    for step in reversed(steps):
        if not alive.intersection(step.outputs):
            continue
        if step.call is not None and step.call.op_type not in OPERATORS:
            missing.add(step.call.op_type)
        dying = {name for name in step.inputs if name} - alive
        alive |= dying
        kept.append(replace(step, last_use=tuple(dying)))
    if missing:
        raise UnsupportedOperatorError(", ".join(sorted(missing)))
    return tuple(reversed(kept))
