"""What the tests of optimised models share: small convolutional networks, and what their nodes compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

import jr_onnx

Array = npt.NDArray[Any]

CHANNELS = 16


class Net:
    """Nodes on [N, 16, 12, 12], one after the other."""

    def __init__(self, element_type: int = TensorProto.FLOAT) -> None:
        self.element_type = element_type
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._draw = np.random.default_rng(7)

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], f"node_{name}", **attributes))
        return name

    def constant(self, values: Any) -> str:
        dtype = helper.tensor_dtype_to_np_dtype(self.element_type)
        self.weights.append(onnx.numpy_helper.from_array(np.asarray(values, dtype), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def conv(self, x: str) -> str:
        weight = self.constant(self._draw.standard_normal((CHANNELS, CHANNELS, 3, 3)) / 8)
        return self.node("Conv", x, weight, self.constant(self._draw.standard_normal(CHANNELS)), pads=[1, 1, 1, 1])

    def relu(self, x: str) -> str:
        return self.node("Relu", x)

    def pool(self, x: str, **attributes: Any) -> str:
        return self.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], **attributes)

    def save(self, path: Path, y: str, ir_version: int = 8) -> Path:
        x = helper.make_tensor_value_info("x", self.element_type, ["N", CHANNELS, 12, 12])
        output = helper.make_tensor_value_info(y, self.element_type, ["N", None, None, None])
        graph = helper.make_graph(self.nodes, "net", [x], [output], self.weights)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=ir_version), path)
        return path


def residual_net(path: Path) -> Path:
    """Conv+Relu, MaxPool behind a Relu, a residual block, a Relu that nothing fuses with."""
    net = Net()
    x = net.pool(net.relu(net.conv("x")))
    h = net.conv(net.relu(net.conv(x)))
    x = net.relu(net.node("Add", h, x))
    x = net.relu(net.node("Add", x, net.node("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])))
    return net.save(path, net.conv(x))


def run(session: Any, x: Array) -> Array:
    y: Array = session.run(None, {session.get_inputs()[0].name: x})[0]
    return y


def images(batch: int = 2, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((batch, CHANNELS, 12, 12), np.float32)


def jump_relus(path: Path) -> list[onnx.NodeProto]:
    return [node for node in onnx.load(path).graph.node if node.op_type == "JumpReLU"]


def around_jump_relus(path: Path, folder: Path, x: Array) -> dict[str, tuple[Array, Array]]:
    """The input and the output of each JumpReLU of an optimised model, by the name of the node."""
    model = onnx.load(path)
    nodes = jump_relus(path)
    kept = {output.name for output in model.graph.output}
    names = dict.fromkeys(name for node in nodes for name in (node.input[0], node.output[0]) if name not in kept)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    instrumented = folder / "instrumented.onnx"
    onnx.save(model, instrumented)
    session = jr_onnx.session(instrumented, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    values = dict(zip(outputs, session.run(None, {"x": x}), strict=True))
    return {node.name: (values[node.input[0]], values[node.output[0]]) for node in nodes}
