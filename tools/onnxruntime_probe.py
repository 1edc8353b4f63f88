"""What onnxruntime_matrix.py runs in each venv: python onnxruntime_probe.py LIBRARY (runs|refuses).

It needs onnxruntime, onnx and NumPy, and nothing of this package but the kernel library.
"""

import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

JUMP = 0.5
TYPES = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64, TensorProto.FLOAT16: np.float16}
QUANTIZED_TYPES = {
    TensorProto.UINT8: np.uint8,
    TensorProto.INT8: np.int8,
    TensorProto.UINT16: np.uint16,
    TensorProto.INT16: np.int16,
}
NODE = helper.make_node

# What makes a value whose shape onnxruntime does not know, or not all of it, out of x: the nodes, and the shape of x.
UNKNOWN_SHAPES = {
    "one anonymous axis": ([NODE("Identity", ["x"], ["v"])], [None, 4]),
    "two anonymous axes": ([NODE("Identity", ["x"], ["v"])], [None, None]),
    "Squeeze": ([NODE("Unsqueeze", ["x", "zero"], ["u"]), NODE("Squeeze", ["u"], ["v"])], ["N", "M"]),
    "Scaler": ([NODE("Scaler", ["x"], ["v"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0])], ["N", "M"]),
}
# What needs the shape of the JumpReLU's result, y: the nodes, and the type of z.
USES = {
    "Shape": ([NODE("Shape", ["y"], ["z"])], TensorProto.INT64),
    "Size": ([NODE("Size", ["y"], ["z"])], TensorProto.INT64),
    "MatMul": ([NODE("MatMul", ["y", "four_by_two"], ["z"])], TensorProto.FLOAT),
    "Gemm": ([NODE("Gemm", ["y", "four_by_two"], ["z"])], TensorProto.FLOAT),
    "Reshape": ([NODE("Shape", ["y"], ["s"]), NODE("Reshape", ["y", "s"], ["z"])], TensorProto.FLOAT),
    "Split": ([NODE("Split", ["y"], ["half", "z"], axis=1)], TensorProto.FLOAT),
    "Softmax": ([NODE("Softmax", ["y"], ["z"])], TensorProto.FLOAT),
}


def model(element_type: int, shape: list, jump: np.ndarray) -> bytes:
    """Y = JumpReLU(X), Z = JumpReLU(Y)."""
    return assemble([jump_relu("x", "y"), jump_relu("y", "z")], element_type, shape, element_type, {"jump": jump})


def unknown_shape_model(shape: str, use: str) -> bytes:
    """Y = JumpReLU(V), V from UNKNOWN_SHAPES and behind Y one of USES."""
    before, x_shape = UNKNOWN_SHAPES[shape]
    after, z_type = USES[use]
    constants = {
        "jump": np.asarray(JUMP, np.float32),
        "zero": np.array([0]),
        "four_by_two": np.ones((4, 2), np.float32),
    }
    return assemble([*before, jump_relu("v", "y"), *after], TensorProto.FLOAT, x_shape, z_type, constants)


def jump_relu(x: str, y: str) -> onnx.NodeProto:
    return NODE("JumpReLU", [x, "jump"], [y], domain="jr_onnx")


def function(name: str, inputs: list, nodes: list) -> onnx.FunctionProto:
    return helper.make_function("jr_onnx", name, inputs, ["Y"], nodes, [helper.make_opsetid("", 16)])


BODY = function(
    "JumpReLU",
    ["X", "jump"],
    [
        NODE("LessOrEqual", ["X", "jump"], ["mask"]),
        NODE("Sub", ["jump", "jump"], ["zero"]),
        NODE("Where", ["mask", "zero", "X"], ["Y"]),
    ],
)
# Through int32: LessOrEqual and Where of the small integers come late, and Where of 16 bits not at all.
QUANTIZED_BODY = function(
    "QuantizedJumpReLU",
    ["Q", "threshold", "zero_point"],
    [
        NODE("Cast", ["Q"], ["wide"], to=TensorProto.INT32),
        NODE("Cast", ["threshold"], ["limit"], to=TensorProto.INT32),
        NODE("Cast", ["zero_point"], ["zero"], to=TensorProto.INT32),
        NODE("LessOrEqual", ["wide", "limit"], ["mask"]),
        NODE("Where", ["mask", "zero", "wide"], ["chosen"]),
        NODE("CastLike", ["chosen", "Q"], ["Y"]),
    ],
)


