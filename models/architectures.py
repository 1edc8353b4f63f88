"""Well-known architectures with random weights, for benchmarks: written straight in ONNX, without torch."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper


class _Builder:
    """Collects the nodes and the weights of one network; values are named after the layer that gives them."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._draw = np.random.default_rng(seed)

    def weight(self, name: str, shape: tuple[int, ...], fan_in: int) -> str:
        """He's initialisation, so that activations keep their size through the layers."""
        values = self._draw.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
        self.weights.append(onnx.numpy_helper.from_array(values, name))
        return name

    def node(self, op_type: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name, **attributes))
        return name

    def conv(self, name: str, x: str, channels: tuple[int, int], kernel: int, stride: int = 1) -> str:
        """A convolution with its batch normalization folded in, as exporters leave it."""
        inside, outside = channels
        shape = (outside, inside, kernel, kernel)
        weight = self.weight(f"{name}.weight", shape, inside * kernel * kernel)
        bias = self.weight(f"{name}.bias", (outside,), 10_000)
        pads, strides = [kernel // 2] * 4, [stride] * 2
        return self.node("Conv", name, x, weight, bias, kernel_shape=[kernel] * 2, pads=pads, strides=strides)

    def relu(self, x: str) -> str:
        return self.node("Relu", f"{x}/relu", x)


def resnet50(opset: int = 17, seed: int = 0) -> onnx.ModelProto:
    """ResNet-50 (He et al., arXiv 1512.03385): 53 Conv, 49 Relu; input `x` float [N, 3, 224, 224], output [N, 1000]."""
    b = _Builder(seed)
    x = b.relu(b.conv("stem", "x", (3, 64), 7, 2))
    x = b.node("MaxPool", "pool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    channels = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(blocks):
            name, stride = f"stage{stage}.{block}", 2 if block == 0 and stage > 1 else 1
            shortcut = x
            if block == 0:
                shortcut = b.conv(f"{name}.shortcut", x, (channels, 4 * width), 1, stride)
            h = b.relu(b.conv(f"{name}.a", x, (channels, width), 1))
            h = b.relu(b.conv(f"{name}.b", h, (width, width), 3, stride))
            h = b.conv(f"{name}.c", h, (width, 4 * width), 1)
            x = b.relu(b.node("Add", f"{name}.add", h, shortcut))
            channels = 4 * width
    x = b.node("Flatten", "flat", b.node("GlobalAveragePool", "mean", x))
    b.node("Gemm", "y", x, b.weight("head.weight", (channels, 1000), channels), b.weight("head.bias", (1000,), 10_000))
    graph = helper.make_graph(
        b.nodes,
        "resnet50",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1000])],
        b.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
