"""Do JumpReLU and QuantizedJumpReLU run, by kernel, on this machine's execution providers, and give the bits of the
definition?"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from jr_onnx.conversion.graph.names import DOMAIN, OP_TYPE, QUANTIZED_OP_TYPE
from jr_onnx.errors import RuntimeMissingError
from jr_onnx.reference import jump_relu, quantized_jump_relu
from jr_onnx.runtime.execution import onnxruntime, session_options
from jr_onnx.runtime.placements import placement
from jr_onnx.runtime.sessions import CPU, CUDA, session

JUMP = 0.5
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
THRESHOLD, ZERO_POINT = 100, 10
INTEGERS = (onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.UINT16, onnx.TensorProto.INT16)


def self_test() -> dict[str, str]:
    """For each execution provider that there are kernels for: "passed", "FAILED: ..." or "not run: ..."."""
    try:
        ort = onnxruntime()
    except RuntimeMissingError as error:
        return {CPU: f"not run: {error}"}
    return {provider: _test(provider) for provider in (CPU, CUDA) if provider in ort.get_available_providers()}


def _test(provider: str) -> str:
    try:
        faults = [fault for element_type in FLOATS + INTEGERS if (fault := _fault(provider, element_type))]
    except RuntimeMissingError as error:
        return f"not run: {error}"
    return f"FAILED: {'; '.join(faults)}" if faults else "passed"


def _fault(provider: str, element_type: int) -> str | None:
    """What is wrong with one element type, if anything is."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element_type)
    if element_type in FLOATS:
        above = np.nextafter(dtype.type(JUMP), dtype.type(1))
        x = np.array([-np.inf, -1, -0.0, 0, 0.25, JUMP, above, 1, np.inf, np.nan], dtype)
        expected, model = jump_relu(x, JUMP), _model(OP_TYPE, element_type, x.size, {"jump": JUMP})
    else:
        ends = np.iinfo(dtype)
        x = np.array([ends.min, 0, ZERO_POINT, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, ends.max], dtype)
        parameters = {"threshold": THRESHOLD, "zero_point": ZERO_POINT}
        expected = quantized_jump_relu(x, **parameters)
        model = _model(QUANTIZED_OP_TYPE, element_type, x.size, parameters)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "self_test.onnx"
        onnx.save(model, path)
        running = session(path, providers=[provider], session_options=session_options(), profile=True)
        y = running.run(None, {"x": x})[0]
        places = placement(running)
    if [place.provider for place in places] != [provider]:
        return f"{dtype} did not run on {provider}"
    return None if y.tobytes() == expected.tobytes() else f"{dtype} gives {y.tolist()} for {x.tolist()}"


def _model(op_type: str, element_type: int, size: int, parameters: Mapping[str, float]) -> onnx.ModelProto:
    """One node, without a function body: it runs by kernel or not at all."""
    value, tensor = onnx.helper.make_tensor_value_info, onnx.helper.make_tensor
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op_type, ["x", *parameters], ["y"], name="self_test", domain=DOMAIN)],
        "self_test",
        [value("x", element_type, [size])],
        [value("y", element_type, [size])],
        [tensor(name, element_type, [], [number]) for name, number in parameters.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(DOMAIN, 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
