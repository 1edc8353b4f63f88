"""Temporary copies of a model: with values made outputs, with functions inlined, or one node of it alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner

from jr_onnx.conversion.element_types import BFLOAT16, FLOAT
from jr_onnx.conversion.forms.write import tensor_of
from jr_onnx.conversion.graph.names import DOMAIN, OP_TYPE, QUANTIZED_OP_TYPE, defined_names, initializer_names
from jr_onnx.conversion.graph.wiring import constant_value
from jr_onnx.conversion.sites.matchers import SiteKind
from jr_onnx.conversion.sites.survey import Site
from jr_onnx.conversion.sites.surveyed import read_side, wiring_of
from jr_onnx.errors import OutputError
from jr_onnx.files import wire
from jr_onnx.files.external import data_files
from jr_onnx.files.skeleton import payloads_of
from jr_onnx.files.source import Source, open_proto
from jr_onnx.files.splice import Message, Piece, join
from jr_onnx.files.wire import encode_field
from jr_onnx.files.writing import data_places, write_model
from jr_onnx.runtime.execution import CannotRunError

#: Where a site of a function says what it is called, in the copy in which functions are inlined.
_TAG = "jr_onnx.check.path"

_FACTOR = "jr_onnx.check.factor"


@dataclass(frozen=True)
class Runnable:
    """A hardened model whose JumpReLUs are all in graphs.

    Attributes:
        source: the model, or a copy of it with its functions inlined.
        sites: path in the hardened model -> the JumpReLU; several for a function that is called several times.
        inlined: whether it is that copy; its path is then where its external data are.
    """

    source: Source
    sites: tuple[tuple[str, Site], ...]
    inlined: bool

    @property
    def in_place(self) -> tuple[tuple[str, Site], ...]:
        """The sites whose values can be made graph outputs: those of the main graph."""
        return tuple((path, site) for path, site in self.sites if site.scope.parent is None)


def runnable(source: Source, sites: Iterable[Site]) -> Runnable:
    """The model as it is, or with its functions inlined where they hold a JumpReLU."""
    known = tuple((site.path, site) for site in _with_large_jumps(source, sites) if site.kind is SiteKind.HARDENED)
    if all(site.scope.outermost.function is None for _, site in known):
        return Runnable(source, known, inlined=False)
    model = onnx.ModelProto.FromString(source.buffer[0 : len(source.buffer)])
    for site in read_side(source.skeleton).sites.values():
        _node_of(model, site).metadata_props.add(key=_TAG, value=site.path)
    kept = [(DOMAIN, OP_TYPE), (DOMAIN, QUANTIZED_OP_TYPE)]
    inlined = open_proto(onnx.inliner.inline_selected_functions(model, kept, exclude=True))
    found = [site for site in read_side(inlined.skeleton).sites.values() if site.kind is SiteKind.HARDENED]
    return Runnable(replace(inlined, path=source.path), tuple((_tag(site), site) for site in found), inlined=True)


def _with_large_jumps(source: Source, sites: Iterable[Site]) -> Iterable[Site]:
    """The sites, surveyed with their jumps also where these are as large as what a skeleton leaves out."""
    sites = tuple(sites)
    jumps = {site.hardened.values.get("jump", "") for site in sites if site.hardened is not None}
    payloads = {name: payload for name, payload in payloads_of(source.buffer).items() if name in jumps}
    if not payloads:
        return sites
    model = onnx.ModelProto()
    model.CopyFrom(source.skeleton)
    for tensor in model.graph.initializer:
        if tensor.name in payloads:
            payload = payloads[tensor.name]
            tensor.MergeFromString(encode_field(payload.number, source.buffer[payload.start : payload.end]))
    return read_side(model).sites.values()


def _node_of(model: onnx.ModelProto, site: Site) -> onnx.NodeProto:
    """The node that gives a site's output, in a model of the same structure."""
    scope, steps = site.scope, []
    while scope.parent is not None and scope.step is not None:
        steps.append(scope.step)
        scope = scope.parent
    holder: onnx.GraphProto | onnx.FunctionProto = model.graph if scope.index is None else model.functions[scope.index]
    for index, attribute, number in reversed(steps):
        found = holder.node[index].attribute[attribute]
        holder = found.g if number is None else found.graphs[number]
    node: onnx.NodeProto = holder.node[site.nodes[-1]]
    return node


def _tag(site: Site) -> str:
    node = site.scope.nodes[site.nodes[-1]]
    return next((entry.value for entry in node.metadata_props if entry.key == _TAG), site.path)


