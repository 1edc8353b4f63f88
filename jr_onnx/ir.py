"""The front door for users of onnx_ir and of torch's exporter: JumpReLU in an `ir.Model`, by the same plan and tables.

    program = torch.onnx.export(network, (x,), dynamo=True)
    jr_onnx.ir.harden(program, jump=0.5)
    program.save("model.jumprelu.onnx")

or, among other passes, `ir.passes.Sequential(..., JumpReluPass(jump=0.5), ...)`. Weights are neither read nor copied.
"""

from __future__ import annotations

import hashlib
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import onnx
import onnx_ir as ir

from jr_onnx.conversion.convertible import check_convertible
from jr_onnx.conversion.edits import ModelEdit, ScopeEdit
from jr_onnx.conversion.forms.table import Target
from jr_onnx.conversion.forms.write import NewNode, tensor_of, to_proto
from jr_onnx.conversion.graph.names import DOMAIN, DOMAIN_VERSION, PREFIX
from jr_onnx.conversion.graph.scopes import Scope, all_scopes
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.conversion.lower import planned_edit
from jr_onnx.conversion.options import Options, make_options
from jr_onnx.conversion.plan import lost_sites
from jr_onnx.conversion.policy import Jump, JumpReluPolicy
from jr_onnx.conversion.report import HardenReport, harden_report
from jr_onnx.conversion.sites.survey import survey
from jr_onnx.errors import ModelError
from jr_onnx.files.skeleton import PAYLOAD_LIMIT

#: What has nodes: a graph, or a model-local function.
Nodes = ir.Graph | ir.Function

#: The values that can be used in a scope, by name: its own, and those of the scopes around it.
Values = ChainMap[str, ir.Value]


class Program(Protocol):
    """What `torch.onnx.export(dynamo=True)` gives."""

    model: ir.Model


def harden(
    model: ir.Model | Program,
    *,
    jump: Jump | None = None,
    policy: JumpReluPolicy | str | Path | None = None,
    target: Target = "custom-op",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    jump_input: str | None = None,
    clip: bool = False,
    inline: bool = False,
    allow_empty: bool = False,
) -> HardenReport:
    """Put JumpReLU in place of every ReLU of a model, in place; subgraphs and functions included.

    What is saved then is what `jr_onnx.convert` makes of the model saved before.

    Args:
        model: an `onnx_ir.Model`, or the `torch.onnx.ONNXProgram` that has one. The other arguments are those of
            `jr_onnx.convert`.

    Raises:
        ModelError: the model is not one that can be converted.
        OptionError: an option makes no sense, for any model or for this one.

    Example:
        >>> import onnx_ir, jr_onnx.ir
        >>> model = onnx_ir.load("models/digits.onnx")
        >>> len(jr_onnx.ir.harden(model, jump=0.5).sites)
        4
        >>> onnx_ir.save(model, "hard.onnx")
    """
    options = make_options(jump, policy, target, include, exclude, jump_input, clip, inline, allow_empty)
    given = model if isinstance(model, ir.Model) else model.model
    skeleton = _skeleton(given)
    check_convertible(skeleton)
    return _harden(given, skeleton, options)


