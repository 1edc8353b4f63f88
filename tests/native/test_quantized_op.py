"""jr_onnx::QuantizedJumpReLU in onnxruntime: the bits of the reference for every integer, shape and zero point."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from native_models import FLOAT, INTEGERS, Array, kernel_session, quantized_model
from onnx import helper

from jr_onnx.conversion.element_types import type_name
from jr_onnx.reference import quantized_jump_relu

pytestmark = pytest.mark.usefixtures("library")

DTYPES: dict[int, np.dtype[Any]] = {t: helper.tensor_dtype_to_np_dtype(t) for t in INTEGERS}
each_type = pytest.mark.parametrize("element_type", INTEGERS, ids=type_name)


def all_values(dtype: np.dtype[Any], step: int = 1) -> Array:
    ends = np.iinfo(dtype)
    return np.arange(ends.min, ends.max + 1, step).astype(dtype)


def random_integers(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int = 0) -> Array:
    ends = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(ends.min, ends.max, shape, dtype, endpoint=True)


def assert_equal(got: Array, expected: Array) -> None:
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(got, expected)


@each_type
def test_every_value_with_thresholds_and_zero_points(element_type: int) -> None:
    """All of 8 bits; of 16 bits all values with a spread of thresholds and zero points."""
    dtype = DTYPES[element_type]
    values, others = all_values(dtype), all_values(dtype, 1 if dtype.itemsize == 1 else 3855)
    q, thresholds = np.tile(values, (others.size, 1)), others[:, None]
    model = quantized_model(
        element_type, {"threshold": thresholds, "zero_point": others[:1]}, list(q.shape), inputs=True
    )
    session = kernel_session(model)
    for i in range(others.size):
        zero_point = others[i : i + 1]
        got = session.run(None, {"x": q, "threshold": thresholds, "zero_point": zero_point})[0]
        assert_equal(got, quantized_jump_relu(q, thresholds, zero_point))


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, Array, dict[str, Array]]:
    """A type, Q, and what belongs to it: scalars, or one threshold a channel of any axis, or one zero point as well."""
    element_type = draw(st.sampled_from(INTEGERS))
    dtype = DTYPES[element_type]
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    if shape and draw(st.booleans()):
        shape = (*shape[:-1], draw(st.integers(0, 1500)))
    q = random_integers(dtype, shape, draw(st.integers(0, 99)))
    single = (1,) * draw(st.integers(0, len(shape)))
    each = single
    if shape and draw(st.booleans()):
        axis = draw(st.integers(0, len(shape) - 1))
        leading = draw(st.integers(0, axis))
        each = (*[1] * leading, shape[axis], *[1] * (len(shape) - axis - 1))
    zeros = each if draw(st.booleans()) else single
    return (
        element_type,
        q,
        {"threshold": random_integers(dtype, each, 1), "zero_point": random_integers(dtype, zeros, 2)},
    )


@settings(max_examples=300)
@given(case=cases(), depth=st.sampled_from([1, 3]), threads=st.sampled_from([1, 2]), inputs=st.booleans())
def test_every_shape_in_place_or_not(
    case: tuple[int, Array, dict[str, Array]], depth: int, threads: int, inputs: bool
) -> None:
    element_type, q, parameters = case
    model = quantized_model(element_type, parameters, list(q.shape), depth=depth, inputs=inputs)
    got = kernel_session(model, threads).run(None, {"x": q, **(parameters if inputs else {})})[0]
    assert_equal(got, quantized_jump_relu(q, **parameters))


@each_type
@pytest.mark.parametrize("shape", [(3, 64, 56, 57), (1, 64, 7, 7), (5, 100, 3), (2, 31, 1000)], ids=str)
@pytest.mark.parametrize("threads", [1, 8])
def test_large_tensors_with_one_threshold_a_channel(element_type: int, shape: tuple[int, ...], threads: int) -> None:
    dtype = DTYPES[element_type]
    for axis in (1, len(shape) - 1):
        each = (shape[axis], *[1] * (len(shape) - axis - 1))
        for zeros in ((), each):
            q = random_integers(dtype, shape)
            parameters = {"threshold": random_integers(dtype, each, 1), "zero_point": random_integers(dtype, zeros, 2)}
            model = quantized_model(element_type, parameters, list(shape), depth=2)
            assert_equal(kernel_session(model, threads).run(None, {"x": q})[0], quantized_jump_relu(q, **parameters))


@settings(max_examples=100)
@given(case=cases())
def test_the_function_body_gives_the_same_integers(case: tuple[int, Array, dict[str, Array]]) -> None:
    element_type, q, parameters = case
    model = quantized_model(element_type, parameters, None, body=True)
    assert_equal(kernel_session(model, kernels=False).run(None, {"x": q})[0], quantized_jump_relu(q, **parameters))


@pytest.mark.parametrize(
    ("threshold", "zero_point", "message"),
    [
        ((2,), (), r"threshold of shape \[2\] does not broadcast to Q of shape \[2,3\]"),
        (
            (2, 3),
            (),
            r"threshold of shape \[2,3\] has more than one axis other than 1; give one or one a channel for Q",
        ),
        ((), (4,), r"zero_point of shape \[4\] does not broadcast to Q"),
        ((), (1, 1, 1), r"zero_point of shape \[1,1,1\] has more axes than Q"),
        ((), (3,), "give one zero_point for all of Q, or one for each threshold"),
        ((3,), (2, 1), "give one zero_point for all of Q, or one for each threshold"),
    ],
    ids=str,
)
@pytest.mark.parametrize("inputs", [False, True], ids=["constant", "computed"])
def test_shapes_that_do_not_fit_are_refused_by_name(
    threshold: tuple[int, ...], zero_point: tuple[int, ...], message: str, inputs: bool
) -> None:
    parameters = {"threshold": np.zeros(threshold, np.uint8), "zero_point": np.zeros(zero_point, np.uint8)}
    session = kernel_session(quantized_model(onnx.TensorProto.UINT8, parameters, [2, 3], inputs=inputs))
    with pytest.raises(Exception, match=f"jr_onnx::QuantizedJumpReLU: {message}"):
        session.run(None, {"x": np.zeros((2, 3), np.uint8), **(parameters if inputs else {})})


@pytest.mark.parametrize(
    ("element_type", "threshold", "zero_point"),
    [
        (FLOAT, np.float32, np.float32),
        (onnx.TensorProto.INT32, np.int32, np.int32),
        (onnx.TensorProto.UINT8, np.int8, np.uint8),
        (onnx.TensorProto.UINT8, np.uint8, np.int8),
    ],
    ids=str,
)
def test_other_types_and_mixed_ones_are_refused_when_the_model_is_loaded(
    element_type: int, threshold: type, zero_point: type
) -> None:
    parameters = {"threshold": np.zeros((), threshold), "zero_point": np.zeros((), zero_point)}
    with pytest.raises(Exception, match=r"QuantizedJumpReLU|(?i:type)"):
        kernel_session(quantized_model(element_type, parameters, [3]))


def test_the_shape_is_that_of_q() -> None:
    parameters = {"threshold": np.zeros((), np.uint8), "zero_point": np.zeros((), np.uint8)}
    model = quantized_model(onnx.TensorProto.UINT8, parameters, ["N", 3])
    model.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info("y"))
    output = kernel_session(model).get_outputs()[0]
    assert (output.type, output.shape) == ("tensor(uint8)", ["N", 3])