def exposed(source: Source, values: Mapping[str, int]) -> list[Piece]:
    """The model with inner values as outputs, by name and element type; bfloat16, which NumPy lacks, as float."""
    root = source.root()
    graph = root.child(wire.MODEL_GRAPH)
    listed = {value.name for value in (*source.skeleton.graph.output, *source.skeleton.graph.input)}
    for name, element_type in values.items():
        if name in listed:
            continue
        output = name
        if element_type == BFLOAT16:
            output, element_type = as_float(name), FLOAT
            cast = onnx.helper.make_node("Cast", [name], [output], to=FLOAT)
            graph.append(wire.GRAPH_NODE, cast.SerializeToString())
        value = onnx.helper.make_tensor_value_info(output, element_type, None)
        graph.append(wire.GRAPH_OUTPUT, value.SerializeToString())
    return root.pieces()


def counted(source: Source, values: Iterable[str]) -> list[Piece]:
    """The model with how many elements these values of its main graph have as outputs, each behind what gives it."""
    root = source.root()
    graph = root.child(wire.MODEL_GRAPH)
    fields = graph.fields(wire.GRAPH_NODE)
    behind = {name: fields[i].end for i, node in enumerate(source.skeleton.graph.node) for name in node.output}
    for name in values:
        node = onnx.helper.make_node("Size", [name], [count_of(name)])
        graph.insert(behind.get(name, fields[0].start), _encoded(node))
        output = onnx.helper.make_tensor_value_info(count_of(name), onnx.TensorProto.INT64, [])
        graph.append(wire.GRAPH_OUTPUT, output.SerializeToString())
    return root.pieces()


def count_of(name: str) -> str:
    """The output of a model of `counted` for a value."""
    return f"{name}/jr_onnx.check.size"


def set_apart(source: Source, sites: Iterable[Site]) -> list[Piece]:
    """The model with a copy of what each of these nodes of its main graph takes and gives: nothing is fused with them.

    The copies are Max of one value, which onnxruntime leaves alone.
    """
    root = source.root()
    for site in sites:
        taken, given = f"{site.output}/jr_onnx.check.taken", f"{site.output}/jr_onnx.check.given"
        node = _renamed(site, {site.output: given}, {site.input: taken})
        front = [onnx.helper.make_node("Max", [site.input], [taken])] if taken in node.input else []
        _replace(root, site, [*front, node, onnx.helper.make_node("Max", [given], [site.output])])
    return root.pieces()


def scaled(source: Source, sites: Iterable[Site], factor: float) -> list[Piece]:
    """The model with the outputs of some nodes of its main graph multiplied, in float, and rounded again."""
    root = source.root()
    for site in sites:
        given, wide = f"{site.output}/jr_onnx.check.given", f"{site.output}/jr_onnx.check.wide"
        behind = (
            onnx.helper.make_node("Cast", [given], [wide], to=FLOAT),
            onnx.helper.make_node("Mul", [wide, _FACTOR], [f"{wide}.scaled"]),
            onnx.helper.make_node("Cast", [f"{wide}.scaled"], [site.output], to=site.element_type),
        )
        _replace(root, site, [_renamed(site, {site.output: given}, {}), *behind])
    constant = onnx.helper.make_node(
        "Constant", [], [_FACTOR], value=tensor_of(_FACTOR, np.asarray(factor, np.float32))
    )
    graph = root.child(wire.MODEL_GRAPH)
    graph.insert(graph.fields(wire.GRAPH_NODE)[0].start, _encoded(constant))
    return root.pieces()


def _renamed(site: Site, outputs: Mapping[str, str], inputs: Mapping[str, str]) -> onnx.NodeProto:
    """The node that gives a site's output, with other names of values."""
    node = onnx.NodeProto()
    node.CopyFrom(site.scope.nodes[site.nodes[-1]])
    node.output[:] = [outputs.get(name, name) for name in node.output]
    node.input[:] = [inputs.get(name, name) for name in node.input]
    return node


def _replace(root: Message, site: Site, nodes: Iterable[onnx.NodeProto]) -> None:
    graph = root.child(wire.MODEL_GRAPH)
    graph.replace(graph.fields(wire.GRAPH_NODE)[site.nodes[-1]], b"".join(map(_encoded, nodes)))


def _encoded(node: onnx.NodeProto) -> bytes:
    return encode_field(wire.GRAPH_NODE, node.SerializeToString())


def as_float(name: str) -> str:
    """The name of a bfloat16 value's copy in float."""
    return f"{name}/jr_onnx.check.float"


