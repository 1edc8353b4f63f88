"""What happens to every exported model before it is written: clean, check, compare, save."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

PATH_IN_TRACE = re.compile(r'(File ")[^"]*[\\/]([^"\\/]+")')


def nodes_of(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Every node, those in subgraphs included."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            bodies = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            for body in bodies:
                yield from nodes_of(body.node)


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model: main graph, subgraphs, functions."""
    yield from nodes_of(model.graph.node)
    for function in model.functions:
        yield from nodes_of(function.node)


def strip_paths(model: onnx.ModelProto) -> None:
    """Shorten file paths in recorded stack traces to the file's name.

    A path says where the author's checkout was, which no user needs and which would make
    the file differ from one machine to the next. The metadata entries themselves stay.
    """
    for node in all_nodes(model):
        for entry in node.metadata_props:
            entry.value = PATH_IN_TRACE.sub(r"\1\2", entry.value)


def compare(
    model: onnx.ModelProto, reference: nn.Module, names: Sequence[str], inputs: Sequence[Tensor], atol: float
) -> None:
    """Raise unless ONNX Runtime computes what torch computes."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    (got,) = session.run(None, feed)
    with torch.no_grad():
        want = reference(*inputs).numpy()
    np.testing.assert_allclose(got, want, rtol=atol, atol=atol)
    if got.dtype != want.dtype:
        raise TypeError(f"the model gives {got.dtype}, torch gives {want.dtype}")


def save(model: onnx.ModelProto, path: Path, limit: int) -> int:
    """Write a checked model as one file and return its size; refuse one over the limit."""
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)
    if len(data) > limit:
        raise ValueError(f"{path.name} would have {len(data)} bytes, over the limit of {limit}")
    path.write_bytes(data)
    return len(data)
