"""Targets for the tests of attacks: the digits classifier, hardened or not, and small models with known geometry."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from support import MODELS, Array, make_model, node, value

from jr_onnx import convert
from jr_onnx.robustness.attacks.search import normalisation
from jr_onnx.robustness.attacks.target import Target
from jr_onnx.robustness.gradients.gradients import Gradients

_DATA = np.load(MODELS / "digits_test.npz")
IMAGES, LABELS = _DATA["x"], _DATA["y"]


def target_of(
    model: onnx.ModelProto, mean: tuple[float, ...] = (0.0,), std: tuple[float, ...] = (1.0,), **options: Any
) -> Target:
    """A target whose file is the model."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()

    def run(images: Array) -> Array:
        centre, spread = normalisation(target, images.ndim)
        return session.run(None, {given.name: ((images - centre) / spread).astype(np.float32)})[0]

    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    target = Target(Gradients(model, shape), run, mean, std, **options)
    return target


@cache
def digits(jump: float = 0.0) -> Target:
    """The digits classifier with one jump everywhere."""
    return target_of(digits_model(jump))


def digits_model(jump: float = 0.0) -> onnx.ModelProto:
    """The file of that classifier."""
    model = onnx.load(MODELS / "digits.onnx")
    if not jump:
        return model
    hardened = convert(model, jump=jump, target="standard").model
    assert hardened is not None
    return hardened


def linear(weights: Array, bias: Array, **options: Any) -> Target:
    """logits = W x + b on images [N, 1, 3, 3]: every distance to a boundary is known."""
    nodes = [node("Flatten", "x", "f"), node("Gemm", "f w b", "y", transB=1)]
    constants = {"w": weights.astype(np.float32), "b": bias.astype(np.float32)}
    model = make_model(
        nodes, [value("x", shape=["N", 1, 3, 3])], [value("y", shape=["N", len(bias)])], initializers=constants
    )
    return target_of(model, **options)


def without_gradient(kind: str) -> Target:
    """A classifier of images [N, 1, 3, 3] whose gradient is all zero (a staircase), or NaN (0 times infinity)."""
    first = {
        "zero": [node("Mul", "x many", "m"), node("Floor", "m", "g")],
        "nan": [node("Mul", "x none", "z"), node("Sqrt", "z", "r"), node("Add", "x r", "g")],
    }[kind]
    generator = np.random.default_rng(3)
    constants = {
        "w": generator.normal(size=(4, 9)).astype(np.float32),
        "many": np.asarray(50, np.float32),
        "none": np.asarray(0, np.float32),
    }
    nodes = [*first, node("Flatten", "g", "f"), node("Gemm", "f w", "y", transB=1)]
    model = make_model(nodes, [value("x", shape=["N", 1, 3, 3])], [value("y", shape=["N", 4])], initializers=constants)
    return target_of(model)


def right(target: Target, images: Array, labels: Array) -> Array:
    """Which images onnxruntime puts in the right class."""
    return np.asarray(target.session_run(images)).argmax(1) == labels


#: What may stand behind the logits of the digits classifier.
HEADS = {
    "logits": (),
    "softmax": ("Softmax",),
    "softmax, identity": ("Softmax", "Identity"),
    "softmax, flatten": ("Softmax", "Flatten"),
    "log of softmax": ("Softmax", "Log"),
    "softmax, clipped": ("Softmax", "Clip"),
    "exp of log softmax": ("LogSoftmax", "Exp"),
    "class 0 masked": ("Where",),
}


def head_model(kind: str, scale: float = 40.0, jump: float = 0.0) -> onnx.ModelProto:
    """The digits classifier with its logits scaled, and behind them one of `HEADS`."""
    model = onnx.ModelProto()
    model.CopyFrom(digits_model(jump))
    (output,) = model.graph.output
    constants = {"scale": np.float32(scale), "least": np.float32(1e-7), "none": np.float32(-np.inf)}
    constants["mask"] = np.arange(10) == 0
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    last = output.name
    for op_type in ("Mul", *HEADS[kind]):
        following = f"{op_type} of {last}"
        inputs = {"Mul": [last, "scale"], "Clip": [last, "least"], "Where": ["mask", "none", last]}.get(op_type, [last])
        model.graph.node.append(onnx.helper.make_node(op_type, inputs, [following]))
        last = following
    output.name = last
    return model


def with_head(kind: str, scale: float = 40.0, jump: float = 0.0) -> Target:
    """That model as a target."""
    return target_of(head_model(kind, scale, jump))
