"""What only the fake CUDA runtime can show: every launch and copy, and drivers and GPUs that cannot run the kernels.

`test_cuda_without_gpu.py` starts these.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import jr_onnx
from jr_onnx import runtime
from jr_onnx.conversion.element_types import BFLOAT16, DOUBLE, FLOAT, FLOAT16
from jr_onnx.conversion.forms.quantized import quantized_function_proto
from jr_onnx.reference import jump_relu
from jr_onnx.runtime.library import cuda_problem
from jr_onnx.runtime.selftest import self_test

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models"))
import architectures
from native_models import Array, assert_same_bits, jump_model, quantized_model, random_values

fake: Any = None
with contextlib.suppress(OSError):
    fake = ctypes.CDLL("libcudart.so.13")
if not hasattr(fake, "fake_cuda_events"):
    pytest.skip("not on the fake CUDA runtime: test_cuda_without_gpu.py starts this", allow_module_level=True)
fake.fake_cuda_events.restype = ctypes.c_char_p

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
JUMP = np.asarray(0.5, np.float32)
NO_IMAGE = 209


def events() -> list[str]:
    """What happened since the last call: "copy", "graph", "cudnn", "kernel NAME", "jump_relu device 0"."""
    found: bytes = fake.fake_cuda_events()
    return found.decode().splitlines()


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    events()
    yield
    for name, value in (("driver", 13000), ("launch_error", 0), ("image_error", 0)):
        fake.fake_cuda_set(name.encode(), value)


def session_and_graph(
    model: onnx.ModelProto, folder: Path, **more: Any
) -> tuple[onnxruntime.InferenceSession, list[str]]:
    """A session on CUDA alone unless `more` says otherwise, and the op_types of what onnxruntime made of the model."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnx.save(model, folder / "model.onnx")
    made = jr_onnx.session(folder / "model.onnx", session_options=options, **{"providers": [CUDA], **more})
    graph = onnx.load(folder / "optimised.onnx", load_external_data=False).graph
    return made, [node.op_type for node in graph.node]


def test_each_node_is_one_launch_and_nothing_is_copied_between(tmp_path: Path) -> None:
    session, ops = session_and_graph(jump_model(FLOAT, JUMP, [3, 1000], depth=4), tmp_path)
    assert ops == ["JumpReLU"] * 4
    x = random_values(FLOAT, (3, 1000))
    events()
    assert_same_bits(session.run(None, {"x": x})[0], jump_relu(x, JUMP))
    assert Counter(events()) == {"copy": 2, "jump_relu device 0": 4}  # x to the device, y from it


def test_a_cuda_graph_is_captured_once_and_replayed_with_new_values(tmp_path: Path) -> None:
    model = jump_model(FLOAT, JUMP, [3, 1000], depth=2)
    session, _ = session_and_graph(model, tmp_path, providers=[(CUDA, {"enable_cuda_graph": "1"})])
    x = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((3, 1000), np.float32), "cuda", 0)
    y = onnxruntime.OrtValue.ortvalue_from_shape_and_type([3, 1000], np.float32, "cuda", 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)
    seen: Counter[str] = Counter()
    for seed in range(6):
        values = random_values(FLOAT, (3, 1000), seed)
        x.update_inplace(values)
        session.run_with_iobinding(binding)
        assert_same_bits(y.numpy(), jump_relu(values, JUMP))
        now = Counter(events())
        seen += now
    assert now["graph"] == 1 and not now["jump_relu device 0"]  # the last run only replayed
    assert seen["jump_relu device 0 captured"] == 2


@pytest.mark.parametrize("error", [35, 209, 700, 719])
def test_a_launch_that_fails_is_an_error_with_its_number_and_no_crash(error: int, tmp_path: Path) -> None:
    session, _ = session_and_graph(jump_model(FLOAT, JUMP, [8]), tmp_path)
    feeds = {"x": np.ones(8, np.float32)}
    fake.fake_cuda_set(b"launch_error", error)
    with pytest.raises(Exception, match=f"jr_onnx::JumpReLU: CUDA error {error}: "):
        session.run(None, feeds)
    fake.fake_cuda_set(b"launch_error", 0)
    assert_same_bits(session.run(None, feeds)[0], np.ones(8, np.float32))


BODY = ["LessOrEqual", "Sub", "Where"]


def test_with_a_driver_too_old_cuda_runs_the_function_and_session_says_why(tmp_path: Path) -> None:
    fake.fake_cuda_set(b"driver", 12040)
    model = jump_model(FLOAT, JUMP, [8], body=True)
    with pytest.warns(UserWarning, match=r"function in the model.*driver runs CUDA up to 12.4.*built with 13.0"):
        _, ops = session_and_graph(model, tmp_path)
    assert set(ops) <= set(BODY)
    _, ops = session_and_graph(model, tmp_path, providers=[CPU])
    assert ops == ["JumpReLU"]  # which is no concern of the CPU's kernels
    assert self_test() == {CPU: "passed", CUDA: f"not run: {cuda_problem()}"}


def test_a_program_that_registers_the_library_gets_the_function_on_cuda_too(tmp_path: Path) -> None:
    fake.fake_cuda_set(b"driver", 12040)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    runtime.register(options)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    model = jump_model(FLOAT, JUMP, [8], body=True).SerializeToString()
    onnxruntime.InferenceSession(model, options, providers=[CUDA])
    assert {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node} <= set(BODY)


def test_a_driver_of_the_same_major_version_is_good_enough(tmp_path: Path) -> None:
    fake.fake_cuda_set(b"driver", 13020)
    assert cuda_problem() == ""
    assert session_and_graph(jump_model(FLOAT, JUMP, [8]), tmp_path)[1] == ["JumpReLU"]


