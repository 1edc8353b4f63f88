"""The op in onnxruntime: what it infers, refuses, shares, and leaves to the function body."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from native_models import (
    CPU,
    FED_TYPES,
    assert_same_bits,
    jump_model,
    kernel_session,
    random_values,
    run,
)
from onnx import helper

from jr_onnx import runtime
from jr_onnx.conversion.element_types import FLOAT, NUMPY_TYPES, type_name
from jr_onnx.reference import jump_relu

pytestmark = pytest.mark.usefixtures("library")


@pytest.mark.parametrize("element_type", FED_TYPES, ids=type_name)
@pytest.mark.parametrize("jump_shape", [(), (5, 1, 1)], ids=str)
def test_the_kernel_and_the_function_body_give_the_same_bits(element_type: int, jump_shape: tuple[int, ...]) -> None:
    x = random_values(element_type, (2, 5, 9, 9))
    model = jump_model(element_type, np.full(jump_shape, 0.5, NUMPY_TYPES[element_type]), ["n", 5, 9, 9], body=True)
    by_kernel, by_body = (kernel_session(model, kernels=kernels).run(None, {"x": x})[0] for kernels in (True, False))
    assert_same_bits(by_kernel, by_body)


@pytest.mark.parametrize(
    ("shape", "jump_shape", "message"),
    [
        ((2, 3), (2,), r"jump of shape \[2\] does not broadcast to X of shape \[2,3\]"),
        ((2, 3), (4, 1), r"jump of shape \[4,1\] does not broadcast"),
        ((2, 3), (0,), r"jump of shape \[0\] does not broadcast"),
        ((2, 1), (3,), r"jump of shape \[3\] does not broadcast"),
        ((2, 3, 4), (3, 4), r"has more than one axis other than 1; give one or one a channel"),
        ((2, 3), (2, 3), r"has more than one axis other than 1"),
        ((3,), (1, 3), r"jump of shape \[1,3\] has more axes than X of shape \[3\]"),
        ((), (1,), r"has more axes than"),
    ],
    ids=str,
)
@pytest.mark.parametrize("jump_is_input", [False, True], ids=["constant", "computed"])
def test_a_jump_that_does_not_fit_is_refused_by_name(
    shape: tuple[int, ...], jump_shape: tuple[int, ...], message: str, jump_is_input: bool
) -> None:
    jump, x = np.zeros(jump_shape, np.float32), np.zeros(shape, np.float32)
    session = kernel_session(jump_model(FLOAT, jump, list(shape), jump_is_input=jump_is_input))
    feed = {"x": x, "jump": jump} if jump_is_input else {"x": x}
    with pytest.raises(Exception, match=rf"jr_onnx::JumpReLU: .*{message}"):
        session.run(None, feed)


@pytest.mark.parametrize("element_type", [onnx.TensorProto.INT32, onnx.TensorProto.UINT8])
def test_integers_are_refused_when_the_model_is_loaded(element_type: int) -> None:
    jump = np.zeros((), helper.tensor_dtype_to_np_dtype(element_type))
    with pytest.raises(Exception, match="JumpReLU"):
        kernel_session(jump_model(element_type, jump, [3]))


def test_x_and_the_jump_must_have_one_type() -> None:
    model = jump_model(FLOAT, np.zeros((), np.float64), [3])
    with pytest.raises(Exception, match=r"(?i)jump|type"):
        kernel_session(model)


@pytest.mark.parametrize("shape", [[2, 3, 8, 8], ["batch", 3, "h", 8]], ids=str)
def test_nodes_behind_the_op_see_its_type_and_shape(shape: list[int | str]) -> None:
    model = jump_model(FLOAT, np.zeros((), np.float32), shape)
    # An output without type or shape: what the session tells of it is what the op inferred.
    model.graph.node.append(helper.make_node("Identity", ["y"], ["z"]))
    model.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info("z"))
    output = kernel_session(model).get_outputs()[0]
    assert output.type == "tensor(float)"
    assert output.shape == shape


def test_x_of_unknown_rank_is_no_obstacle() -> None:
    x = random_values(FLOAT, (2, 3, 4))
    jump = np.full((3, 1), 0.5, np.float32)
    assert_same_bits(run(jump_model(FLOAT, jump, None), x), jump_relu(x, jump))


def test_one_session_takes_shapes_that_change_from_run_to_run() -> None:
    session = kernel_session(jump_model(FLOAT, np.full((3, 1), 0.5, np.float32), ["a", 3, "b"]))
    for shape in ((1, 3, 4), (5, 3, 1000), (2, 3, 1), (0, 3, 7), (9, 3, 33)):
        x = random_values(FLOAT, shape)
        assert_same_bits(session.run(None, {"x": x})[0], jump_relu(x, np.full((3, 1), 0.5, np.float32)))


def test_the_op_runs_inside_the_branches_of_an_if() -> None:
    value = helper.make_tensor_value_info
    branches = {
        name: helper.make_graph(
            [helper.make_node("JumpReLU", ["x", jump], [name], domain="jr_onnx")], name, [], [value(name, FLOAT, ["n"])]
        )
        for name, jump in (("then_branch", "low"), ("else_branch", "high"))
    }
    graph = helper.make_graph(
        [helper.make_node("If", ["which"], ["y"], **branches)],
        "choose",
        [value("x", FLOAT, ["n"]), value("which", onnx.TensorProto.BOOL, [])],
        [value("y", FLOAT, ["n"])],
        [helper.make_tensor("low", FLOAT, [], [0.1]), helper.make_tensor("high", FLOAT, [], [0.9])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("jr_onnx", 1)]
    session = kernel_session(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    x = random_values(FLOAT, (1000,))
    for which, jump in ((True, 0.1), (False, 0.9)):
        y = session.run(None, {"x": x, "which": np.asarray(which)})[0]
        assert_same_bits(y, jump_relu(x, np.float32(jump)))


def test_the_input_of_a_session_is_never_overwritten() -> None:
    x = random_values(FLOAT, (100_000,))
    before = x.copy()
    run(jump_model(FLOAT, np.asarray(0.5, np.float32), [100_000], depth=3), x)
    assert_same_bits(x, before)


PEAK = """
import re, sys
from pathlib import Path
import numpy as np, onnxruntime
from jr_onnx import runtime

