"""For CUDA: Add and the JumpReLU behind it as one node, jr_onnx::AddJumpReLU, which passes over memory once.

    Add(A, B) of one shape, taken by a JumpReLU alone  ->  AddJumpReLU(A, B, jump) in the JumpReLU's place

Every other JumpReLU stays. Nothing in the file depends on a machine, and without the kernels its function body runs.
"""

from __future__ import annotations

from jr_onnx.forms.function import add_function_proto, body_for_all
from jr_onnx.forms.table import ADD_OP_TYPE, DOMAIN, JUMP_RELU
from jr_onnx.forms.write import NewNode
from jr_onnx.graph.scopes import all_scopes
from jr_onnx.graph.value_types import ValueTypes
from jr_onnx.lowering.edits import ModelEdit
from jr_onnx.modelfile.source import Source
from jr_onnx.sites.jumps import wiring_of
from jr_onnx.sites.survey import Site, survey


def fuse_adds(source: Source) -> tuple[ModelEdit, int, dict[str, str]]:
    """The edit, how many JumpReLUs took their Add in, and why (by path) the others did not."""
    model = source.skeleton
    scopes = tuple(all_scopes(model))
    types = ValueTypes(model, scopes)
    sites = [site for site in survey(model, scopes, clip=False).sites if site.hardened is not None]
    edit, fused, left = ModelEdit(), 0, {}
    body = body_for_all({site.element_type for site in sites}, scopes[0].opset)
    for site in sites:
        why_not = _why_not(site, types) if body is not None else "no function body serves all element types"
        if why_not:
            left[site.path] = why_not
            continue
        add, node = wiring_of(site.scope).producers[site.input], site.scope.nodes[site.nodes[-1]]
        inputs = (*site.scope.nodes[add].input, node.input[1])
        replaced = edit.at(site.scope).replaced
        replaced[add] = ()
        # Not its heir: of another operator, nothing but the name would be taken over.
        replaced[site.nodes[-1]] = (NewNode(ADD_OP_TYPE, inputs, (site.output,), DOMAIN, node.name),)
        fused += 1
    if body is not None and fused:
        edit.function = add_function_proto(body, scopes[0].opset, sites[0].element_type)
    return edit, fused, left


def _why_not(site: Site, types: ValueTypes) -> str:
    if site.hardened is None or site.hardened.form is not JUMP_RELU:
        return "it is no jr_onnx::JumpReLU; convert with the target custom-op"
    wiring = wiring_of(site.scope)
    produced = wiring.producer(site.input)
    if produced is None or produced[1].op_type != "Add" or produced[1].domain:
        return "there is no Add in front of it"
    if set(wiring.consumers[site.input]) != set(site.nodes):
        return "its Add is taken by others too"
    shapes = [{one.shape for one in types.lookup(site.scope, name)} for name in produced[1].input]
    if shapes[0] != shapes[1] or len(shapes[0]) != 1:
        return "the shapes that are added are not known to be the same"
    (shape,) = shapes[0]
    return "the shapes that are added are not known to be the same" if shape is None or None in shape else ""