def test_on_a_gpu_that_the_library_has_no_code_for_cuda_runs_the_function(tmp_path: Path) -> None:
    fake.fake_cuda_set(b"image_error", NO_IMAGE)
    with pytest.warns(UserWarning, match=r"this GPU cannot run the CUDA kernels \(CUDA error 209: no kernel image"):
        _, ops = session_and_graph(jump_model(FLOAT, JUMP, [8], body=True), tmp_path)
    assert set(ops) <= set(BODY)
    options = onnxruntime.SessionOptions()
    runtime.register(options)
    model = jump_model(FLOAT, JUMP, [8]).SerializeToString()
    with pytest.raises(Exception, match="jr_onnx::JumpReLU: this GPU cannot run the CUDA kernels"):
        onnxruntime.InferenceSession(model, options, providers=[CUDA])


def relu_model(element_type: int, opset: int) -> onnx.ModelProto:
    x, y = (onnx.helper.make_tensor_value_info(name, element_type, [8]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


def runs_on_cuda_alone(path: Path) -> bool:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        jr_onnx.session(path, providers=[CUDA], session_options=options, kernels=False)
    except Exception:  # noqa: BLE001 (onnxruntime's have no common class)
        return False
    return True


@pytest.mark.parametrize("options", [{}, {"inline": True}], ids=["function", "inline"])
@pytest.mark.parametrize(
    ("element_type", "opset"),
    [(one, opset) for one in (FLOAT, FLOAT16, DOUBLE) for opset in (7, 9, 12, 16, 22, 23)]
    + [(BFLOAT16, opset) for opset in (16, 18, 23)],  # before, Where takes no bfloat16, and there is no Greater for it
)
def test_without_the_kernels_cuda_runs_the_function_of_every_element_type(
    element_type: int, opset: int, options: dict[str, bool], tmp_path: Path
) -> None:
    onnx.save(relu_model(element_type, opset), tmp_path / "relu.onnx")
    jr_onnx.convert(tmp_path / "relu.onnx", jump=0.5, output=tmp_path / "hard.onnx", **options)
    assert runs_on_cuda_alone(tmp_path / "hard.onnx")


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])  # onnxruntime's CUDA provider dequantizes no 16-bit integers
def test_without_the_kernels_cuda_runs_the_function_of_8_bit_integers(dtype: Any, tmp_path: Path) -> None:
    parameters: dict[str, Array] = {"threshold": np.array(5, dtype), "zero_point": np.array(0, dtype)}
    model = quantized_model(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), parameters, [8])
    model.functions.append(quantized_function_proto(17, ""))
    onnx.save(model, tmp_path / "quantized.onnx")
    assert runs_on_cuda_alone(tmp_path / "quantized.onnx")


@pytest.mark.parametrize(("opset", "runs"), [(10, True), (21, True), (22, False), (23, False)])
def test_from_opset_22_on_cuda_has_no_thresholded_relu(opset: int, runs: bool, tmp_path: Path) -> None:
    onnx.save(relu_model(FLOAT, opset), tmp_path / "relu.onnx")
    jr_onnx.convert(tmp_path / "relu.onnx", jump=0.5, output=tmp_path / "hard.onnx", target="standard")
    assert runs_on_cuda_alone(tmp_path / "hard.onnx") == runs


def small_resnet50(path: Path, dtype: int) -> Path:
    model = architectures.resnet50()
    if dtype == FLOAT16:
        for weight in model.graph.initializer:
            values = onnx.numpy_helper.to_array(weight)
            if values.dtype == np.float32:
                weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), weight.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = dtype
    del model.graph.value_info[:]
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 32
    onnx.save(model, path)
    return path


#: Launches of ResNet-50 beside its 53 convolutions, in each form; docs/gpu.md has the table.
LAUNCHES = {"original": 65, "custom op": 65, "optimised": 49, "function body": 114, "ThresholdedRelu": 65}


@pytest.mark.parametrize("dtype", [FLOAT, FLOAT16])
def test_the_optimised_form_of_resnet50_has_the_fewest_launches(dtype: int, tmp_path: Path) -> None:
    original = small_resnet50(tmp_path / "original.onnx", dtype)
    custom, fast, standard = (tmp_path / f"{name}.onnx" for name in ("custom", "fast", "standard"))
    jr_onnx.convert(original, jump=0.05, output=custom)
    jr_onnx.convert(original, jump=0.05, output=standard, target="standard")
    jr_onnx.optimize(custom, output=fast, provider="cuda")
    forms = {
        "original": (original, True),
        "custom op": (custom, True),
        "optimised": (fast, True),
        "function body": (custom, False),
        "ThresholdedRelu": (standard, True),
    }
    launches = {}
    for name, (path, kernels) in forms.items():
        session = jr_onnx.session(path, providers=[CUDA], kernels=kernels)
        x: Array = np.zeros((1, 3, 32, 32), np.float32 if dtype == FLOAT else np.float16)
        feeds = {session.get_inputs()[0].name: x}
        session.run(None, feeds)
        events()
        session.run(None, feeds)
        seen = Counter(event.partition(" ")[0] for event in events())
        assert seen["cudnn"] == 53
        launches[name] = seen["kernel"] + seen["jump_relu"]
    unfolded = dtype == FLOAT16  # jump - jump, once: onnxruntime has no Sub of float16 on the CPU to fold it with
    assert launches == {**LAUNCHES, "function body": LAUNCHES["function body"] + unfolded}
