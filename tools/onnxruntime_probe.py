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


def model(element_type: int, shape: list, jump: np.ndarray) -> bytes:
    """Y = JumpReLU(X), Z = JumpReLU(Y), with the function body beside them."""
    body = helper.make_function(
        "jr_onnx",
        "JumpReLU",
        ["X", "jump"],
        ["Y"],
        [
            helper.make_node("LessOrEqual", ["X", "jump"], ["mask"]),
            helper.make_node("Sub", ["jump", "jump"], ["zero"]),
            helper.make_node("Where", ["mask", "zero", "X"], ["Y"]),
        ],
        [helper.make_opsetid("", 16)],
    )
    nodes = [helper.make_node("JumpReLU", [a, "jump"], [b], domain="jr_onnx") for a, b in (("x", "y"), ("y", "z"))]
    values = [helper.make_tensor_value_info(name, element_type, shape) for name in "xz"]
    graph = helper.make_graph(nodes, "probe", values[:1], values[1:], [onnx.numpy_helper.from_array(jump, "jump")])
    opsets = [helper.make_opsetid("", 16), helper.make_opsetid("jr_onnx", 1)]
    made = helper.make_model(graph, opset_imports=opsets, functions=[body])
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


def main() -> None:
    library, expected = sys.argv[1:]
    if expected == "refuses":
        try:
            onnxruntime.SessionOptions().register_custom_ops_library(library)
        except Exception as error:  # noqa: BLE001 (onnxruntime raises a class of its own, and which one has changed)
            print(f"refused: {error}")
            sys.exit("need onnxruntime 1.17 or newer" not in str(error))
        sys.exit("not refused")
    check(library)
    print(f"{onnxruntime.__version__}: registered, ran, the right bits by kernel and by function body")


if __name__ == "__main__":
    main()
