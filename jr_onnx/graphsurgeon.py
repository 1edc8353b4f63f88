"""The front door for users of onnx-graphsurgeon: JumpReLU in a `gs.Graph`, by the same plan and the same tables.

    import onnx_graphsurgeon as gs
    from jr_onnx.graphsurgeon import harden

    graph = gs.import_onnx(onnx.load("model.onnx"))
    harden(graph, jump=0.5)
    onnx.save(gs.export_onnx(graph), "model.jumprelu.onnx")

Importing this module also registers `graph.jump_relu(x, jump)`, the way graphsurgeon users extend it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs

from jr_onnx.arguments import unfit
from jr_onnx.conversion.convertible import check_convertible
from jr_onnx.conversion.edits import ModelEdit, ScopeEdit
from jr_onnx.conversion.element_types import NUMPY_TYPES, round_jump
from jr_onnx.conversion.forms.table import FUNCTIONS_IR_VERSION, Target
from jr_onnx.conversion.forms.write import NewNode, body_for, function_proto
from jr_onnx.conversion.graph.names import DOMAIN, DOMAIN_VERSION, OP_TYPE
from jr_onnx.conversion.graph.scopes import Scope
from jr_onnx.conversion.lower import planned_edit
from jr_onnx.conversion.options import make_options
from jr_onnx.conversion.policy import Jump, JumpReluPolicy
from jr_onnx.conversion.report import HardenReport, harden_report
from jr_onnx.errors import ModelError, OptionError
from jr_onnx.files.external import all_tensors
from jr_onnx.files.skeleton import PAYLOAD_LIMIT


def harden(
    graph: gs.Graph,
    *,
    jump: Jump | None = None,
    policy: JumpReluPolicy | str | Path | None = None,
    target: Target = "custom-op",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    clip: bool = False,
    inline: bool = False,
    allow_empty: bool = False,
) -> HardenReport:
    """Put JumpReLU in place of every ReLU of a graphsurgeon graph, in place; subgraphs and functions included.

    The arguments are those of `jr_onnx.convert`. A graphsurgeon graph has no metadata, so nothing records that it was
    hardened: converting again what was written as ThresholdedRelu (the target "standard") finds nothing, other forms
    are known by their structure and names. It has no inputs with defaults either, so there is no `jump_input`;
    `graph.jump_relu(x, jump)` takes any tensor as the jump.

    Raises:
        ModelError: the graph is not one that can be converted.
        OptionError: an option makes no sense, for any graph or for this one.
    """
    if not isinstance(graph, gs.Graph):
        raise unfit("graph", graph, "an onnx_graphsurgeon.Graph, as import_onnx gives")
    options = make_options(jump, policy, target, include, exclude, None, clip, inline, allow_empty)
    model = _exported(graph)
    check_convertible(model)
    plan, edit = planned_edit(model, "", options)
    graphs = _graphs_by_scope(graph, plan.scopes)
    constants = _new_constants(edit)
    for scope_edit in edit.scopes.values():
        _edit_scope(graphs[scope_edit.scope], scope_edit, constants)
    _edit_graph(graph, edit)
    return harden_report(options.target, plan)


def _exported(graph: gs.Graph) -> onnx.ModelProto:
    """The graph as a model for analysis, without its large payloads (protobuf could not carry more than 2 GB)."""
    model: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    for tensor in all_tensors(model):
        if len(tensor.raw_data) > PAYLOAD_LIMIT:
            tensor.ClearField("raw_data")
    return model


def _graphs_by_scope(graph: gs.Graph, scopes: Sequence[Scope]) -> dict[Scope, gs.Graph]:
    """The graphsurgeon graph or function of each scope of the exported model."""
    graphs: dict[Scope, gs.Graph] = {}
    for scope in scopes:
        if scope.parent is not None and scope.step is not None:
            node, attribute, _ = scope.step
            name = scope.parent.nodes[node].attribute[attribute].name
            around = graphs[scope.parent]
            graphs[scope] = around.nodes[node - _constants(scope.parent, around)].attrs[name]
        else:
            graphs[scope] = graph if scope.index is None else graph.functions[scope.index]
    return graphs


def _constants(scope: Scope, graph: gs.Graph) -> int:
    """How many Constant nodes the export has put in front of a function's own nodes."""
    return len(scope.nodes) - len(graph.nodes)


def _new_constants(edit: ModelEdit) -> dict[str, npt.NDArray[Any]]:
    """All constants that the edit adds, by name; graphsurgeon has them as tensors, not as nodes or initializers."""
    constants = dict(edit.initializers)
    for scope_edit in edit.scopes.values():
        for new in scope_edit.first:
            value = new.attributes["value"]
            if isinstance(value, np.ndarray):
                constants[new.outputs[0]] = value
    return constants


