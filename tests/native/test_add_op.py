"""jr_onnx::AddJumpReLU: the bits of Add, then of JumpReLU, in one pass."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from native_models import add_model, assert_same_bits, kernel_session, random_values
from onnx import helper

from jr_onnx.conversion.element_types import DOUBLE, FLOAT, NUMPY_TYPES, type_name
from jr_onnx.reference import jump_relu

pytestmark = pytest.mark.usefixtures("library")

each_type = pytest.mark.parametrize("element_type", [FLOAT, DOUBLE], ids=type_name)


def sums(element_type: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    return random_values(element_type, shape, 1), random_values(element_type, shape, 2)


@each_type
@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 100, 1000, 100_003])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_it_gives_the_bits_of_both_for_any_length_and_in_place(element_type: int, count: int, threads: int) -> None:
    a, b = sums(element_type, (count,))
    jump = np.asarray(0.5, NUMPY_TYPES[element_type])
    expected = a
    for _ in range(3):
        expected = jump_relu(expected + b, jump)
    got = kernel_session(add_model(element_type, jump, depth=3), threads).run(None, {"a": a, "b": b})[0]
    assert_same_bits(got, expected)


@each_type
@pytest.mark.parametrize("shape", [(2, 5, 9, 9), (3, 5), (2, 5, 1, 3), (1, 5, 64, 64)], ids=str)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_one_jump_a_channel(element_type: int, shape: tuple[int, ...]) -> None:
    a, b = sums(element_type, shape)
    jump = np.linspace(0, 1, 5).astype(NUMPY_TYPES[element_type]).reshape(5, *[1] * (len(shape) - 2))
    expected = jump_relu(jump_relu(a + b, jump) + b, jump)
    model = add_model(element_type, jump, depth=2)
    assert_same_bits(kernel_session(model).run(None, {"a": a, "b": b})[0], expected)


@each_type
def test_the_function_body_gives_the_same_bits(element_type: int) -> None:
    a, b = sums(element_type, (2, 5, 9, 9))
    model = add_model(element_type, np.asarray(0.5, NUMPY_TYPES[element_type]), body=True)
    by_kernel, by_body = (
        kernel_session(model, kernels=kernels).run(None, {"a": a, "b": b})[0] for kernels in (True, False)
    )
    assert_same_bits(by_kernel, by_body)


def test_two_shapes_are_refused_in_words() -> None:
    session = kernel_session(add_model(FLOAT, np.float32(0.5)))
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match="AddJumpReLU: A and B"):
        session.run(None, {"a": np.zeros((2, 3), np.float32), "b": np.zeros((1, 3), np.float32)})


def test_a_jump_that_does_not_fit_is_refused_by_the_name_of_this_op() -> None:
    session = kernel_session(add_model(FLOAT, np.zeros(2, np.float32)))
    with pytest.raises(Exception, match=r"jr_onnx::AddJumpReLU: jump of shape \[2\] does not broadcast"):
        session.run(None, {"a": np.zeros((2, 3), np.float32), "b": np.zeros((2, 3), np.float32)})


def test_the_shape_is_that_of_a() -> None:
    model = add_model(FLOAT, np.float32(0.5))
    for value in model.graph.input:
        value.CopyFrom(helper.make_tensor_value_info(value.name, FLOAT, ["N", 3]))
    assert kernel_session(model).get_outputs()[0].shape == ["N", 3]
