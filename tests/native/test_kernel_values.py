"""The CPU kernels give the bits of `jr_onnx.reference`, for every value, shape, size and number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from native_models import (
    FED_TYPES,
    assert_same_bits,
    bfloat16_model,
    edge_values,
    jump_model,
    kernel_session,
    random_values,
    run,
)

from jr_onnx.conversion.element_types import BFLOAT16, FLOAT, FLOAT16, NUMPY_TYPES, type_name
from jr_onnx.reference import jump_relu

pytestmark = pytest.mark.usefixtures("library")

#: What conversion writes (finite, >= 0), and what a model from elsewhere might hold.
JUMPS = [0.0, 0.05, 0.5, 1.0, 65504.0, 6e-8]
STRANGE_JUMPS = [-0.0, -1.0, np.inf, -np.inf, np.nan]
SIZES = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 1000, 32768, 65535, 65537, 2**17 + 1, 2**20 + 3]

fed_types = pytest.mark.parametrize("element_type", FED_TYPES, ids=type_name)


@pytest.mark.parametrize("jump", JUMPS + STRANGE_JUMPS)
def test_every_float16_pattern_gives_the_bits_of_the_reference(jump: float) -> None:
    x = np.arange(65536, dtype=np.uint16).view(np.float16)
    limit = np.asarray(jump, np.float16)
    assert_same_bits(run(jump_model(FLOAT16, limit, [65536]), x), jump_relu(x, limit))


@pytest.mark.parametrize("jump", [*JUMPS[:4], 3.3e38, 9.2e-41, *STRANGE_JUMPS])
def test_every_bfloat16_pattern_gives_the_bits_of_the_reference(jump: float) -> None:
    dtype = NUMPY_TYPES[BFLOAT16]
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    limit = np.asarray(jump).astype(dtype)
    y = run(bfloat16_model(limit), x.astype(np.float32))
    assert_same_bits(y, jump_relu(x, limit).astype(np.float32))


@fed_types
@pytest.mark.parametrize("jump", JUMPS + STRANGE_JUMPS)
def test_edge_values_give_the_bits_of_the_reference(element_type: int, jump: float) -> None:
    limit = np.asarray(jump, NUMPY_TYPES[element_type])
    x = np.concatenate([edge_values(element_type, jump), random_values(element_type, (1000,))])
    assert_same_bits(run(jump_model(element_type, limit, [x.size]), x), jump_relu(x, limit))


@fed_types
@pytest.mark.parametrize("depth", [1, 3], ids=["out of place", "in place"])
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_every_size_gives_the_bits_of_the_reference(element_type: int, depth: int, threads: int) -> None:
    limit = np.asarray(0.5, NUMPY_TYPES[element_type])
    for size in SIZES:
        x = random_values(element_type, (size,), seed=size)
        assert_same_bits(run(jump_model(element_type, limit, [size], depth=depth), x, threads), jump_relu(x, limit))


@fed_types
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize(
    ("shape", "jump_shape"),
    [
        ((2, 5, 7, 7), (5, 1, 1)),
        ((2, 5, 7, 7), (1, 5, 1, 1)),
        ((3, 64, 40, 41), (64, 1, 1)),
        ((4, 6, 3), (6, 1)),
        ((1000, 3), (3,)),
        ((700, 333), (333,)),
        ((1, 300_001), (300_001,)),
        ((5, 1, 9), (5, 1, 1)),
        ((7, 4, 2), (7, 1, 1)),
        ((3, 4), (1, 1)),
        ((3, 4), (1,)),
        ((2, 0, 4), (4,)),
        ((0, 3), (3,)),
        ((2, 0), (0,)),
        ((), ()),
    ],
    ids=str,
)
def test_every_legal_shape_of_jump_gives_the_bits_of_the_reference(
    element_type: int, threads: int, shape: tuple[int, ...], jump_shape: tuple[int, ...]
) -> None:
    x = random_values(element_type, shape)
    limits = np.abs(np.random.default_rng(1).standard_normal(jump_shape)).astype(NUMPY_TYPES[element_type])
    for depth in (1, 3):
        model = jump_model(element_type, limits, list(shape), depth=depth)
        assert_same_bits(run(model, x, threads), jump_relu(x, limits))


@pytest.mark.parametrize("jump_shape", [(), (5, 1)], ids=str)
def test_a_jump_that_changes_between_runs_is_read_each_time(jump_shape: tuple[int, ...]) -> None:
    x = random_values(FLOAT, (3, 5, 11))
    session = kernel_session(jump_model(FLOAT, np.zeros(jump_shape, np.float32), [3, 5, 11], jump_is_input=True))
    for jump in (0.1, 0.7):
        limits = np.full(jump_shape, jump, np.float32)
        assert_same_bits(session.run(None, {"x": x, "jump": limits})[0], jump_relu(x, limits))
