"""Models of integers for tests: one layer by hand, and networks quantized by onnxruntime's own quantizer."""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from support import FLOAT, MODELS, Array, make_model, node, value

import jr_onnx

MICROSOFT = "com.microsoft"

#: A type of integers -> the lowest, at which those of a folded Relu start.
LOWEST = {np.dtype(name): np.iinfo(name).min for name in ("uint8", "int8", "uint16", "int16")}


def all_integers(dtype: Any) -> Array:
    """Every integer of a type."""
    return np.arange(np.iinfo(dtype).min, int(np.iinfo(dtype).max) + 1).astype(dtype)


def dequantized(integers: Array, scale: float, zero_point: int) -> Array:
    """What integers stand for, as DequantizeLinear computes it."""
    return np.asarray((integers.astype(np.int64) - zero_point).astype(np.float32) * np.float32(scale))


def one_layer(scale: float, zero_point: Any, shape: tuple[int, ...] = (1, 1), opset: int = 21) -> onnx.ModelProto:
    """x times 1, quantized to `zero_point`'s type and dequantized: x of the grid comes out as it is, from 0 on."""
    nodes = [
        node("MatMul", "x one", "h", "layer"),
        node("QuantizeLinear", "h scale zero", "q", "quantize"),
        node("DequantizeLinear", "q scale zero", "y", "dequantize"),
    ]
    tensors = {"one": np.ones((1, 1), np.float32), "scale": np.float32(scale), "zero": np.asarray(zero_point)}
    ends = [value("x", FLOAT, [*shape[:-1], shape[-1]])], [value("y", FLOAT, list(shape))]
    model = make_model(nodes, *ends, initializers=tensors, opset=opset, ir_version=10, domains=[MICROSOFT])
    if opset < 21 and np.asarray(zero_point).dtype.itemsize > 1:
        for op in model.graph.node[1:]:
            op.domain = MICROSOFT
    return model


def network(opset: int = 17) -> onnx.ModelProto:
    """Two residual blocks, a pool and a head: each Conv in NCHW, and Relu behind Conv, Add and Gemm."""
    rng = np.random.default_rng(0)
    tensors: dict[str, Array] = {}

    def weights(name: str, *shape: int) -> str:
        tensors[name] = (rng.normal(size=shape) * np.prod(shape[1:]) ** -0.5).astype(np.float32)
        return name

    nodes = [
        node("Conv", f"x {weights('w0', 16, 3, 3, 3)}", "a", "conv0", pads=[1] * 4),
        node("Relu", "a", "b", "relu0"),
        node("MaxPool", "b", "c", "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", f"c {weights('w1', 16, 16, 3, 3)}", "d", "conv1", pads=[1] * 4),
        node("Relu", "d", "e", "relu1"),
        node("Conv", f"e {weights('w2', 16, 16, 3, 3)}", "f", "conv2", pads=[1] * 4),
        node("Add", "f c", "g", "add"),
        node("Relu", "g", "h", "relu2"),
        node("GlobalAveragePool", "h", "i", "average"),
        node("Flatten", "i", "j", "flatten"),
        node("Gemm", f"j {weights('w3', 8, 16)}", "k", "gemm", transB=1),
        node("Relu", "k", "l", "relu3"),
        node("Gemm", f"l {weights('w4', 4, 8)}", "y", "head", transB=1),
    ]
    ends = [value("x", FLOAT, ["N", 3, 16, 16])], [value("y", FLOAT, ["N", 4])]
    return make_model(nodes, *ends, initializers=tensors, opset=opset)


def images(number: int = 2, seed: int = 5) -> Array:
    """Inputs of `network`."""
    return np.random.default_rng(seed).normal(size=(number, 3, 16, 16)).astype(np.float32)


def convolutions(rank: int) -> onnx.ModelProto:
    """Two convolutions, each with a Relu, of values of this many axes."""
    rng = np.random.default_rng(0)
    window, pads, size = [3] * (rank - 2), [1] * 2 * (rank - 2), [6] * (rank - 2)
    tensors = {f"w{i}": rng.normal(size=(4, 4, *window)).astype(np.float32) / 6 for i in range(2)}
    nodes = [
        node("Conv", "x w0", "a", "conv0", pads=pads),
        node("Relu", "a", "b", "relu0"),
        node("Conv", "b w1", "c", "conv1", pads=pads),
        node("Relu", "c", "y", "relu1"),
    ]
    ends = [value("x", FLOAT, [2, 4, *size])], [value("y", FLOAT, [2, 4, *size])]
    return make_model(nodes, *ends, initializers=tensors, opset=17)


def inputs_of(rank: int, seed: int = 5) -> Array:
    """Inputs of `convolutions` of this rank; of `network`, where it is 0."""
    shape = (2, 4, *(6,) * (rank - 2))
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) if rank else images(2, seed)


def _quantize(
    model: onnx.ModelProto, batches: Iterable[dict[str, Array]], activations: str, form: str, **options: Any
) -> bytes:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> dict[str, Array] | None:
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        onnx.save(model, path)
        quantize_static(
            path,
            Path(folder) / "quantized.onnx",
            Batches(),
            quant_format=QuantFormat[form],
            activation_type=QuantType[activations],
            weight_type=QuantType.QInt8,
            **options,
        )
        return (Path(folder) / "quantized.onnx").read_bytes()


@functools.cache
def _quantized(activations: str, form: str, rank: int) -> bytes:
    batches = ({"x": inputs_of(rank, seed)} for seed in range(4))
    return _quantize(convolutions(rank) if rank else network(), batches, activations, form)


def quantized(activations: str, form: str, rank: int = 0) -> onnx.ModelProto:
    """`network`, quantized by onnxruntime: "QUInt8", "QInt8", "QUInt16" or "QInt16", as "QDQ" or "QOperator".

    With a rank, `convolutions` of that rank in its stead.
    """
    return onnx.ModelProto.FromString(_quantized(activations, form, rank))


@functools.cache
def _quantized_digits(activations: str, form: str) -> bytes:
    images = np.load(MODELS / "digits_test.npz")["x"].astype(np.float32)
    # Weights of seven bits: with eight, onnxruntime's kernels for processors without VNNI saturate.
    return _quantize(onnx.load(MODELS / "digits.onnx"), [{"image": images}], activations, form, reduce_range=True)


def quantized_digits(activations: str, form: str) -> onnx.ModelProto:
    """The digits classifier, quantized by onnxruntime."""
    return onnx.ModelProto.FromString(_quantized_digits(activations, form))


#: What `network` is quantized to.
KINDS = [("QUInt8", "QDQ"), ("QInt8", "QDQ"), ("QUInt8", "QOperator"), ("QInt8", "QOperator"), ("QUInt16", "QDQ")]


def fused(model: onnx.ModelProto, *, kernels: bool = False) -> Counter[str]:
    """The operators that onnxruntime runs in its stead."""
    return Counter(op.op_type for op in saved(model, kernels=kernels).graph.node)


def saved(model: onnx.ModelProto, *, kernels: bool = False) -> onnx.ModelProto:
    """The model that onnxruntime saves when it has optimised this one."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        options.log_severity_level = 3  # it warns that the file is for this machine alone
        if kernels:
            options.register_custom_ops_library(str(jr_onnx.library_path()))
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def run_with_kernels(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """The outputs in onnxruntime with the kernel library."""
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(jr_onnx.library_path()))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[Array] = session.run(None, feeds)
    return outputs