def values_of(sites: Iterable[Site], model: onnx.ModelProto) -> dict[str, int]:
    """The inputs and outputs of sites that the main graph of a model has, with their element types."""
    known = set(defined_names(model.graph)) - set(initializer_names(model.graph))
    return {name: site.element_type for site in sites for name in (site.input, site.output) if name in known}


def lifted(model: onnx.ModelProto, sites: Sequence[Site]) -> tuple[onnx.ModelProto, dict[int, str]]:
    """One model in which each site stands alone, with the input x0, x1, ... and the output y0, y1, ...

    Returns:
        The model, and for sites that cannot be lifted the number and why.
    """
    alone = onnx.ModelProto(ir_version=model.ir_version, functions=[f for f in model.functions if f.domain == DOMAIN])
    alone.opset_import.extend(model.opset_import)
    alone.graph.name = "lifted"
    refused: dict[int, str] = {}
    for number, site in enumerate(sites):
        wiring = wiring_of(site.scope)
        nodes = [site.scope.nodes[index] for index in site.nodes]
        inner = {name for node in nodes for name in node.output}
        constants = {name for node in nodes for name in node.input} - inner - {site.input}
        values = {name: constant_value(wiring, name) for name in constants}
        missing = [name for name, value in values.items() if value is None]
        if missing:
            refused[number] = f"'{missing[0]}' is not a constant"
            continue
        _add(alone.graph, number, site, nodes)
        for name, value in values.items():
            if value is not None:
                alone.graph.initializer.append(tensor_of(f"{number}/{name}", value))
    return alone, refused


def _add(graph: onnx.GraphProto, number: int, site: Site, nodes: Sequence[onnx.NodeProto]) -> None:
    outside = {site.input: f"x{number}", site.output: f"y{number}"}
    narrow = site.element_type == BFLOAT16
    element_type = FLOAT if narrow else site.element_type
    if narrow:
        outside = {name: f"{number}/{value}/bfloat16" for name, value in outside.items()}
        inside = outside[site.input]
        graph.node.append(onnx.helper.make_node("Cast", [f"x{number}"], [inside], to=BFLOAT16))
    for place, node in enumerate(nodes):
        copy = graph.node.add()
        copy.CopyFrom(node)
        copy.name = f"{number}/{place}/{node.name}"  # several nodes of a form may have no name of their own
        for names in (copy.input, copy.output):
            names[:] = [outside.get(name, f"{number}/{name}") for name in names]
    if narrow:
        graph.node.append(onnx.helper.make_node("Cast", [outside[site.output]], [f"y{number}"], to=FLOAT))
    graph.input.append(onnx.helper.make_tensor_value_info(f"x{number}", element_type, None))
    graph.output.append(onnx.helper.make_tensor_value_info(f"y{number}", element_type, None))


class Workspace:
    """A temporary folder with copies of models.

    The copies of one model share a folder, and in it one copy of its external data: a link would not do, because
    runtimes reject data files that lie elsewhere.

    Raises:
        CannotRunError: from each method that writes, where the disk is full or not to be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, whose: str, name: str) -> Path:
        """Where a copy of that name goes; `whose` tells ORIGINAL from HARDENED."""
        folder = self._folder / whose
        with _writing():
            folder.mkdir(exist_ok=True)
        return folder / f"{name}.onnx"

    def plain(self, source: Source, whose: str) -> Path:
        """The model itself if it is a file, else a copy."""
        return source.path if source.path is not None else self.write(source, source.root().pieces(), whose, "plain")

    def write(self, source: Source, pieces: list[Piece], whose: str, name: str) -> Path:
        """Write an edited model, with its external data."""
        goal = self.path(whose, name)
        with _writing():
            if source.path is None:
                goal.write_bytes(join(source.buffer, pieces))
                return goal
            files = data_files(source.skeleton, source.path)
            data = data_places(files, goal, force=False)
            write_model(source, pieces, goal, data, force=False, progress=lambda _: None)
        return goal

    def save(self, model: onnx.ModelProto, whose: str, name: str) -> Path:
        """Write a model that is small enough to be in memory."""
        goal = self.path(whose, name)
        with _writing():
            goal.write_bytes(model.SerializeToString())
        return goal

    def drop(self, path: Path) -> None:
        """Delete a copy that has been run; a model that is the user's own file stays."""
        if path.is_relative_to(self._folder):
            path.unlink(missing_ok=True)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except (OSError, OutputError) as error:
        raise CannotRunError(f"a temporary copy of the model cannot be written ({error})") from error
