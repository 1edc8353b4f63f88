"""What the tests of the kernels share: models of JumpReLU alone, sessions, and the comparison of bits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from jr_onnx import runtime
from jr_onnx.conversion.element_types import BFLOAT16, DOUBLE, FLOAT, FLOAT16, NUMPY_TYPES
from jr_onnx.conversion.forms.write import add_function_proto, body_for

Array = npt.NDArray[Any]

#: The types that a session can be fed with; bfloat16 has no NumPy type that onnxruntime takes.
FED_TYPES = (FLOAT, DOUBLE, FLOAT16)
#: The types of QuantizedJumpReLU.
INTEGERS = (TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16)
BITS = {2: np.uint16, 4: np.uint32, 8: np.uint64}
CPU = ["CPUExecutionProvider"]


def function_body() -> onnx.FunctionProto:
    """JumpReLU in ONNX's own operators, for sessions without the kernels."""
    nodes = [
        helper.make_node("LessOrEqual", ["X", "jump"], ["mask"]),
        helper.make_node("Sub", ["jump", "jump"], ["zero"]),
        helper.make_node("Where", ["mask", "zero", "X"], ["Y"]),
    ]
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_function("jr_onnx", "JumpReLU", ["X", "jump"], ["Y"], nodes, opsets)


def jump_model(
    element_type: int,
    jump: Array,
    shape: list[int | str] | None,
    *,
    depth: int = 1,
    jump_is_input: bool = False,
    body: bool = False,
) -> onnx.ModelProto:
    """x -> JumpReLU, `depth` times -> y. Of these, all but the first run in place."""
    names = ["x", *(f"t{i}" for i in range(1, depth)), "y"]
    ops = [
        helper.make_node("JumpReLU", [names[i], "jump"], [names[i + 1]], name=f"jump{i}", domain="jr_onnx")
        for i in range(depth)
    ]
    inputs = [helper.make_tensor_value_info("x", element_type, shape)]
    jump_value = helper.make_tensor_value_info("jump", element_type, list(jump.shape))
    return _model(
        ops,
        [*inputs, jump_value] if jump_is_input else inputs,
        helper.make_tensor_value_info("y", element_type, shape),
        [] if jump_is_input else [onnx.numpy_helper.from_array(jump, "jump")],
        [function_body()] if body else [],
    )


