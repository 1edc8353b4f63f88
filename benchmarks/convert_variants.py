"""What benchmarks/convert.py runs in child processes: the other tools' ways, and the models to run them on.

Each tool loads, puts a custom op in the place of every Relu, and saves: the least that a conversion with it costs. The
output is brought to the disk (fsync) by all of them, as jr-onnx does.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

LAYERS = 25
DOMAIN, OP_TYPE, JUMP = "jr_onnx", "JumpReLU", 0.5


def copy(source: Path, output: Path) -> None:
    """A plain file copy."""
    shutil.copyfile(source, output)


def by_onnx(source: Path, output: Path) -> None:
    """The way of most scripts: parse all, rename, serialize all."""
    import onnx

    model = onnx.load(source)
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type, node.domain = OP_TYPE, DOMAIN
            node.attribute.append(onnx.helper.make_attribute("jump", JUMP))
    model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    onnx.save(model, output)


def by_graphsurgeon(source: Path, output: Path) -> None:
    """The way of onnx-graphsurgeon, which exports a ModelProto that onnx then saves."""
    import onnx
    import onnx_graphsurgeon as gs

    graph = gs.import_onnx(onnx.load(source))
    for node in graph.nodes:
        if node.op == "Relu":
            node.op, node.domain = OP_TYPE, DOMAIN
            node.attrs["jump"] = JUMP
    onnx.save(gs.export_onnx(graph), output)


def by_onnx_ir(source: Path, output: Path) -> None:
    """The way of onnx_ir."""
    import onnx_ir

    model = onnx_ir.load(source)
    for node in model.graph:
        if node.op_type == "Relu":
            node.op_type, node.domain = OP_TYPE, DOMAIN
            node.attributes.add(onnx_ir.AttrFloat32("jump", JUMP))
    model.graph.opset_imports[DOMAIN] = 1
    onnx_ir.save(model, output)


def synchronize(path: Path) -> None:
    """Wait until the file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _layers(side: int) -> onnx.ModelProto:
    """MatMul and Relu in turn, without the weights."""
    from onnx import TensorProto, helper

    nodes = []
    for layer in range(LAYERS):
        product = f"product_{layer}"
        nodes.append(helper.make_node("MatMul", [f"value_{layer}", f"weight_{layer}"], [product], f"MatMul_{layer}"))
        nodes.append(helper.make_node("Relu", [product], [f"value_{layer + 1}"], f"Relu_{layer}"))
    first, last = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", side])
        for name in ("value_0", f"value_{LAYERS}")
    )
    graph = helper.make_graph(nodes, "layers", [first], [last])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def _weight(layer: int, side: int) -> onnx.TensorProto:
    from onnx import TensorProto

    return TensorProto(name=f"weight_{layer}", data_type=TensorProto.FLOAT, dims=[side, side])


def _side(gigabytes: float) -> int:
    """Rows and columns of each weight."""
    return max(1, math.isqrt(int(gigabytes * 1e9 / LAYERS / 4)))


def make_inline(path: Path, gigabytes: float) -> None:
    """A model with its weights in it, written as a stream: protobuf could not serialize one over 2 GB."""
    import numpy as np

    from jr_onnx.files.wire import encode_header

    side = _side(gigabytes)
    model = _layers(side)
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    size = 4 * side * side
    tensors = [_weight(layer, side).SerializeToString() + encode_header(9, size) for layer in range(LAYERS)]
    heads = [encode_header(5, len(tensor) + size) + tensor for tensor in tensors]
    block = np.random.default_rng(0).standard_normal(1 << 20, np.float32).tobytes()
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        file.write(encode_header(7, len(graph) + sum(map(len, heads)) + LAYERS * size) + graph)
        for head in heads:
            file.write(head)
            for start in range(0, size, len(block)):
                file.write(block[: size - start])
    synchronize(path)


def make_external(path: Path, gigabytes: float) -> None:
    """A model with its weights in a file beside it, which is one hole: whoever reads it, it is not us."""
    from onnx import TensorProto

    side = _side(gigabytes)
    size = 4 * side * side
    model = _layers(side)
    data = path.with_name(f"{path.name}.data")
    for layer in range(LAYERS):
        tensor = _weight(layer, side)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", data.name), ("offset", layer * size), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        model.graph.initializer.append(tensor)
    with data.open("wb") as file:
        file.truncate(LAYERS * size)
    path.write_bytes(model.SerializeToString())


def main() -> None:
    """`make-inline|make-external PATH GIGABYTES`, or `copy|onnx|graphsurgeon|onnx_ir SOURCE OUTPUT`."""
    command, path, argument = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    if command in ("make-inline", "make-external"):
        (make_inline if command == "make-inline" else make_external)(path, float(argument))
        return
    ways = {"copy": copy, "onnx": by_onnx, "graphsurgeon": by_graphsurgeon, "onnx_ir": by_onnx_ir}
    ways[command](path, Path(argument))
    synchronize(Path(argument))


if __name__ == "__main__":
    main()