def peak():  # not ru_maxrss, which begins with that of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))

options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
runtime.register(options)
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
x = np.ones((16 << 20,), np.float32)
before = peak()
session.run(None, {"x": x})
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_chain_runs_in_place(tmp_path: Path) -> None:
    """Two tensors for four nodes of 64 MiB: one that the first three write, and the output, which onnxruntime gives
    out and so never shares. (Versions before 1.19 do not ask whether a custom op may run in place: three.)"""
    path = tmp_path / "chain.onnx"
    onnx.save(jump_model(FLOAT, np.asarray(0.5, np.float32), [16 << 20], depth=4), path)
    command = [sys.executable, "-c", PEAK, path]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    peak = int(ran.stdout)
    version = tuple(int(part) for part in re.findall(r"\d+", onnxruntime.__version__)[:2])
    tensors = 3 if version < (1, 19) else 2
    assert (tensors - 0.5) * (64 << 10) < peak < (tensors + 0.5) * (64 << 10)


def test_eight_threads_run_one_session() -> None:
    jump = np.full((7, 1), 0.5, np.float32)
    session = kernel_session(jump_model(FLOAT, jump, ["n", 7, "m"], depth=2), threads=2)

    def repeat(seed: int) -> None:
        for step in range(20):
            x = random_values(FLOAT, (1 + step % 3, 7, 1 + 997 * step), seed)
            assert_same_bits(session.run(None, {"x": x})[0], jump_relu(x, jump))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(repeat, range(8)))


def test_eight_sessions_are_registered_and_run_at_once() -> None:
    together = threading.Barrier(8)
    model = jump_model(FLOAT, np.asarray(0.5, np.float32), ["n"])

    def make_and_run(seed: int) -> None:
        x = random_values(FLOAT, (50_000,), seed)
        for _ in range(5):
            together.wait(60)
            assert_same_bits(kernel_session(model, threads=2).run(None, {"x": x})[0], jump_relu(x, np.float32(0.5)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make_and_run, range(8)))


def test_the_library_can_be_let_go_and_registered_again() -> None:
    x = random_values(FLOAT, (100,))
    model = jump_model(FLOAT, np.asarray(0.5, np.float32), [100])
    for _ in range(20):
        assert_same_bits(run(model, x), jump_relu(x, np.float32(0.5)))


def test_options_that_have_the_library_may_be_used_for_several_sessions() -> None:
    options = onnxruntime.SessionOptions()
    model = jump_model(FLOAT, np.asarray(0.5, np.float32), [100]).SerializeToString()
    x = random_values(FLOAT, (100,))
    for _ in range(2):
        runtime.register(options)
        session = onnxruntime.InferenceSession(model, options, providers=CPU)
        assert_same_bits(session.run(None, {"x": x})[0], jump_relu(x, np.float32(0.5)))
