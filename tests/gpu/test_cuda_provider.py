"""The library under onnxruntime's CUDA provider, which may not fall back to the CPU."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

with contextlib.suppress(ImportError):
    import torch  # noqa: F401 (before onnxruntime: it brings the CUDA libraries that the provider needs)
import onnxruntime

from jr_onnx import runtime
from jr_onnx.conversion.element_types import DOUBLE, FLOAT, FLOAT16, NUMPY_TYPES, type_name
from jr_onnx.errors import RuntimeMissingError
from jr_onnx.reference import jump_relu, quantized_jump_relu

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))
from native_models import (
    FED_TYPES,
    INTEGERS,
    add_model,
    assert_same_bits,
    bfloat16_model,
    edge_values,
    jump_model,
    quantized_model,
    random_values,
)

CUDA = "CUDAExecutionProvider"


def _why_not() -> str | None:
    if CUDA not in onnxruntime.get_available_providers():
        return "this onnxruntime has no CUDA provider"
    try:
        if not runtime.build_info().cuda:
            return "the kernel library was built without CUDA"
    except RuntimeMissingError as error:
        return str(error)
    probe = onnxruntime.InferenceSession(
        jump_model(FLOAT, np.zeros((), np.float32), [1], body=True).SerializeToString(), providers=[CUDA]
    )
    return None if CUDA in probe.get_providers() else "the CUDA provider does not start here (no GPU, or no driver)"


if reason := _why_not():
    pytest.skip(reason, allow_module_level=True)

fed_types = pytest.mark.parametrize("element_type", FED_TYPES, ids=type_name)


def cuda_session(model: onnx.ModelProto, folder: Path, **provider_options: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    path = folder / "model.onnx"
    onnx.save(model, path)
    providers = [(CUDA, provider_options)]
    return runtime.session(path, providers=providers, session_options=options, profile=not provider_options)


def assert_ran_on_cuda(session: onnxruntime.InferenceSession, nodes: int) -> None:
    placed = runtime.placement(session)
    assert [(place.provider, place.copies) for place in placed] == [(CUDA, ())] * nodes


@fed_types
@pytest.mark.parametrize("jump", [0.0, 0.05, 0.5, 65504.0, -1.0, np.inf, np.nan])
def test_edge_values_give_the_bits_of_the_reference(element_type: int, jump: float, tmp_path: Path) -> None:
    limit = np.asarray(jump, NUMPY_TYPES[element_type])
    x = np.concatenate([edge_values(element_type, jump), random_values(element_type, (10_000,))])
    session = cuda_session(jump_model(element_type, limit, ["n"], depth=2), tmp_path)
    assert_same_bits(session.run(None, {"x": x})[0], jump_relu(x, limit))
    assert_ran_on_cuda(session, 2)


def test_every_bfloat16_pattern_gives_the_bits_of_the_reference(tmp_path: Path) -> None:
    dtype = NUMPY_TYPES[onnx.TensorProto.BFLOAT16]
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    limit = np.asarray(0.5).astype(dtype)
    session = cuda_session(bfloat16_model(limit), tmp_path)
    assert_same_bits(session.run(None, {"x": x.astype(np.float32)})[0], jump_relu(x, limit).astype(np.float32))
    assert_ran_on_cuda(session, 1)


@fed_types
@pytest.mark.parametrize("jump_shape", [(), (5, 1, 1)], ids=str)
@pytest.mark.parametrize("jump_is_input", [False, True], ids=["constant", "computed"])
def test_shapes_and_sizes_give_the_bits_of_the_reference(
    element_type: int, jump_shape: tuple[int, ...], jump_is_input: bool, tmp_path: Path
) -> None:
    limits = np.full(jump_shape, 0.5, NUMPY_TYPES[element_type])
    model = jump_model(element_type, limits, ["n", 5, "h", "w"], depth=3, jump_is_input=jump_is_input)
    session = cuda_session(model, tmp_path)
    for shape in ((1, 5, 1, 1), (2, 5, 7, 7), (0, 5, 3, 3), (3, 5, 224, 224), (1, 5, 3, 5)):
        x = random_values(element_type, shape)
        feed = {"x": x, "jump": limits} if jump_is_input else {"x": x}
        assert_same_bits(session.run(None, feed)[0], jump_relu(x, limits))
    assert_ran_on_cuda(session, 3)


def test_a_jump_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    session = cuda_session(jump_model(FLOAT, np.zeros((4,), np.float32), [2, 3]), tmp_path)
    with pytest.raises(Exception, match="does not broadcast"):
        session.run(None, {"x": np.zeros((2, 3), np.float32)})


def test_onnxruntime_captures_the_op_in_a_cuda_graph(tmp_path: Path) -> None:
    model = jump_model(FLOAT, np.asarray(0.5, np.float32), [3, 1000], depth=2)
    session = cuda_session(model, tmp_path, enable_cuda_graph="1")
    x = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((3, 1000), np.float32), "cuda", 0)
    y = onnxruntime.OrtValue.ortvalue_from_shape_and_type([3, 1000], np.float32, "cuda", 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)
    for seed in range(4):
        values = random_values(FLOAT, (3, 1000), seed)
        x.update_inplace(values)
        session.run_with_iobinding(binding)
        assert_same_bits(y.numpy(), jump_relu(values, np.float32(0.5)))


@pytest.mark.parametrize("element_type", [FLOAT, FLOAT16, DOUBLE], ids=type_name)
@pytest.mark.parametrize("shape", [(2, 5, 7, 7), (3, 5, 224, 224), (1, 5, 3, 5)], ids=str)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_sum_and_its_jump_relu_in_one_node(element_type: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    a, b = random_values(element_type, shape, 1), random_values(element_type, shape, 2)
    limit = np.asarray(0.5, NUMPY_TYPES[element_type])
    session = cuda_session(add_model(element_type, limit), tmp_path)
    assert_same_bits(session.run(None, {"a": a, "b": b})[0], jump_relu(a + b, limit))
    assert_ran_on_cuda(session, 1)


@pytest.mark.parametrize("element_type", INTEGERS, ids=type_name)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("inputs", [False, True], ids=["constant", "computed"])
def test_quantized_values(element_type: int, per_channel: bool, inputs: bool, tmp_path: Path) -> None:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element_type)
    ends = np.iinfo(dtype)
    q = np.arange(ends.min, ends.max + 1).astype(dtype).reshape(2, -1, 16, 1)
    threshold = np.linspace(ends.min, ends.max, q.shape[1]).astype(dtype).reshape(-1, 1, 1)
    parameters = {"threshold": threshold if per_channel else threshold[0], "zero_point": np.asarray(7, dtype)}
    session = cuda_session(quantized_model(element_type, parameters, list(q.shape), depth=2, inputs=inputs), tmp_path)
    got = session.run(None, {"x": q, **(parameters if inputs else {})})[0]
    np.testing.assert_array_equal(got, quantized_jump_relu(q, **parameters))
    assert_ran_on_cuda(session, 2)


def test_the_self_test_passes_on_cuda() -> None:
    from jr_onnx.runtime.selftest import self_test

    assert self_test()[CUDA] == "passed"
