"""Models and tensors for servers: every datatype, with the values that are lost most easily."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from support import FLOAT, hardened, make_model, node, relu_model, value

import jr_onnx

Array = npt.NDArray[Any]

DTYPES: dict[str, Any] = {
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "u8": np.uint8,
    "u16": np.uint16,
    "u32": np.uint32,
    "u64": np.uint64,
    "b": np.bool_,
    "s": np.object_,
}


def mixed_model(jump: float) -> onnx.ModelProto:
    """One input and one output a datatype, [N, 4] each: JumpReLU for floating-point types, others as they are."""
    nodes, inputs, outputs = [], [], []
    for name, dtype in DTYPES.items():
        element_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        inputs.append(value(name, element_type, ["N", 4]))
        outputs.append(value(f"{name}_out", element_type, ["N", 4]))
        nodes.append(node("Relu" if name.startswith("f") else "Identity", name, f"{name}_out"))
    return hardened(make_model(nodes, inputs, outputs), jump)


def mixed_feeds(rows: int, seed: int) -> dict[str, Array]:
    """Random tensors for it, with edge values among them."""
    random = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for name, dtype in DTYPES.items():
        kind = np.dtype(dtype).kind
        if kind == "f":
            array = random.standard_normal((rows, 4)).astype(dtype)
            array[0] = [np.nan, np.inf, -np.inf, -0.0]
            array[-1, 0] = np.finfo(dtype).smallest_subnormal
        elif kind in "iu":
            limits = np.iinfo(dtype)
            array = random.integers(limits.min, limits.max, (rows, 4), dtype, endpoint=True)
            array[0, :2] = limits.min, limits.max
        elif kind == "b":
            array = random.integers(0, 2, (rows, 4)).astype(bool)
        else:
            array = np.array([[f"{seed} ünï {row} {column}" for column in range(4)] for row in range(rows)], object)
        feeds[name] = array
    return feeds


def row_model(jump: float) -> onnx.ModelProto:
    """x [N, 3] -> JumpReLU -> y: what comes of a row does not depend on the rows beside it."""
    return hardened(relu_model(FLOAT, ["N", 3]), jump)


def model_with_code_as_data(folder: Path) -> Path:
    """x [N, 1] -> JumpReLU -> y, plus numbers from files with names that a server runs or reads."""
    names = {"kserve.py": b"raise SystemExit('run')", "jr_onnx/__init__.py": b"raise SystemExit('run')"}
    names |= {"mlserver.py": b"raise SystemExit('run')", "sub/model-settings.json": b'{"name": "another"}'}
    nodes = [node("Relu", "x", "h"), node("Sum", " ".join(["h", *(f"t{i}" for i in range(len(names)))]), "y")]
    model = make_model(nodes, [value("x", FLOAT, ["N", 1])], [value("y", FLOAT, ["N", 1])])
    for number, (name, data) in enumerate(names.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        tensor = model.graph.initializer.add(name=f"t{number}", data_type=FLOAT, dims=[1], raw_data=b"")
        onnx.external_data_helper.set_external_data(tensor, name, 0, 4)
        tensor.ClearField("raw_data")
    onnx.save(hardened(model), folder / "net.onnx")
    return folder / "net.onnx"


def local(model: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    """What a session in this process gives."""
    session = jr_onnx.session(model, providers=["CPUExecutionProvider"])
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, feeds), strict=True))


#: Requests to the digits model: the tensors, the outputs asked for, and what the refusal says.
BAD_REQUESTS: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "a name": ({"picture": np.zeros((1, 1, 8, 8), np.float32)}, (), "there is no input 'picture'"),
    "nothing that is needed": ({"jump": np.zeros((), np.float32)}, (), "input 'image' is missing"),
    "a datatype": ({"image": np.zeros((1, 1, 8, 8), np.float64)}, (), "input 'image' is FP64"),
    "a rank": ({"image": np.zeros((1, 8, 8), np.float32)}, (), "has the shape [1, 8, 8]"),
    "a size": ({"image": np.zeros((1, 1, 8, 9), np.float32)}, (), "has the shape [1, 1, 8, 9]"),
    "a jump for each row": (
        {"image": np.zeros((2, 1, 8, 8), np.float32), "jump": np.zeros(2, np.float32)},
        (),
        "input 'jump' has the shape [2]",
    ),
    "a lower jump": (
        {"image": np.zeros((1, 1, 8, 8), np.float32), "jump": np.asarray(0.4, np.float32)},
        (),
        "input 'jump' is lower than 0.5",
    ),
    "text": ({"image": np.full((1, 1, 8, 8), "x", object)}, (), "input 'image' is BYTES"),
    "an output": ({"image": np.zeros((1, 1, 8, 8), np.float32)}, ("probabilities",), "there is no output 'proba"),
}
