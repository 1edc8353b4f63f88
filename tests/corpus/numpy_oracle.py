"""What a model gives with JumpReLU in place of each Relu, without any of our code but the definition in NumPy.

onnxruntime, with every optimization off, computes all that is not a ReLU. The hardened models run in it too, so that
bits can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from support import FLOAT, NONE, Array, with_where

import jr_onnx
from jr_onnx.reference import jump_relu


def open_session(model: onnx.ModelProto | Path, level: Any, kernels: bool = False) -> onnxruntime.InferenceSession:
    """A session with one thread, for sums are split among threads, and two sessions shall give the same bits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    if kernels:
        jr_onnx.register(options)
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def operators(model: onnx.ModelProto) -> Counter[str]:
    """Operator -> how many nodes of it a model has, at any depth."""
    return Counter(item.op_type for holder in (model.graph, *model.functions) for item in _nodes(holder))


def _nodes(holder: Any) -> Iterator[onnx.NodeProto]:
    for item in holder.node:
        yield item
        for attribute in item.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph)


def evaluate_in_numpy(model: onnx.ModelProto, feeds: Mapping[str, Array], jump: float) -> dict[str, Array]:
    """The outputs by name, among others, with JumpReLU in place of each Relu.

    Where all Relus are in the main graph, each is taken out: its input becomes an output of the model, and its output
    an input, which NumPy computes. In subgraphs that cannot be done: there, Where takes the place of Relu.
    """
    main = [item for item in model.graph.node if item.op_type == "Relu"]
    names = [output.name for output in model.graph.output]
    if len(main) < operators(model)["Relu"]:
        rewritten = with_where(model, lambda _: jump)
        return dict(zip(names, open_session(rewritten, NONE).run(names, dict(feeds)), strict=True))
    given = dict(feeds) | _values(model, [relu.output[0] for relu in main], feeds)  # placeholders, of the right shapes
    cut = open_session(_without(model, main), NONE)
    for relu in main:  # in topological order: all that this one depends on has its value by now
        x = given[relu.input[0]] if relu.input[0] in feeds else cut.run([relu.input[0]], given)[0]
        given[relu.output[0]] = jump_relu(x, np.float32(jump))
    computed = [name for name in names if name not in given]
    return given | dict(zip(computed, cut.run(computed, given), strict=True))


def _values(model: onnx.ModelProto, names: list[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, None) for name in dict.fromkeys(names))
    return dict(zip(names, open_session(shown, NONE).run(names, dict(feeds)), strict=True))


def _without(model: onnx.ModelProto, removed: list[onnx.NodeProto]) -> onnx.ModelProto:
    """The model without some Relus: their inputs are outputs of it, and their outputs inputs."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    outputs = {relu.output[0] for relu in removed}
    kept = [item for item in cut.graph.node if not outputs.intersection(item.output)]
    del cut.graph.node[:]
    cut.graph.node.extend(kept)
    listed = {value.name for value in (*cut.graph.output, *cut.graph.input)}
    inputs = [name for name in dict.fromkeys(relu.input[0] for relu in removed) if name not in listed]
    cut.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, None) for name in inputs)
    cut.graph.input.extend(helper.make_tensor_value_info(name, FLOAT, None) for name in outputs)
    shown = [output for output in cut.graph.output if output.name not in outputs]
    del cut.graph.output[:]
    cut.graph.output.extend(shown)
    return cut
