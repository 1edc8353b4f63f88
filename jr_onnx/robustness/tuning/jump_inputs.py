"""A model hardened in memory, to be tuned: each site's jump is an input of its own, and counts of what it does outputs.

    x -> JumpReLU(x, jump.3) -> y              jump.3 is a graph input
    If count                                   count is one too: whether to count
        x -> Greater 0 -> Cast -> ReduceSum    positive.3 is a graph output: how many positive numbers came in,
        y -> Greater 0 -> Cast -> ReduceSum    kept.3: and how many of them went on

Of integers the jump is compared in float, between DequantizeLinear and QuantizeLinear: that gives the same bits.

So one session serves every choice of jumps, and no activation leaves it. Counting takes ResNet-50 a third of its time
again, and a share needs few samples: so it can be left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from jr_onnx.conversion.convert import convert
from jr_onnx.conversion.edits import message_of
from jr_onnx.conversion.element_types import DOUBLE, FLOAT, NUMPY_TYPES, round_jump
from jr_onnx.conversion.forms.write import tensor_of
from jr_onnx.conversion.graph.names import PREFIX
from jr_onnx.conversion.sites.matchers import SiteKind
from jr_onnx.conversion.sites.survey import Site
from jr_onnx.conversion.sites.surveyed import read_side
from jr_onnx.errors import ModelError
from jr_onnx.files import wire
from jr_onnx.files.source import open_proto
from jr_onnx.files.splice import Message, Piece
from jr_onnx.files.wire import encode_field
from jr_onnx.runtime.instrumented import Runnable, runnable

#: The graph input that says whether to count: a bool, scalar.
COUNT = f"{PREFIX}tune.count"


@dataclass(frozen=True)
class TunableSite:
    """A site whose jump is an input.

    Attributes:
        path: of the site in the user's model; several have the same where a function is called several times.
        element_type: the jump is rounded to it.
        jump: the name of the graph input, a scalar.
        jump_type: its element type: double for a double site, else float, which NumPy and onnxruntime both have.
        positive, kept: the names of the counts, int32 scalars; empty in the body of an If, Loop or Scan, which may run
            never or many times.
    """

    path: str
    element_type: int
    jump: str
    jump_type: int
    positive: str
    kept: str


@dataclass(frozen=True)
class TunableModel:
    """A model with JumpReLU at every site, jump 0, in memory.

    Attributes:
        model: with its functions inlined where they hold a site.
        fixed: the sites whose jump can be no input: activations of RNN, GRU and LSTM. They keep Relu.
    """

    model: Runnable
    fixed: tuple[str, ...]

    def compared_with(self, jumps: Mapping[str, float]) -> tuple[float, ...]:
        """What the values of each site are compared with, at these jumps by path: of integers an integer."""
        return tuple(_compared_with(site, round_jump(jumps[path], site.jump_type)) for path, site in self.model.sites)


def _compared_with(site: Site, jump: float) -> float:
    return jump if site.quantization is None else site.quantization.threshold(jump)


def harden(model: str | Path | onnx.ModelProto, *, clip: bool) -> TunableModel:
    """Put JumpReLU with jump 0, which is Relu, at every site; external data are not loaded.

    Raises:
        ModelError: the model cannot be read or converted, or has no site whose jump could be tuned.
    """
    path = None if isinstance(model, onnx.ModelProto) else Path(model)
    original = _in_memory(model)
    before = read_side(open_proto(original).skeleton)
    of_integers = any(site.quantization is not None for site in before.sites.values())
    hardened = convert(original, jump=0.0, clip=clip, target="subgraph" if of_integers else "custom-op").model
    if hardened is None:
        raise TypeError("a conversion in memory gives a model")
    source = replace(open_proto(hardened), path=path)
    after = read_side(source.skeleton)
    # A JumpReLU behind a Clip has a path of its own; what a policy matches is the Clip's.
    known = {site.path: before.sites[key].path for key, site in after.sites.items()}
    prepared = runnable(source, after.sites.values())
    if not prepared.sites:
        raise ModelError("no Relu whose jump could be tuned; jr-onnx inspect lists what there is")
    renamed = replace(prepared, sites=tuple((known[path], site) for path, site in prepared.sites))
    return TunableModel(renamed, tuple(s.path for s in after.sites.values() if s.kind is SiteKind.RECURRENT))


def _in_memory(model: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        return model
    try:
        return onnx.load(model, load_external_data=False)
    except OSError as error:
        raise ModelError(f"{model}: {error.strerror}") from error
    except (DecodeError, ValueError) as error:
        raise ModelError(f"{model}: not an ONNX model of up to 2 GB; a larger one needs external data") from error


def with_jump_inputs(model: Runnable) -> tuple[list[Piece], tuple[TunableSite, ...]]:
    """The model with an input for each jump and outputs that count, and how they are called."""
    root = model.source.root()
    graph = root.child(wire.MODEL_GRAPH)
    _append(graph, wire.GRAPH_INPUT, [onnx.helper.make_tensor_value_info(COUNT, onnx.TensorProto.BOOL, [])])
    tunable = []
    for number, (path, site) in enumerate(model.sites):
        one = _described(number, path, site)
        _take_from_input(root, graph, one, site)
        if one.positive:
            _append(graph, wire.GRAPH_NODE, [_counter(one, site)])
            _append(graph, wire.GRAPH_OUTPUT, [_count_type(one.positive), _count_type(one.kept)])
        tunable.append(one)
    return root.pieces(), tuple(tunable)


def _described(number: int, path: str, site: Site) -> TunableSite:
    counts = [f"{PREFIX}tune.{what}.{number}" if site.scope.parent is None else "" for what in ("positive", "kept")]
    jump_type = DOUBLE if site.jump_type == DOUBLE else FLOAT
    return TunableSite(path, site.jump_type, f"{PREFIX}tune.jump.{number}", jump_type, *counts)


def _take_from_input(root: Message, graph: Message, one: TunableSite, site: Site) -> None:
    if site.hardened is None:
        raise TypeError(f"'{site.path}' is no JumpReLU")
    before, name = site.hardened.values["jump"], one.jump
    _append(graph, wire.GRAPH_INPUT, [onnx.helper.make_tensor_value_info(name, one.jump_type, [])])
    if one.jump_type != one.element_type:
        name = f"{name}.cast"
        cast = onnx.helper.make_node("Cast", [one.jump], [name], to=one.element_type)
        first = graph.fields(wire.GRAPH_NODE)[0]
        graph.insert(first.start, encode_field(wire.GRAPH_NODE, cast.SerializeToString()))
    scope = message_of(root, site.scope)
    fields = scope.fields(wire.GRAPH_NODE)
    for index in site.nodes:
        field = fields[index]
        node = onnx.NodeProto.FromString(bytes(scope.buffer[field.value : field.end]))
        node.input[:] = [name if given == before else given for given in node.input]
        scope.replace(field, encode_field(wire.GRAPH_NODE, node.SerializeToString()))


def _counter(one: TunableSite, site: Site) -> onnx.NodeProto:
    """A node behind all others. int32 is enough: more than 2^31 numbers in one tensor are over 8 GB."""
    zero, none = f"{one.positive}.zero", onnx.numpy_helper.from_array(np.asarray(0, np.int32))
    given = site.quantization
    lowest = np.asarray(0, NUMPY_TYPES[site.element_type]) if given is None else np.asarray(given.zero_point, np.int32)
    counted = [onnx.helper.make_node("Constant", [], [zero], value=tensor_of(zero, lowest))]
    for value, count in ((site.input, one.positive), (site.output, one.kept)):
        above, ones = f"{count}.above", f"{count}.ones"
        if given is not None:  # onnxruntime compares no integers of 8 or 16 bits before 1.23
            counted.append(onnx.helper.make_node("Cast", [value], [f"{count}.wide"], to=onnx.TensorProto.INT32))
            value = f"{count}.wide"
        counted += [
            onnx.helper.make_node("Greater", [value, zero], [above]),
            onnx.helper.make_node("Cast", [above], [ones], to=onnx.TensorProto.INT32),
            onnx.helper.make_node("ReduceSum", [ones], [f"{count}.sum"], keepdims=0),
        ]
    names = [one.positive, one.kept]
    skipped = [onnx.helper.make_node("Constant", [], [f"{n}.none"], value=none) for n in names]
    branches = {
        branch: onnx.helper.make_graph(nodes, branch, [], [_count_type(f"{name}.{end}") for name in names])
        for branch, nodes, end in (("then_branch", counted, "sum"), ("else_branch", skipped, "none"))
    }
    return onnx.helper.make_node("If", [COUNT], names, **branches)


def _count_type(name: str) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT32, [])


def _append(message: Message, field: int, protos: Iterable[onnx.NodeProto | onnx.ValueInfoProto]) -> None:
    for proto in protos:
        message.append(field, proto.SerializeToString())
