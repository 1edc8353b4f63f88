"""The original form of a hardened model, with Relu in place of JumpReLU, and what onnxruntime makes of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx

from jr_onnx.conversion.edits import ModelEdit, rewrite
from jr_onnx.conversion.element_types import NUMPY_TYPES
from jr_onnx.conversion.forms.write import NewNode
from jr_onnx.conversion.graph.names import PREFIX, Namer, defined_names, initializer_names, taken_names
from jr_onnx.conversion.graph.scopes import Scope, all_scopes, graphs_in, own_domain
from jr_onnx.conversion.graph.wiring import Wiring
from jr_onnx.conversion.sites.matchers import MATCHERS, Found, SiteKind, operator_name
from jr_onnx.conversion.sites.survey import Site, survey
from jr_onnx.conversion.sites.surveyed import jump_of, wiring_of
from jr_onnx.errors import ModelError
from jr_onnx.files.external import data_files
from jr_onnx.files.source import Source
from jr_onnx.files.splice import join
from jr_onnx.runtime.execution import (
    ALL,
    BASIC,
    CPU,
    EXTENDED,
    CannotRunError,
    library_problem,
    session_options,
    start,
)

#: What the name of a recovered node begins with; its number follows.
TAG = f"{PREFIX}site."


#: Why a JumpReLU of integers stays as it is.
OF_INTEGERS = "its values are integers: onnxruntime fuses around it as it is"


@dataclass(frozen=True)
class Recovered:
    """One JumpReLU that can be a Relu for a while.

    Attributes:
        tag: the name of the node that stands there meanwhile.
        site: where it is in the hardened model.
        jump: its jump, a scalar of its element type.
    """

    tag: str
    site: Site
    jump: npt.NDArray[Any]


def recoverable(source: Source) -> tuple[tuple[Recovered, ...], dict[str, str]]:
    """The sites of a hardened model that can be recovered, and why the others (by path) cannot.

    One jump a channel does not fit the blocked layout, in which there is no axis of channels; a jump that is an input
    is not a constant; what is inside of a local function gets other names when the function is inlined; and JumpReLU
    of integers is written as onnxruntime fuses best around it already.
    """
    model = source.skeleton
    scopes = tuple(all_scopes(model))
    hardened = [site for site in survey(model, scopes, clip=False).sites if site.hardened is not None]
    inputs = {value.name for value in model.graph.input}
    found: list[Recovered] = []
    reasons: dict[str, str] = {}
    for number, site in enumerate(hardened):
        jump = jump_of(site)
        if site.quantization is not None:
            reasons[site.path] = OF_INTEGERS
        elif jump is None or _from_input(site, inputs):
            reasons[site.path] = "its jump is not a constant"
        elif jump.size != 1:
            reasons[site.path] = "it has one jump a channel"
        elif site.element_type not in NUMPY_TYPES:
            reasons[site.path] = "its element type is not known"
        elif site.scope.outermost.function is not None:
            reasons[site.path] = "it is in a local function"
        else:
            found.append(Recovered(f"{TAG}{number}", site, jump.reshape(())))
    return tuple(found), reasons


def _from_input(site: Site, inputs: Collection[str]) -> bool:
    """Whether the jump is a graph input, or a Cast of one."""
    name = site.hardened.values.get("jump", "") if site.hardened else ""
    home = wiring_of(site.scope).home(name)
    produced = home.producer(name) if home is not None else None
    names = {name} if produced is None else set(produced[1].input)
    return home is not None and home.outer is None and bool(names & set(inputs))


def original_of(source: Source, sites: Collection[Recovered]) -> bytes:
    """The model with a Relu at each of the sites, or with what was rectified before already: a Clip, a fused Relu."""
    edit = ModelEdit()
    for one in sites:
        site, replaced = one.site, edit.at(one.site.scope).replaced
        replaced.update(dict.fromkeys(site.nodes, ()))
        before = _rectifier(site)
        if before is None:
            replaced[site.nodes[-1]] = (NewNode("Relu", (site.input,), (site.output,), name=one.tag),)
            continue
        node = site.scope.nodes[before]
        outputs = tuple(site.output if name == site.input else name for name in node.output)
        replaced[before] = (NewNode(node.op_type, tuple(node.input), outputs, node.domain, one.tag, {}, before),)
    edit.metadata = {}
    return join(source.buffer, rewrite(source, edit))


def _rectifier(site: Site) -> int | None:
    """The node before a site that is never negative, and that only this site takes."""
    wiring = wiring_of(site.scope)
    produced = wiring.producer(site.input)
    if produced is None or set(wiring.consumers[site.input]) - set(site.nodes):
        return None
    matcher = MATCHERS.get((produced[1].domain, produced[1].op_type))
    found = matcher(wiring, produced[0]) if matcher else None
    rectifies = isinstance(found, Found) and (found.kind.stays or found.kind is SiteKind.RELU)
    return produced[0] if rectifies and produced[1].op_type != "Max" else None  # what is a Relu has one input


#: What onnxruntime folds into a convolution between it and its Relu.
_FOLDED = frozenset({"Add", "Sum", "Sub", "Mul", "Div", "BatchNormalization", "Identity"})


def ways_to_sites(source: Source) -> dict[str, str]:
    """Value -> the tag of the recovered node that rectifies it first, through what onnxruntime folds into a Conv.

    A value leads there if all that takes it leads there, one after the other. Every value of the model has an entry:
    it is empty where a rectifier that stays as it is comes first, where there is none, and for a name that several
    scopes have with different ends.
    """
    ways: dict[str, set[str]] = {}
    for scope in all_scopes(source.skeleton):
        wiring = wiring_of(scope)
        for node in scope.nodes:
            for name in node.output:
                ways.setdefault(name, set()).add(_rectified_by(wiring, name))
    return {name: tags.copy().pop() if len(tags) == 1 else "" for name, tags in ways.items()}


def _rectified_by(wiring: Wiring, name: str) -> str:
    producer = wiring.producer(name)
    while producer is None or not _rectifies(wiring, producer[0]):
        takers = wiring.consumers[name]
        if len(takers) != 1 or takers[0] < 0:
            return ""
        node = wiring.scope.nodes[takers[0]]
        if not _rectifies(wiring, takers[0]) and (operator_name(node) not in _FOLDED or len(node.output) != 1):
            return ""
        name, producer = node.output[0], (takers[0], node)
    return str(producer[1].name) if producer[1].name.startswith(TAG) else ""


def _rectifies(wiring: Wiring, index: int) -> bool:
    node = wiring.scope.nodes[index]
    matcher = MATCHERS.get((own_domain(node.domain), node.op_type))
    found = matcher(wiring, index) if matcher is not None else None
    return node.name.startswith(TAG) or isinstance(found, Found | str)


# --- onnxruntime's own optimised graph of a model, as a file ----------------------------------------------------------

#: From this size on, in bytes, the weights go into a file of their own: protobuf writes no message of 2 GB. So do those
#: of a model that had such files before: onnxruntime would go on naming them for what it leaves as it is.
_INLINE_LIMIT = 1 << 30

LEVELS = {"basic": BASIC, "extended": EXTENDED, "all": ALL}

#: It takes a recovered Relu and one that stays a Relu for the same, and only one of their names is left.
_DISABLED = ["CommonSubexpressionElimination"]


def lay_out(model: bytes, hardened: Source, level: str, output: Path, data_name: str, *, kernels: bool = True) -> None:
    """Write the optimised graph of `model`, whose external data are those of the hardened file.

    Args:
        kernels: keep the nodes jr_onnx::JumpReLU, where the kernel library is installed; onnxruntime inlines them else.
        output: the file to write, in a folder where `data_name` is free: there go the weights, if they are many or were
            external before.

    Raises:
        ModelError: onnxruntime does not load the model.
    """
    options = session_options(LEVELS[level])
    options.optimized_model_filepath = str(output)
    options.add_session_config_entry("session.disable_prepacking", "1")  # the session is never run
    path = hardened.path
    data = data_files(hardened.skeleton, path) if path is not None else ()
    if path is not None and data:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    if data or len(model) >= _INLINE_LIMIT:
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", data_name)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    library = kernels and not library_problem()
    try:
        start(model, options, CPU, library=library, disabled_optimizers=_DISABLED)
    except CannotRunError as error:
        raise ModelError(f"onnxruntime does not load it: {error}") from error


# --- onnxruntime's optimised graph as sound ONNX ----------------------------------------------------------------------

#: From this IR version on, an initializer need not be an input.
_INITIALIZERS_ALONE = 4

#: In front of the names that it made up, so that it does not make up the same again.
_PREFIX = "onnxruntime."


def make_sound(path: Path, known: Collection[str]) -> None:
    """Give each value that onnxruntime made up a name of its own, and drop inputs that are initializers.

    Args:
        path: the file that onnxruntime wrote; it is written anew where something changes.
        known: the names of the model that it read, which stay.
    """
    model = onnx.load(path, load_external_data=False)
    scopes = tuple(all_scopes(model))
    early = model.ir_version < _INITIALIZERS_ALONE
    graphs = [(scope.graph, scope) for scope in scopes if scope.graph is not None]
    dropped = sum(_drop_inputs(graph) for graph, scope in graphs if scope.parent and (early or _is_branch(scope)))
    made_up = any(name not in known for graph, _ in graphs for name in defined_names(graph))
    if made_up:
        _rename(model.graph, known, {}, Namer(taken_names(scopes)))
    if made_up or dropped:
        path.write_bytes(model.SerializeToString())


def _is_branch(scope: Scope) -> bool:
    """Whether a body is that of an If, which takes no inputs: a file may have them from before IR version 4."""
    return scope.parent is not None and scope.step is not None and scope.parent.nodes[scope.step[0]].op_type == "If"


def _drop_inputs(graph: onnx.GraphProto) -> int:
    """Drop the inputs that are initializers; how many there were."""
    initializers = set(initializer_names(graph))
    listed = [value for value in graph.input if value.name in initializers]
    for value in listed:
        graph.input.remove(value)
    return len(listed)


def _rename(graph: onnx.GraphProto, known: Collection[str], around: Mapping[str, str], namer: Namer) -> None:
    """Rename in a graph and its bodies; `around` are the new names of the values of the graphs around it."""
    own = dict.fromkeys(defined_names(graph))
    names = {name: new for name, new in around.items() if name not in own}
    names |= {name: namer.fresh(f"{_PREFIX}{name}") for name in own if name not in known}
    for named in (*graph.input, *graph.initializer, *graph.output, *graph.value_info):
        named.name = names.get(named.name, named.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for body in graphs_in(node):
            _rename(body, known, names, namer)
