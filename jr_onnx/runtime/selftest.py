"""Does JumpReLU run, by kernel, on this machine's execution providers, and give the bits of the definition?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx

from jr_onnx.conversion.element_types import NUMPY_TYPES
from jr_onnx.errors import RuntimeMissingError
from jr_onnx.reference import jump_relu
from jr_onnx.runtime.execution import onnxruntime, session_options
from jr_onnx.runtime.library import cuda_problem
from jr_onnx.runtime.placements import placement
from jr_onnx.runtime.sessions import CPU, CUDA, session

JUMP = 0.5
TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


def self_test() -> dict[str, str]:
    """For each execution provider that there are kernels for: "passed", "FAILED: ..." or "not run: ..."."""
    try:
        ort = onnxruntime()
    except RuntimeMissingError as error:
        return {CPU: f"not run: {error}"}
    return {provider: _test(provider) for provider in (CPU, CUDA) if provider in ort.get_available_providers()}


def _test(provider: str) -> str:
    try:
        if provider == CUDA and (problem := cuda_problem()):
            return f"not run: {problem}"
        faults = [fault for element_type in TYPES if (fault := _fault(provider, element_type))]
    except RuntimeMissingError as error:
        return f"not run: {error}"
    return f"FAILED: {'; '.join(faults)}" if faults else "passed"


def _fault(provider: str, element_type: int) -> str | None:
    """What is wrong with one element type, if anything is."""
    dtype = NUMPY_TYPES[element_type]
    above = np.nextafter(dtype.type(JUMP), dtype.type(1))
    x = np.array([-np.inf, -1, -0.0, 0, 0.25, JUMP, above, 1, np.inf, np.nan], dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "self_test.onnx"
        onnx.save(_model(element_type, x.size), path)
        running = session(path, providers=[provider], session_options=session_options(), profile=True)
        y = running.run(None, {"x": x})[0]
        places = placement(running)
    if [place.provider for place in places] != [provider]:
        return f"{dtype} did not run on {provider}"
    expected = jump_relu(x, JUMP)
    same = np.array_equal(y, expected, equal_nan=True) and np.array_equal(np.signbit(y[:-1]), np.signbit(expected[:-1]))
    return None if same else f"{dtype} gives {y.tolist()} for {x.tolist()}"


def _model(element_type: int, size: int) -> onnx.ModelProto:
    """One JumpReLU, without a function body: it runs by kernel or not at all."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("JumpReLU", ["x", "jump"], ["y"], name="self_test", domain="jr_onnx")],
        "self_test",
        [value("x", element_type, [size])],
        [value("y", element_type, [size])],
        [onnx.helper.make_tensor("jump", element_type, [], [JUMP])],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("jr_onnx", 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