class JumpReluPass(ir.passes.InPlacePass):
    """`harden` as a pass of onnx_ir; the arguments are those of `jr_onnx.convert`.

    Before it the model must be a sound graph, and not optimised for one machine. After it all the JumpReLUs that the
    model records are found in it, and it is a sound graph still. A model without a ReLU is no error in a pipeline:
    the pass does nothing then.

    Raises:
        OptionError: an option makes no sense; at once for any model, or when the pass runs for this one.

    Example:
        >>> import onnx_ir, jr_onnx.ir
        >>> from onnx_ir.passes import Sequential, common
        >>> passes = Sequential(common.TopologicalSortPass(), jr_onnx.ir.JumpReluPass(jump=0.5))
        >>> passes(onnx_ir.load("models/digits.onnx")).modified
        True
    """

    def __init__(
        self,
        *,
        jump: Jump | None = None,
        policy: JumpReluPolicy | str | Path | None = None,
        target: Target = "custom-op",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        jump_input: str | None = None,
        clip: bool = False,
        inline: bool = False,
    ) -> None:
        self._options = make_options(jump, policy, target, include, exclude, jump_input, clip, inline, True)

    def requires(self, model: ir.Model) -> None:
        """The model can be converted."""
        try:
            check_convertible(_skeleton(model))
        except ModelError as error:
            raise ir.passes.PreconditionError(f"JumpReluPass: the model {error}") from error

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Harden the model; it is modified unless it had these very jumps already."""
        before = _skeleton(model)
        _harden(model, before, self._options)
        return ir.passes.PassResult(model, modified=_skeleton(model) != before)

    def ensures(self, model: ir.Model) -> None:
        """The graph is sound, and has all the JumpReLUs that it records."""
        skeleton = _skeleton(model)
        try:
            check_structure(skeleton)
        except ModelError as error:
            raise ir.passes.PostconditionError(f"JumpReluPass: the model {error}") from error
        lost = lost_sites(skeleton, survey(skeleton, tuple(all_scopes(skeleton)), clip=True))
        if lost:
            raise ir.passes.PostconditionError(f"JumpReluPass: the model {lost}")


def _harden(model: ir.Model, skeleton: onnx.ModelProto, options: Options) -> HardenReport:
    digest = hashlib.sha256(skeleton.SerializeToString()).hexdigest()
    plan, edit = planned_edit(skeleton, digest, options)
    _carry_out(model, edit, plan.scopes)
    return harden_report(options.target, plan)


# --- The model as a proto for analysis, without its large payloads ----------------------------------------------------


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    with _without_payloads(model):
        return ir.to_proto(model)


@contextmanager
def _without_payloads(model: ir.Model) -> Iterator[None]:
    """Empty tensors in the place of large ones, which protobuf would read, copy, and hold up to 2 GB of."""
    outermost: list[Nodes] = [model.graph, *model.functions.values()]
    holders = [one for whole in outermost for one in (whole, *whole.subgraphs())]
    initializers = [value for one in holders if isinstance(one, ir.Graph) for value in one.initializers.values()]
    tensors = [(value, value.const_value) for value in initializers if value.const_value is not None]
    nodes = [node for one in holders for node in one]
    attributes = [(node.attributes, one) for node in nodes for one in node.attributes.values() if _is_tensor(one)]
    try:
        for value, tensor in tensors:
            value.const_value = _without_payload(tensor)
        for holder, attribute in attributes:
            holder[attribute.name] = ir.AttrTensor(attribute.name, _without_payload(attribute.as_tensor()))
        yield
    finally:
        for value, tensor in tensors:
            value.const_value = tensor
        for holder, attribute in attributes:
            holder[attribute.name] = attribute


def _is_tensor(attribute: ir.Attr) -> bool:
    return attribute.type is ir.AttributeType.TENSOR and not attribute.is_ref()


def _without_payload(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    # What stands in another file is not read to be serialized, and text has no size.
    if isinstance(tensor, ir.ExternalTensor) or tensor.dtype is ir.DataType.STRING or tensor.nbytes <= PAYLOAD_LIMIT:
        return tensor
    empty = onnx.TensorProto(name=tensor.name or "", data_type=tensor.dtype.value, dims=tensor.shape.numpy())
    return ir.serde.deserialize_tensor(empty)


# --- The edits of a plan, carried out on the model itself -------------------------------------------------------------


def _carry_out(model: ir.Model, edit: ModelEdit, scopes: Sequence[Scope]) -> None:
    holders: dict[Scope, Nodes] = {}
    values: dict[Scope, Values] = {}
    for scope in scopes:
        holders[scope] = _holder(model, scope, holders)
        around = () if scope.parent is None else values[scope.parent].maps
        values[scope] = ChainMap({one.name: one for one in _own_values(holders[scope]) if one.name}, *around)
    _edit_initializers(model.graph, edit, values[scopes[0]])
    for scope in scopes:
        if scope in edit.scopes:
            _edit_nodes(holders[scope], edit.scopes[scope], values[scope])
    if edit.new_input is not None:  # after an input of its name has gone; of its default alone the type is declared
        default = model.graph.initializers[edit.new_input.name]
        model.graph.inputs.append(ir.serde.deserialize_value_info_proto(edit.new_input, default))
    for domain, name, overload in tuple(model.functions):
        if domain == DOMAIN and name in edit.dropped_functions:
            del model.functions[domain, name, overload]
    for proto in edit.functions:
        function = ir.serde.deserialize_function(proto)
        model.functions[function.identifier()] = function
    model.ir_version = edit.ir_version or model.ir_version
    for key in tuple(model.metadata_props):
        if key.startswith(PREFIX):
            del model.metadata_props[key]
    model.metadata_props.update(edit.metadata)


def _holder(model: ir.Model, scope: Scope, holders: Mapping[Scope, Nodes]) -> Nodes:
    """What has the nodes of a scope."""
    if scope.parent is None or scope.step is None:
        return model.graph if scope.index is None else tuple(model.functions.values())[scope.index]
    node, position, number = scope.step
    attribute = tuple(holders[scope.parent][node].attributes.values())[position]
    return attribute.as_graph() if number is None else attribute.as_graphs()[number]


def _own_values(holder: Nodes) -> Iterator[ir.Value]:
    yield from holder.inputs
    if isinstance(holder, ir.Graph):
        yield from holder.initializers.values()
    for node in holder:
        yield from node.outputs


def _edit_initializers(graph: ir.Graph, edit: ModelEdit, values: Values) -> None:
    """Put in the new initializers and take out those that go."""
    for name in edit.dropped & set(graph.initializers):
        del graph.initializers[name]
    for name, array in edit.initializers.items():
        value = values[name] = ir.Value(name=name, const_value=ir.serde.deserialize_tensor(tensor_of(name, array)))
        graph.register_initializer(value)


def _edit_nodes(holder: Nodes, edit: ScopeEdit, values: Values) -> None:
    old = tuple(holder)
    for new in edit.first:
        holder.insert_before(old[0], _node(new, None, values))
    for index, nodes in edit.replaced.items():
        for new in nodes:
            original = None if new.replaces is None else old[new.replaces]
            holder.insert_before(old[index], _node(new, original, values))
    holder.remove([old[index] for index in edit.replaced], safe=True)
    for value in [value for value in holder.inputs if value.name in edit.dropped_inputs]:
        holder.inputs.remove(value)
    if edit.imports:
        holder.opset_imports[DOMAIN] = DOMAIN_VERSION
    elif edit.imports is not None:
        del holder.opset_imports[DOMAIN]


def _node(new: NewNode, original: ir.Node | None, values: Values) -> ir.Node:
    """A new node, whose outputs take the place of the values that had their names."""
    proto = to_proto(new, None if original is None else ir.to_proto(original))
    del proto.input[:]  # they are values already
    parsed = ir.serde.deserialize_node(proto)
    node = ir.Node(
        parsed.domain,
        parsed.op_type,
        [values[name] if name else None for name in new.inputs],
        parsed.attributes.values(),
        overload=parsed.overload,
        outputs=[_output(name, values) for name in new.outputs],
        name=proto.name,
        doc_string=parsed.doc_string,
        metadata_props=dict(parsed.metadata_props),
    )
    if original is not None:
        node.meta.update(original.meta)
    return node


def _output(name: str, values: Values) -> ir.Value:
    value = ir.Value(name=name)
    before = values.maps[0].get(name) if name else None
    if before is not None:
        value.type, value.shape, value.doc_string = before.type, before.shape, before.doc_string
        value.metadata_props.update(before.metadata_props)
        value.meta.update(before.meta)
        ir.convenience.replace_all_uses_with(before, value, replace_graph_outputs=True)
    values[name] = value
    return value
