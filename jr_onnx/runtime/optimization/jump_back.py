"""JumpReLU back into the graph that onnxruntime laid out: behind what it fused, in place, in whatever layout.

in the optimised graph                                   becomes
Relu that was not fused                                  JumpReLU in its place
Conv, FusedConv, FusedGemm with activation Relu or Clip  the same, and JumpReLU behind it
such a Conv, and MaxPool alone behind it (both blocked)  the same, and JumpReLU behind the MaxPool

One jump for all elements does not care how they lie in memory. JumpReLU is monotone, so that it can pass below a
MaxPool; but onnxruntime's plain MaxPool gives the lowest number for a window of nothing but NaN, which JumpReLU would
make 0, and so would a window that lies in the padding alone. The blocked MaxPool gives NaN, and `_passes` lets no
such window be.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import onnx

from jr_onnx.conversion.edits import ModelEdit
from jr_onnx.conversion.element_types import FLOAT
from jr_onnx.conversion.forms.table import FUNCTIONS_IR_VERSION, JUMP_RELU
from jr_onnx.conversion.forms.write import NewNode, add_function_proto, body_for_all, function_proto
from jr_onnx.conversion.graph.names import ADD_OP_TYPE, DOMAIN, OP_TYPE, PREFIX, Namer, taken_names
from jr_onnx.conversion.graph.scopes import Scope, all_scopes, attribute_of, own_domain
from jr_onnx.conversion.graph.value_types import ValueTypes
from jr_onnx.conversion.graph.wiring import Wiring, constant_value
from jr_onnx.conversion.sites.matchers import MATCHERS, Found, SiteKind
from jr_onnx.conversion.sites.survey import Site, survey
from jr_onnx.conversion.sites.surveyed import wiring_of
from jr_onnx.files.source import Source
from jr_onnx.runtime.optimization.relu_form import OF_INTEGERS, TAG, Recovered

_NCHWC = "com.microsoft.nchwc"

#: What onnxruntime appends to the name of the value when it names a node in the blocked layout after it.
_NUMBER, _LAYOUT, _OPERATOR = (re.compile(end) for end in (r"(_token)?_\d+$", r"_nchwc$", r"_(bn|mul)$"))


@dataclass(frozen=True)
class Place:
    """Where a site is in the optimised graph: the node, and the MaxPool that its JumpReLU can pass, if there is one.

    The element types are those of what the node gives: none where they are not known. For float16, onnxruntime often
    computes in float32 there.
    """

    tag: str
    scope: Scope
    index: int
    kind: SiteKind
    element_types: frozenset[int]
    pool: int | None = None


def places(model: onnx.ModelProto, ways: Mapping[str, str]) -> dict[str, Place]:
    """Tag -> where it is now, for every site that is found exactly once."""
    scopes = tuple(all_scopes(model))
    types = ValueTypes(model, scopes)
    found = [place for scope in scopes for place in _in_scope(scope, ways, types)]
    times = Counter(place.tag for place in found)
    return {place.tag: place for place in found if times[place.tag] == 1}


def _in_scope(scope: Scope, ways: Mapping[str, str], types: ValueTypes) -> Iterator[Place]:
    wiring = wiring_of(scope)
    for index, node in enumerate(scope.nodes):
        matcher = MATCHERS.get((own_domain(node.domain), node.op_type))
        found = matcher(wiring, index) if matcher else None
        if not isinstance(found, Found):
            continue
        tag = node.name if node.name.startswith(TAG) else ways.get(_named_after(node, ways), "")
        if tag:
            pool = _pool_behind(wiring, found) if found.kind.stays else None
            yield Place(tag, scope, index, found.kind, _element_types(node, scope, types), pool)


def _element_types(node: onnx.NodeProto, scope: Scope, types: ValueTypes) -> frozenset[int]:
    if node.domain == _NCHWC:
        return frozenset({FLOAT})  # there are no other blocked kernels
    return frozenset(one.element_type for one in types.lookup(scope, node.output[0]))


def _named_after(node: onnx.NodeProto, values: Collection[str]) -> str:
    """The one of the values of the model before that a fused node stands for; empty where it may be several."""
    if node.domain != _NCHWC:
        return str(node.output[0])
    layout = {name for name in (node.name, _NUMBER.sub("", node.name)) if _LAYOUT.search(name)}
    named = {_LAYOUT.sub("", name) for name in layout}
    candidates = {name for name in named | {_OPERATOR.sub("", name) for name in named} if name in values}
    return candidates.pop() if len(candidates) == 1 else ""


def _pool_behind(wiring: Wiring, found: Found) -> int | None:
    takers = wiring.consumers[found.output]
    if len(takers) != 1 or takers[0] < 0:
        return None
    return takers[0] if _passes(wiring.scope.nodes[takers[0]]) else None


def _passes(node: onnx.NodeProto) -> bool:
    """Whether JumpReLU can go below: a blocked MaxPool without a window in the padding alone."""
    if (node.domain, node.op_type) != (_NCHWC, "MaxPool") or len(node.output) != 1:
        return False
    kernel, pads = attribute_of(node, "kernel_shape"), attribute_of(node, "pads")
    dilations, ceil = attribute_of(node, "dilations"), attribute_of(node, "ceil_mode")
    auto = attribute_of(node, "auto_pad")
    if kernel is None or (auto is not None and auto.s != b"NOTSET") or (ceil is not None and ceil.i):
        return False
    if dilations is not None and set(dilations.ints) != {1}:
        return False
    return pads is None or all(pad < size for pad, size in zip(pads.ints, [*kernel.ints] * 2, strict=False))


def add_jump_relus(
    model: onnx.ModelProto, sites: Collection[Recovered], found: Mapping[str, Place], called_with: Collection[int]
) -> ModelEdit:
    """The edit that puts every site's JumpReLU where it belongs; the metadata are left to the caller.

    Args:
        called_with: the element types of the hardened model's JumpReLU nodes, which may still stand in the model.
    """
    edit = ModelEdit()
    scopes = tuple(all_scopes(model))
    namer = Namer(taken_names(scopes))
    jumps: dict[object, str] = {}
    for one in sites:
        place = found[one.tag]
        key = (one.jump.dtype, one.jump.tobytes())
        if key not in jumps:
            jumps[key] = namer.fresh(f"{PREFIX}jump")
            edit.initializers[jumps[key]] = one.jump
        _put(edit, place, NewNode(OP_TYPE, ("", jumps[key]), (), DOMAIN, one.site.name or one.site.path), namer)
    element_types = {one.site.element_type for one in sites}
    for scope in scopes:
        for node in scope.nodes:
            if (node.domain, node.op_type) == (DOMAIN, OP_TYPE):
                # onnxruntime computes some of a float16 model in float, and casts the jumps then.
                jump = constant_value(wiring_of(scope), node.input[1])
                element_types |= (
                    set(called_with) if jump is None else {onnx.helper.np_dtype_to_tensor_dtype(jump.dtype)}
                )
    if element_types:
        _add_function(edit, scopes[0], element_types)
    if model.ir_version < FUNCTIONS_IR_VERSION:
        edit.raise_ir_version(FUNCTIONS_IR_VERSION, scopes)
    return edit


def _add_function(edit: ModelEdit, main: Scope, element_types: Collection[int]) -> None:
    """jr_onnx::JumpReLU: onnxruntime 1.32 leaves it out of its optimised graph, and older versions may not."""
    if DOMAIN not in main.opsets:
        edit.at(main).imports = True
    body = body_for_all(element_types, main.opset)
    if body is not None:
        edit.dropped_functions = {OP_TYPE}
        edit.functions = [function_proto(body, main.opset, min(element_types))]


def _put(edit: ModelEdit, place: Place, jump_relu: NewNode, namer: Namer) -> None:
    nodes, replaced = place.scope.nodes, edit.at(place.scope).replaced
    if place.kind is SiteKind.RELU:
        node = nodes[place.index]
        inputs = (node.input[0], jump_relu.inputs[1])
        replaced[place.index] = (replace(jump_relu, inputs=inputs, outputs=tuple(node.output)),)
        return
    index = place.index if place.pool is None else place.pool
    node, y = nodes[index], nodes[index].output[0]
    x = namer.fresh(f"{y}/rectified")
    name = f"{jump_relu.name}/{node.op_type}" if node.name == place.tag else ""
    front = NewNode(node.op_type, tuple(node.input), (x, *node.output[1:]), node.domain, name, {}, index)
    replaced[index] = (front, replace(jump_relu, inputs=(x, jump_relu.inputs[1]), outputs=(y,)))


# --- For CUDA: Add and the JumpReLU behind it as one node, jr_onnx::AddJumpReLU, which passes over memory once --------


def fuse_adds(source: Source) -> tuple[ModelEdit, int, dict[str, str]]:
    """The edit, how many JumpReLUs took their Add in, and why (by path) the others did not."""
    model = source.skeleton
    scopes = tuple(all_scopes(model))
    types = ValueTypes(model, scopes)
    sites = [site for site in survey(model, scopes, clip=False).sites if site.hardened is not None]
    edit, fused, left = ModelEdit(), 0, {}
    element_types = {site.element_type for site in sites if site.quantization is None}
    body = body_for_all(element_types, scopes[0].opset)
    for site in sites:
        why_not = _why_not(site, types) if body is not None else "no function body serves all element types"
        if why_not:
            left[site.path] = why_not
            continue
        add, node = wiring_of(site.scope).producers[site.input], site.scope.nodes[site.nodes[-1]]
        inputs = (*site.scope.nodes[add].input, node.input[1])
        replaced = edit.at(site.scope).replaced
        replaced[add] = ()
        # Not in its place: of another operator, nothing but the name would be taken over.
        replaced[site.nodes[-1]] = (NewNode(ADD_OP_TYPE, inputs, (site.output,), DOMAIN, node.name),)
        fused += 1
    if body is not None and fused:
        edit.functions = [add_function_proto(body, scopes[0].opset, min(element_types))]
    return edit, fused, left


def _why_not(site: Site, types: ValueTypes) -> str:
    if site.quantization is not None:
        return OF_INTEGERS
    if site.hardened is None or site.hardened.form is not JUMP_RELU:
        return "it is not a jr_onnx::JumpReLU; convert with the target custom-op"
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