def add_model(element_type: int, jump: Array, *, depth: int = 1, body: bool = False) -> onnx.ModelProto:
    """AddJumpReLU of a and b, then again of that and b, `depth` times in all; all but the first run in place."""
    names = ["a", *(f"t{i}" for i in range(1, depth)), "y"]
    nodes = [
        helper.make_node("AddJumpReLU", [names[i], "b", "jump"], [names[i + 1]], domain="jr_onnx") for i in range(depth)
    ]
    a, b, y = (helper.make_tensor_value_info(name, element_type, None) for name in "aby")
    graph = helper.make_graph(nodes, "add", [a, b], [y], [onnx.numpy_helper.from_array(jump, "jump")])
    form = body_for(element_type, 17)
    assert form is not None
    functions = [add_function_proto(form, 17, element_type)] if body else []
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("jr_onnx", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


def quantized_model(
    element_type: int,
    parameters: dict[str, Array],
    shape: list[int | str] | None,
    *,
    depth: int = 1,
    inputs: bool = False,
    body: bool = False,
) -> onnx.ModelProto:
    """x -> QuantizedJumpReLU, `depth` times -> y; the threshold and the zero point are constants or inputs."""
    names = ["x", *(f"t{i}" for i in range(1, depth)), "y"]
    nodes = [
        helper.make_node("QuantizedJumpReLU", [a, *parameters], [b], name=f"jump_{b}", domain="jr_onnx")
        for a, b in pairwise(names)
    ]
    given = [helper.make_tensor_value_info(name, element_type, array.shape) for name, array in parameters.items()]
    return _model(
        nodes,
        [helper.make_tensor_value_info("x", element_type, shape), *(given if inputs else [])],
        helper.make_tensor_value_info("y", element_type, shape),
        [] if inputs else [onnx.numpy_helper.from_array(array, name) for name, array in parameters.items()],
        [quantized_function_body()] if body else [],
    )


def quantized_function_body() -> onnx.FunctionProto:
    """Through int32: onnxruntime has LessOrEqual and Where of small integers late, and no Where of 16 bits."""
    nodes = [
        helper.make_node("Cast", ["Q"], ["wide"], to=TensorProto.INT32),
        helper.make_node("Cast", ["threshold"], ["limit"], to=TensorProto.INT32),
        helper.make_node("Cast", ["zero_point"], ["zero"], to=TensorProto.INT32),
        helper.make_node("LessOrEqual", ["wide", "limit"], ["mask"]),
        helper.make_node("Where", ["mask", "zero", "wide"], ["chosen"]),
        helper.make_node("CastLike", ["chosen", "Q"], ["Y"]),
    ]
    inputs = ["Q", "threshold", "zero_point"]
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_function("jr_onnx", "QuantizedJumpReLU", inputs, ["Y"], nodes, opsets)


def bfloat16_model(jump: Array) -> onnx.ModelProto:
    """float32 -> bfloat16 -> JumpReLU -> float32: exact, since every bfloat16 is a float32."""
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=TensorProto.BFLOAT16),
        helper.make_node("JumpReLU", ["narrow", "jump"], ["jumped"], name="jump0", domain="jr_onnx"),
        helper.make_node("Cast", ["jumped"], ["y"], to=TensorProto.FLOAT),
    ]
    x, y = (helper.make_tensor_value_info(name, FLOAT, None) for name in "xy")
    raw = jump.astype(NUMPY_TYPES[BFLOAT16]).tobytes()
    return _model(nodes, [x], y, [helper.make_tensor("jump", BFLOAT16, list(jump.shape), raw, raw=True)], [])


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    output: onnx.ValueInfoProto,
    initializers: list[onnx.TensorProto],
    functions: list[onnx.FunctionProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "jump_relu", inputs, [output], initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("jr_onnx", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)


def kernel_session(model: onnx.ModelProto, threads: int = 1, *, kernels: bool = True) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if kernels:
        runtime.register(options)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=CPU)


def run(model: onnx.ModelProto, x: Array, threads: int = 1, **more: Array) -> Array:
    y: Array = kernel_session(model, threads).run(None, {"x": x, **more})[0]
    return y


def edge_values(element_type: int, jump: float) -> Array:
    """Zeros, infinities, NaN, denormals, extremes, and the neighbours of a jump, with both signs."""
    dtype = NUMPY_TYPES[element_type]
    limits = np.finfo(dtype)
    at = dtype.type(jump)
    above = [0, limits.smallest_subnormal, limits.tiny, 1, limits.max, np.inf, np.nan, at]
    with np.errstate(over="ignore"):
        around = [np.nextafter(at, dtype.type(np.inf)), np.nextafter(at, dtype.type(-np.inf))]
    positive = np.array([*above, *around], dtype)
    return np.concatenate([positive, -positive])


def random_values(element_type: int, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Values around 0, with edges strewn among them."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape).astype(NUMPY_TYPES[element_type])
    flat = values.reshape(-1)
    edges = edge_values(element_type, 0.5)
    places = random.integers(0, max(flat.size, 1), flat.size // 8)
    flat[places] = edges[random.integers(0, edges.size, places.size)]
    return values


def assert_same_bits(got: Array, expected: Array) -> None:
    """The same bits everywhere, but that a NaN may be any NaN."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(got), nan)
    bits = BITS[got.dtype.itemsize]
    np.testing.assert_array_equal(got[~nan].view(bits), expected[~nan].view(bits))