def _edit_scope(graph: gs.Graph, edit: ScopeEdit, constants: Mapping[str, npt.NDArray[Any]]) -> None:
    graph.inputs = [tensor for tensor in graph.inputs if tensor.name not in edit.dropped_inputs]
    offset = _constants(edit.scope, graph)
    old = list(graph.nodes)
    replaced = {index - offset: new for index, new in edit.replaced.items() if index >= offset}
    kept = {new.replaces - offset for news in replaced.values() for new in news if new.replaces is not None}
    tensors = {tensor.name: tensor for node in old for tensor in (*node.inputs, *node.outputs) if not tensor.is_empty()}
    # The export writes a constant into every graph that uses it, so it needs a name of its own in each body.
    suffix = f".{edit.scope.path}" if edit.scope.parent is not None else ""
    tensors.update({name: gs.Constant(name + suffix, value) for name, value in constants.items()})
    for index in replaced:
        old[index].outputs.clear()
        if index not in kept:
            old[index].inputs.clear()
    nodes: list[gs.Node] = []
    for index, node in enumerate(old):
        if index not in replaced:
            nodes.append(node)
        for new in replaced.get(index, ()):
            nodes.append(_node(new, tensors, None if new.replaces is None else old[new.replaces - offset]))
    graph.nodes = nodes


def _node(new: NewNode, tensors: dict[str, gs.Tensor], original: gs.Node | None) -> gs.Node:
    """A new node; the object that it replaces becomes it, so that whoever holds that holds what took its place."""
    inputs, outputs = (
        [tensors.setdefault(name, gs.Variable(name)) if name else gs.Variable.empty() for name in names]
        for names in (new.inputs, new.outputs)
    )
    attributes = {name: _attribute(value) for name, value in new.attributes.items()}
    if original is None:
        return gs.Node(new.op_type, new.name, attributes, inputs, outputs, domain=new.domain or None)
    if (original.op, original.domain or "") != (new.op_type, new.domain):
        original.attrs.clear()
    original.op, original.domain = new.op_type, new.domain or None
    original.attrs.update(attributes)
    original.inputs, original.outputs = inputs, outputs
    return original


def _attribute(value: object) -> object:
    return [item.decode() if isinstance(item, bytes) else item for item in value] if isinstance(value, list) else value


def _edit_graph(graph: gs.Graph, edit: ModelEdit) -> None:
    dropped = {(DOMAIN, name) for name in edit.dropped_functions}
    graph.functions = [f for f in graph.functions if f.unique_id not in dropped]
    for function in edit.functions:
        _add_function(graph, function)
    if edit.ir_version is not None:
        graph.ir_version = edit.ir_version


def _add_function(graph: gs.Graph, proto: onnx.FunctionProto) -> None:
    model = onnx.helper.make_model(onnx.GraphProto(), functions=[proto], opset_imports=proto.opset_import)
    graph.functions.extend(gs.import_onnx(model).functions)
    if graph.import_domains is None:
        graph.import_domains = [onnx.helper.make_opsetid("", graph.opset)]
    if all(opset.domain != DOMAIN for opset in graph.import_domains):
        graph.import_domains.append(onnx.helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    if graph.ir_version is not None:
        graph.ir_version = max(graph.ir_version, FUNCTIONS_IR_VERSION)


@gs.Graph.register()  # type: ignore[untyped-decorator]
def jump_relu(self: gs.Graph, x: gs.Tensor, jump: float | gs.Tensor) -> gs.Tensor:
    """Add a JumpReLU node to a graph, and the function that gives it a meaning where there is no kernel.

    Args:
        self: the graph, or a subgraph of one.
        x: float16, bfloat16, float or double; its dtype must be known if `jump` is a number.
        jump: a number, rounded to the dtype of `x`; or a tensor that broadcasts to the shape of `x`.

    Returns:
        The output, with the dtype and the shape of `x`.

    Raises:
        OptionError: the dtype of `x` is unknown or not floating point, or the jump is negative or not finite.
    """
    # Asked for by hand, because to NumPy None is a dtype: float64.
    known = {} if x.dtype is None else NUMPY_TYPES
    element_type = next((number for number, dtype in known.items() if x.dtype in (dtype, number)), None)
    if element_type is None:
        raise OptionError(f"jump_relu: '{x.name}' has dtype {x.dtype}; set it to a floating-point dtype")
    given = (
        jump if isinstance(jump, gs.Tensor) else np.asarray(round_jump(jump, element_type), NUMPY_TYPES[element_type])
    )
    (y,) = self.layer(op=OP_TYPE, domain=DOMAIN, inputs=[x, given], outputs=["jump_relu"])
    y.dtype, y.shape = x.dtype, x.shape
    for function in self.functions:
        casts = [node.attrs["to"] for node in function.nodes if node.op == "Cast"]
        if function.unique_id == (DOMAIN, OP_TYPE) and any(to != element_type for to in casts):
            raise ModelError(f"jump_relu: at opset {self.opset} one graph takes one dtype; use opset 9 or newer")
    if all(function.unique_id != (DOMAIN, OP_TYPE) for function in self.functions):
        body = body_for(element_type, self.opset)
        if body is None:
            raise ModelError(f"jump_relu: opset {self.opset} has no operators for it; use a newer opset")
        _add_function(self, function_proto(body, self.opset, element_type))
    return y
