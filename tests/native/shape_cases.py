"""Small models around a JumpReLU whose input has a shape that is known, partly known or not known at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from native_models import Array, function_body
from onnx import TensorProto, helper, numpy_helper

from jr_onnx.conversion.forms.write import add_function_proto, body_for

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
OPSET = 17

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """One axis of the model's input: its size in the run, and whether the model gives the size, a name or neither."""

    size: int
    kind: str  # "size", "name" or "anonymous"

    def declared(self, place: int) -> int | str | None:
        return {"size": self.size, "name": f"x{place}", "anonymous": None}[self.kind]


@dataclass
class Graph:
    """A graph in the making. Every value has a name of its own, in the bodies of If and Loop too."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    feeds: dict[str, Array] = field(default_factory=dict)
    used: int = 0

    def name(self) -> str:
        self.used += 1
        return f"v{self.used}"

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        output = self.name()
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def constant(self, value: npt.ArrayLike, dtype: type = np.int64) -> str:
        name = self.name()
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def input(self, value: npt.ArrayLike, dtype: type, shape: list[int | str | None]) -> str:
        name = self.name()
        self.feeds[name] = np.asarray(value, dtype)
        element_type = helper.np_dtype_to_tensor_dtype(self.feeds[name].dtype)
        self.inputs.append(helper.make_tensor_value_info(name, element_type, shape))
        return name

    def body(self, build: Callable[[Graph], str]) -> onnx.GraphProto:
        """A branch of an If: what `build` adds, and its result as the output."""
        outside, self.nodes = self.nodes, []
        output = build(self)
        graph = helper.make_graph(self.nodes, self.name(), [], [helper.make_tensor_value_info(output, FLOAT, None)])
        self.nodes = outside
        return graph

    def choose(self, then: Callable[[Graph], str], otherwise: Callable[[Graph], str]) -> str:
        which = self.input(True, np.bool_, [])
        return self.add("If", which, then_branch=self.body(then), else_branch=self.body(otherwise))

    def loop(self, start: str, step: Callable[[Graph, str], str]) -> str:
        """`step`, twice; onnxruntime takes it that the shape may be another after each round."""
        count, going, carried, still = (self.name() for _ in range(4))

        def body(graph: Graph) -> str:
            graph.nodes.append(helper.make_node("Identity", [going], [still]))
            return step(graph, carried)

        graph = self.body(body)
        value = helper.make_tensor_value_info
        graph.input.extend([value(count, INT64, []), value(going, BOOL, []), value(carried, FLOAT, None)])
        graph.output.insert(0, value(still, BOOL, []))
        return self.add("Loop", self.input(2, np.int64, []), "", start, body=graph)


def deeper(graph: Graph, value: str) -> str:
    """The value with one more axis, so that the two have no rank in common."""
    return graph.add("Unsqueeze", value, graph.constant([0]))


def squeezed(graph: Graph, x: str, sizes: Sizes) -> tuple[str, Sizes]:
    return graph.add("Squeeze", x), tuple(size for size in sizes if size != 1)


def convolved(graph: Graph, x: str, sizes: Sizes) -> tuple[str, Sizes]:
    weights = graph.constant(np.ones((2, sizes[1], 1, 1)), np.float32)
    return graph.add("Conv", x, weights), (sizes[0], 2, *sizes[2:])


def from_sequence(graph: Graph, x: str, sizes: Sizes) -> tuple[str, Sizes]:
    sequence = graph.add("SequenceConstruct", x, deeper(graph, x))
    return graph.add("SequenceAt", sequence, graph.constant(0)), sizes


#: What makes the input of the JumpReLU of x: the value, and the sizes that it has in the run.
SOURCES: dict[str, Callable[[Graph, str, Sizes], tuple[str, Sizes]]] = {
    "x": lambda _, x, sizes: (x, sizes),
    "Reshape": lambda g, x, sizes: (g.add("Reshape", x, g.input(sizes, np.int64, ["rank"])), sizes),
    "Squeeze": squeezed,
    "SequenceAt": from_sequence,
    "Scaler": lambda g, x, sizes: (g.add("Scaler", x, domain="ai.onnx.ml", offset=[0.0], scale=[1.0]), sizes),
    "If": lambda g, x, sizes: (g.choose(lambda g: g.add("Identity", x), lambda g: deeper(g, x)), sizes),
    "Loop": lambda g, x, sizes: (g.loop(x, lambda g, value: g.add("Identity", value)), sizes),
    "Slice": lambda g, x, sizes: (g.add("Slice", x, g.constant([0]), g.input(sizes[:1], np.int64, [1])), sizes),
    "Conv": convolved,
}


def jumped(graph: Graph, x: str, jump: str) -> str:
    return graph.add("JumpReLU", x, jump, domain="jr_onnx")


#: Where the JumpReLU stands.
PLACES: dict[str, Callable[[Graph, str, str], str]] = {
    "graph": jumped,
    "twice": lambda g, x, jump: jumped(g, jumped(g, x, jump), jump),
    "AddJumpReLU": lambda g, x, jump: g.add("AddJumpReLU", x, x, jump, domain="jr_onnx"),
    "If": lambda g, x, jump: g.choose(lambda g: jumped(g, x, jump), lambda g: g.add("Neg", x)),
    "Loop": lambda g, x, jump: g.loop(x, lambda g, value: jumped(g, value, jump)),
}


def shape_of(graph: Graph, x: str) -> str:
    return graph.add("Shape", x)


def viewed(graph: Graph, x: str, _: Sizes) -> str:
    """x.view(x.size(0), -1)"""
    rows = graph.add("Gather", shape_of(graph, x), graph.constant([0]))
    return graph.add("Reshape", x, graph.add("Concat", rows, graph.constant([-1]), axis=0))


def zeros(graph: Graph, x: str, _: Sizes) -> str:
    """A hidden state: as many rows as x, of three."""
    rows = graph.add("Gather", shape_of(graph, x), graph.constant([0]))
    return graph.add("ConstantOfShape", graph.add("Concat", rows, graph.constant([3]), axis=0))


def multiplied(graph: Graph, x: str, sizes: Sizes) -> str:
    return graph.add("MatMul", x, graph.constant(np.eye(sizes[-1], 2), np.float32))


def split(graph: Graph, x: str, sizes: Sizes) -> str:
    names = [graph.name(), graph.name()]
    lengths = graph.constant([1, sizes[-1] - 1])
    graph.nodes.append(helper.make_node("Split", [x, lengths], names, axis=-1))
    return names[1]


def resized(graph: Graph, x: str, _: Sizes) -> str:
    """To twice the height and width: the size of a skip connection, as a decoder asks for it."""
    size = graph.add("Mul", shape_of(graph, x), graph.constant([1, 1, 2, 2]))
    return graph.add("Resize", x, "", "", size, mode="nearest")


@dataclass(frozen=True)
class Use:
    """What is done with the result of the JumpReLU, for ranks from `least` to `most`."""

    add: Callable[[Graph, str, Sizes], str]
    least: int = 0
    most: int = 5


USES: dict[str, Use] = {
    "nothing": Use(lambda g, x, _: g.add("Identity", x)),
    "Shape": Use(lambda g, x, _: shape_of(g, x)),
    "Size": Use(lambda g, x, _: g.add("Size", x)),
    "Reshape": Use(lambda g, x, _: g.add("Reshape", g.add("Neg", x), shape_of(g, x))),
    "flat": Use(lambda g, x, _: g.add("Reshape", x, g.constant([-1]))),
    "view": Use(viewed, least=1),
    "zeros": Use(zeros, least=1),
    "ConstantOfShape": Use(lambda g, x, _: g.add("ConstantOfShape", shape_of(g, x))),
    "Expand": Use(lambda g, x, _: g.add("Expand", g.constant([2], np.float32), shape_of(g, x)), least=1),
    "Add": Use(lambda g, x, _: g.add("Add", x, x)),
    "Add one axis": Use(lambda g, x, n: g.add("Add", x, g.constant(np.ones(n[-1]), np.float32)), least=1),
    "MatMul": Use(multiplied, least=1),
    "Gemm": Use(lambda g, x, n: g.add("Gemm", x, g.constant(np.eye(n[1]), np.float32)), least=2, most=2),
    "Split": Use(split, least=1),
    "Softmax": Use(lambda g, x, _: g.add("Softmax", x, axis=-1), least=1),
    "Transpose": Use(lambda g, x, _: g.add("Transpose", x), least=1),
    "Concat": Use(lambda g, x, _: g.add("Concat", x, x, axis=0), least=1),
    "Gather": Use(lambda g, x, _: g.add("Gather", x, g.constant(0), axis=0), least=1),
    "ReduceSum": Use(lambda g, x, _: g.add("ReduceSum", x, g.constant([0]), keepdims=0), least=1),
    "Unsqueeze": Use(lambda g, x, _: deeper(g, x)),
    "Resize": Use(resized, least=4, most=4),
    "GlobalAveragePool": Use(lambda g, x, _: g.add("GlobalAveragePool", x), least=4, most=4),
}


@dataclass(frozen=True)
class Case:
    """x -> source -> JumpReLU in its place -> uses, one an output."""

    axes: tuple[Axis, ...]
    source: str
    place: str
    per_channel: bool
    uses: tuple[str, ...]

    @property
    def shape_is_known(self) -> bool:
        """Whether each axis of the JumpReLU's input has a size or a name, and the jump can add nothing to that."""
        return self.source == "x" and not self.per_channel and all(axis.kind != "anonymous" for axis in self.axes)

    @property
    def names(self) -> dict[str, int]:
        """The size, in the run, behind each name that the model gives to an axis."""
        return {"rank": len(self.axes)} | {f"x{place}": axis.size for place, axis in enumerate(self.axes)}

    def build(self) -> tuple[onnx.ModelProto, dict[str, Array]]:
        """The model and its inputs: quarters and ones, of which all sums are exact."""
        graph = Graph()
        sizes = tuple(axis.size for axis in self.axes)
        values = np.resize(np.arange(-4, 7) / 4, sizes)
        x = graph.input(values, np.float32, [axis.declared(place) for place, axis in enumerate(self.axes)])
        x, sizes = SOURCES[self.source](graph, x, sizes)
        channels = sizes[1] if self.per_channel and len(sizes) > 1 else 1
        shape = (channels, *[1] * (len(sizes) - 2)) if channels > 1 else ()
        jump = graph.constant(np.resize([0.5, 0.25, 0.75], shape), np.float32)
        jump_relu = PLACES[self.place](graph, x, jump)
        outputs = [
            USES[use].add(graph, jump_relu, sizes)
            for use in self.uses
            if USES[use].least <= len(sizes) <= USES[use].most
        ]
        return self._model(graph, [*outputs, jump_relu]), graph.feeds

    def _model(self, graph: Graph, outputs: list[str]) -> onnx.ModelProto:
        # Without types and shapes: a session then tells what was inferred.
        made = helper.make_graph(
            graph.nodes,
            "around_a_jump_relu",
            graph.inputs,
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            graph.initializers,
        )
        form = body_for(FLOAT, OPSET)
        assert form is not None
        domains = {"": OPSET, "jr_onnx": 1, "ai.onnx.ml": 3}
        return helper.make_model(
            made,
            opset_imports=[helper.make_opsetid(*each) for each in domains.items()],
            functions=[function_body(), add_function_proto(form, OPSET, FLOAT)],
            ir_version=8,
        )
