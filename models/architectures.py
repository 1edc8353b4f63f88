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
        self.bounds: list[str] = []
        self._draw = np.random.default_rng(seed)

    def weight(self, name: str, shape: tuple[int, ...], fan_in: int) -> str:
        """He's initialisation, so that activations keep their size through the layers."""
        values = self._draw.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
        self.weights.append(onnx.numpy_helper.from_array(values, name))
        return name

    def node(self, op_type: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name, **attributes))
        return name

    def conv(
        self, name: str, x: str, channels: tuple[int, int], kernel: int, stride: int = 1, *, depthwise: bool = False
    ) -> str:
        """A convolution with its batch normalization folded in, as exporters leave it."""
        inside, outside = channels
        group = inside if depthwise else 1
        shape = (outside, inside // group, kernel, kernel)
        weight = self.weight(f"{name}.weight", shape, inside // group * kernel * kernel)
        bias = self.weight(f"{name}.bias", (outside,), 10_000)
        pads, strides = [kernel // 2] * 4, [stride] * 2
        attributes = {"kernel_shape": [kernel] * 2, "pads": pads, "strides": strides, "group": group}
        return self.node("Conv", name, x, weight, bias, **attributes)

    def relu(self, x: str) -> str:
        return self.node("Relu", f"{x}/relu", x)

    def relu6(self, x: str) -> str:
        if not self.bounds:
            self.bounds = ["zero", "six"]
            values = zip(self.bounds, (0, 6), strict=True)
            self.weights += [onnx.numpy_helper.from_array(np.float32(value), name) for name, value in values]
        return self.node("Clip", f"{x}/relu6", x, *self.bounds)

    def normalize(self, name: str, x: str, channels: int) -> str:
        """A batch normalization that no convolution in front of it can take in."""
        parameters = []
        for kind, base in (("scale", 1.0), ("shift", 0.0), ("mean", 0.0), ("variance", 1.0)):
            self.weight(f"{name}.{kind}", (channels,), 200)
            values = np.abs(onnx.numpy_helper.to_array(self.weights[-1])) + np.float32(base)
            self.weights[-1].CopyFrom(onnx.numpy_helper.from_array(values, f"{name}.{kind}"))
            parameters.append(f"{name}.{kind}")
        return self.node("BatchNormalization", name, x, *parameters)

    def linear(self, name: str, x: str, sizes: tuple[int, int]) -> str:
        weight, bias = self.weight(f"{name}.weight", sizes, sizes[0]), self.weight(f"{name}.bias", sizes[1:], 10_000)
        return self.node("Gemm", name, x, weight, bias)

    def classifier(self, x: str, sizes: tuple[int, int]) -> None:
        """Mean over the image, then one linear layer that gives `y`."""
        self.linear("y", self.node("Flatten", "flat", self.node("GlobalAveragePool", "mean", x)), sizes)

    def model(self, name: str, x: list[int | str], classes: int, opset: int) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [x[0], classes])],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


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
    b.classifier(x, (channels, 1000))
    return b.model("resnet50", ["N", 3, 224, 224], 1000, opset)


def vgg16(opset: int = 17, seed: int = 0) -> onnx.ModelProto:
    """VGG-16 (Simonyan and Zisserman, arXiv 1409.1556): 13 Conv, 3 Gemm, 15 Relu, 553 MB; x float [N, 3, 224, 224]."""
    b = _Builder(seed)
    x, channels = "x", 3
    for stage, (width, layers) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        for layer in range(layers):
            x = b.relu(b.conv(f"stage{stage}.{layer}", x, (channels, width), 3))
            channels = width
        x = b.node("MaxPool", f"pool{stage}", x, kernel_shape=[2, 2], strides=[2, 2])
    x = b.node("Flatten", "flat", x)
    x = b.relu(b.linear("head.0", x, (512 * 7 * 7, 4096)))
    x = b.relu(b.linear("head.1", x, (4096, 4096)))
    b.linear("y", x, (4096, 1000))
    return b.model("vgg16", ["N", 3, 224, 224], 1000, opset)


def densenet121(opset: int = 17, seed: int = 0) -> onnx.ModelProto:
    """DenseNet-121 (Huang et al., arXiv 1608.06993): 121 Relu, most of them between BatchNormalization and Conv."""
    b = _Builder(seed)
    growth, channels = 32, 64
    x = b.relu(b.conv("stem", "x", (3, channels), 7, 2))
    x = b.node("MaxPool", "pool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    for stage, layers in enumerate((6, 12, 24, 16)):
        for layer in range(layers):
            name = f"stage{stage}.{layer}"
            h = b.relu(b.normalize(f"{name}.norm", x, channels))
            h = b.relu(b.conv(f"{name}.narrow", h, (channels, 4 * growth), 1))
            x = b.node("Concat", f"{name}.concat", x, b.conv(f"{name}.grow", h, (4 * growth, growth), 3), axis=1)
            channels += growth
        if stage < 3:
            h = b.relu(b.normalize(f"stage{stage}.norm", x, channels))
            h = b.conv(f"stage{stage}.half", h, (channels, channels // 2), 1)
            x = b.node("AveragePool", f"stage{stage}.pool", h, kernel_shape=[2, 2], strides=[2, 2])
            channels //= 2
    b.classifier(b.relu(b.normalize("norm", x, channels)), (channels, 1000))
    return b.model("densenet121", ["N", 3, 224, 224], 1000, opset)


#: MobileNetV2: expansion, channels, blocks, stride of the first block.
_INVERTED = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2(opset: int = 17, seed: int = 0) -> onnx.ModelProto:
    """MobileNetV2 (Sandler et al., arXiv 1801.04381): 35 ReLU6, as Clip; x float [N, 3, 224, 224]."""
    b = _Builder(seed)
    channels = 32
    x = b.relu6(b.conv("stem", "x", (3, channels), 3, 2))
    for stage, (expansion, width, blocks, first) in enumerate(_INVERTED):
        for block in range(blocks):
            name, stride = f"stage{stage}.{block}", first if block == 0 else 1
            h, wide = x, expansion * channels
            if expansion > 1:
                h = b.relu6(b.conv(f"{name}.expand", h, (channels, wide), 1))
            h = b.relu6(b.conv(f"{name}.depthwise", h, (wide, wide), 3, stride, depthwise=True))
            h = b.conv(f"{name}.project", h, (wide, width), 1)
            x = b.node("Add", f"{name}.add", x, h) if stride == 1 and channels == width else h
            channels = width
    b.classifier(b.relu6(b.conv("last", x, (channels, 1280), 1)), (1280, 1000))
    return b.model("mobilenet_v2", ["N", 3, 224, 224], 1000, opset)


def resnet20(opset: int = 17, seed: int = 0) -> onnx.ModelProto:
    """ResNet-20 for CIFAR-10 (He et al., arXiv 1512.03385): 19 Relu; x float [N, 3, 32, 32], output [N, 10]."""
    b = _Builder(seed)
    channels = 16
    x = b.relu(b.conv("stem", "x", (3, channels), 3))
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            name, stride = f"stage{stage}.{block}", 2 if block == 0 and stage else 1
            shortcut = x if channels == width else b.conv(f"{name}.shortcut", x, (channels, width), 1, stride)
            h = b.relu(b.conv(f"{name}.a", x, (channels, width), 3, stride))
            x = b.relu(b.node("Add", f"{name}.add", b.conv(f"{name}.b", h, (width, width), 3), shortcut))
            channels = width
    b.classifier(x, (channels, 10))
    return b.model("resnet20", ["N", 3, 32, 32], 10, opset)


def mlp(opset: int = 17, seed: int = 0) -> onnx.ModelProto:
    """A perceptron with three hidden layers of 1024: 4 Gemm, 3 Relu; x float [N, 784], output [N, 10]."""
    b = _Builder(seed)
    x, sizes = "x", (784, 1024, 1024, 1024)
    for layer in range(3):
        x = b.relu(b.linear(f"hidden{layer}", x, sizes[layer : layer + 2]))  # type: ignore[arg-type]
    b.linear("y", x, (1024, 10))
    return b.model("mlp", ["N", 784], 10, opset)