def quantized_model(element_type: int, shape: list, threshold: np.ndarray, zero_point: np.ndarray) -> bytes:
    """Y = QuantizedJumpReLU(X), Z = QuantizedJumpReLU(Y)."""
    nodes = [NODE("QuantizedJumpReLU", [a, "threshold", "zero_point"], [b], domain="jr_onnx") for a, b in ("xy", "yz")]
    constants = {"threshold": threshold, "zero_point": zero_point}
    return assemble(nodes, element_type, shape, element_type, constants)


def assemble(nodes: list, x_type: int, x_shape: list, z_type: int, constants: dict) -> bytes:
    """x -> nodes -> z, with the function bodies of JumpReLU and QuantizedJumpReLU beside them."""
    values = [helper.make_tensor_value_info("x", x_type, x_shape), helper.make_tensor_value_info("z", z_type, None)]
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "probe", values[:1], values[1:], initializers)
    opsets = [helper.make_opsetid(*each) for each in (("", 16), ("ai.onnx.ml", 2), ("jr_onnx", 1))]
    made = helper.make_model(graph, opset_imports=opsets, functions=[BODY, QUANTIZED_BODY])
    made.ir_version = 8
    return made.SerializeToString()


def run(data: bytes, library: str, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    if library:
        options.register_custom_ops_library(library)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def check(library: str) -> None:
    for element_type, dtype in TYPES.items():
        edges = np.array([-np.inf, -1, -0.0, 0, 0.25, JUMP, np.nextafter(dtype(JUMP), dtype(1)), 1, np.inf], dtype)
        bulk = np.random.default_rng(0).standard_normal(200_003).astype(dtype)
        channels = np.linspace(0, 1, 3, dtype=dtype).reshape(3, 1)
        cases = [
            (edges, np.asarray(JUMP, dtype)),
            (bulk, np.asarray(JUMP, dtype)),
            (bulk[: 3 * 40_001].reshape(3, -1), channels),
        ]
        for x, jump in cases:
            expected = np.where(x <= jump, dtype(0), x)
            for with_library in (library, ""):
                z = run(model(element_type, list(x.shape), jump), with_library, x)
                if z.tobytes() != expected.tobytes():
                    sys.exit(f"wrong values in {np.dtype(dtype)}, library {with_library or 'none'}")
        if not np.isnan(run(model(element_type, [1], np.asarray(JUMP, dtype)), library, np.array([np.nan], dtype)))[0]:
            sys.exit(f"NaN does not go through in {np.dtype(dtype)}")


def check_quantized(library: str) -> None:
    for element_type, dtype in QUANTIZED_TYPES.items():
        info = np.iinfo(dtype)
        q = np.arange(info.min, info.max + 1).astype(dtype)
        q = np.tile(q, 3 * 200_000 // q.size).reshape(3, -1)
        middle = np.asarray((info.min + info.max) // 2, dtype)
        for zero_point in (np.asarray(info.min, dtype), middle):
            for threshold in (middle, np.array([[info.min], [middle], [info.max]], dtype)):
                expected = np.where(q <= threshold, zero_point, q)
                for with_library in (library, ""):
                    z = run(quantized_model(element_type, list(q.shape), threshold, zero_point), with_library, q)
                    if z.dtype != dtype or z.tobytes() != expected.tobytes():
                        sys.exit(f"wrong values in {np.dtype(dtype)}, library {with_library or 'none'}")


def check_unknown_shapes(library: str) -> None:
    x = np.linspace(-1, 2, 12, dtype=np.float32).reshape(3, 4)
    for shape in UNKNOWN_SHAPES:
        for use in USES:
            data = unknown_shape_model(shape, use)
            got, expected = run(data, library, x), run(data, "", x)
            if got.shape != expected.shape or got.tobytes() != expected.tobytes():
                sys.exit(f"{use} behind a JumpReLU behind {shape} is {got}, and {expected} by the function body")


def main() -> None:
    library, expected = sys.argv[1:]
    onnxruntime.set_default_logger_severity(3)  # else it tells of each constant that a model has and does not use
    if expected == "refuses":
        try:
            onnxruntime.SessionOptions().register_custom_ops_library(library)
        except Exception as error:  # noqa: BLE001 (onnxruntime raises a class of its own, and which one has changed)
            print(f"refused: {error}")
            sys.exit("need onnxruntime 1.17 or newer" not in str(error))
        sys.exit("not refused")
    check(library)
    check_quantized(library)
    check_unknown_shapes(library)
    print(f"{onnxruntime.__version__}: registered, ran, the right bits by kernel and by function body")


if __name__ == "__main__":
    main()
