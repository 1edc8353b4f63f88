"""The CUDA kernels alone, with no onnxruntime: bits, alignment, sizes, streams, graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cuda_kernels import Kernels, build, why_not

if reason := why_not():
    pytest.skip(reason, allow_module_level=True)

import torch

from jr_onnx.reference import jump_relu, quantized_jump_relu

TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
HALVES = [torch.float16, torch.bfloat16]
INTEGERS = [np.uint8, np.int8, np.uint16, np.int16]
SIZES = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 255, 257, 1023, 4097, 65537, 2**20 + 3, 2**23 + 1]
# Rows that are whole vectors, channels last in whole vectors, and neither; small, and from 16 MB on.
CHANNEL_SHAPES = [
    (2, 5, 49),
    (3, 64, 1),
    (1, 3, 7),
    (7, 33, 100),
    (2, 256, 3136),
    (1, 100_003, 1),
    (3, 5, 16),
    (16, 64, 12_544),
    (9, 2048, 49),
    (70_000, 128, 1),
]
JUMPS = [0.0, -0.0, 0.05, 0.5, 1.0, 60000.0, 6e-8, -1.0, float("inf"), float("-inf"), float("nan")]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernels]:
    yield Kernels(build(tmp_path_factory.mktemp("kernels")))


def values(count: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Random values, an eighth of them edges."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, generator=generator, dtype=torch.float64).to(dtype)
    edges = torch.tensor([0.0, -0.0, 0.5, -0.5, np.inf, -np.inf, np.nan, 1e-40], dtype=torch.float64).to(dtype)
    places = torch.randint(0, max(count, 1), (count // 8,), generator=generator)
    x[places] = edges[torch.randint(0, 8, places.shape, generator=generator)]
    return x.cuda()


def to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """bfloat16 as float32, which holds all its values."""
    tensor = tensor.cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def assert_reference(y: torch.Tensor, x: torch.Tensor, jump: torch.Tensor) -> None:
    """`jump` must broadcast to `x`."""
    expected, got = jump_relu(to_numpy(x), to_numpy(jump)), to_numpy(y)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    known = ~np.isnan(expected)
    bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[got.itemsize]
    np.testing.assert_array_equal(got[known].view(bits), expected[known].view(bits))


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_pattern_of_sixteen_bits_gives_the_bits_of_the_reference(
    kernels: Kernels, dtype: torch.dtype, jump: float
) -> None:
    x = torch.from_numpy(np.arange(65536, dtype=np.uint16).view(np.int16)).view(dtype).cuda()
    limit = torch.tensor([jump], dtype=torch.float64).to(dtype).cuda()
    y = torch.empty_like(x)
    kernels(x, limit, y)
    assert_reference(y, x, limit)


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_size_gives_the_bits_of_the_reference_in_place_or_not(
    kernels: Kernels, dtype: torch.dtype, jump: float
) -> None:
    limit = torch.tensor([jump], dtype=torch.float64).to(dtype).cuda()
    for count in SIZES:
        x = values(count, dtype, seed=count)
        y, same = torch.full_like(x, 7), x.clone()
        kernels(x, limit, y)
        kernels(same, limit, same)
        assert_reference(y, x, limit)
        assert_reference(same, x, limit)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_views_that_are_not_aligned_are_right_and_touch_nothing_beside_them(
    kernels: Kernels, dtype: torch.dtype
) -> None:
    limit = torch.tensor([0.5]).to(dtype).cuda()
    for x_offset in range(9):
        for y_offset in (0, 1, x_offset):
            for count in (1, 5, 8, 100, 4099):
                x = values(count + 16, dtype)[x_offset : x_offset + count]
                whole = torch.full((count + 32,), 7, dtype=dtype, device="cuda")
                kernels(x, limit, whole[y_offset : y_offset + count])
                assert_reference(whole[y_offset : y_offset + count], x, limit)
                assert bool((whole[:y_offset] == 7).all()) and bool((whole[y_offset + count :] == 7).all())


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", CHANNEL_SHAPES)
def test_one_jump_a_channel_gives_the_bits_of_the_reference(
    kernels: Kernels, dtype: torch.dtype, shape: tuple[int, int, int]
) -> None:
    x = values(int(np.prod(shape)), dtype).reshape(shape)
    limits = torch.rand(shape[1]).to(dtype).cuda()
    y, same = torch.empty_like(x), x.clone()
    kernels(x, limits, y, inner=shape[2])
    kernels(same, limits, same, inner=shape[2])
    assert_reference(y, x, limits[:, None])
    assert_reference(same, x, limits[:, None])


def test_more_elements_than_thirty_two_bits_count(kernels: Kernels) -> None:
    count = 2**32 + 5
    if torch.cuda.mem_get_info()[0] < 6 * count:
        pytest.skip("not enough memory on the device")
    x = torch.ones(count, dtype=torch.float16, device="cuda")
    x[:: 2**20] = 0.25
    x[-1] = 0.25
    for limits, inner in ((torch.tensor([0.5]), 1), (torch.full((3,), 0.5), 2**31)):
        y = x if len(limits) == 3 else x.clone()
        kernels(y, limits.half().cuda(), y, inner=inner)
        assert int((y == 0).sum()) == 2**12 + 2
        assert int((y == 1).sum()) == count - 2**12 - 2
        del y


def test_the_kernel_runs_on_the_stream_it_is_given_and_can_be_captured(kernels: Kernels) -> None:
    x, limit = values(100_003, torch.float32), torch.tensor([0.5]).cuda()
    y = torch.empty_like(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kernels(x, limit, y)
    for seed in (1, 2):
        x.copy_(values(100_003, torch.float32, seed))
        graph.replay()
        torch.cuda.synchronize()
        assert_reference(y, x, limit)


def test_an_unknown_type_comes_back_as_an_error_of_cuda(kernels: Kernels) -> None:
    x, limit = values(8, torch.float32), torch.tensor([0.5]).cuda()
    error = kernels.launch(99, (x, None, limit, None), x)
    assert error != 0
    assert b"invalid" in kernels.library.error_text(error)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_sum_and_its_jump_relu_in_one_pass(
    kernels: Kernels, dtype: torch.dtype, count: int, offset: int, in_place: bool
) -> None:
    a, b = values(count + offset, dtype, 1)[offset:], values(count, dtype, 2)
    jump = torch.tensor(0.5, dtype=dtype).cuda()
    total = a + b
    y = a if in_place else torch.empty_like(b)
    kernels.add(a, b, jump, y)
    assert_reference(y, total, jump)


def integers(shape: tuple[int, ...], dtype: type, seed: int) -> np.ndarray[Any, Any]:
    ends = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(ends.min, ends.max, shape, dtype, endpoint=True)


def run_quantized(
    kernels: Kernels,
    q: np.ndarray[Any, Any],
    threshold: np.ndarray[Any, Any],
    zero: np.ndarray[Any, Any],
    inner: int = 1,
) -> None:
    """Beside Q and in its place; threshold and zero point broadcast to q."""
    expected = quantized_jump_relu(q, threshold, zero)
    on_device = [torch.from_numpy(np.ascontiguousarray(array)).cuda() for array in (q, threshold, zero)]
    for y in (torch.zeros_like(on_device[0]), on_device[0]):
        kernels.quantized(*on_device, y, inner=inner)
        np.testing.assert_array_equal(y.cpu().numpy(), expected)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_every_integer_with_thresholds_and_zero_points(kernels: Kernels, dtype: type) -> None:
    """All of 8 bits; of 16 bits all values with a spread of thresholds and zero points."""
    ends = np.iinfo(dtype)
    values = np.arange(ends.min, ends.max + 1).astype(dtype)
    others = values[:: 1 if values.size == 256 else 4369]
    q = np.tile(values, (others.size, 1))
    for zero in others:
        run_quantized(kernels, q, others[:, None], np.array([zero]), inner=values.size)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_of_every_size_and_layout(kernels: Kernels, dtype: type) -> None:
    for count in SIZES:
        run_quantized(kernels, integers((count,), dtype, count), integers((1,), dtype, 1), integers((1,), dtype, 2))
    for shape in CHANNEL_SHAPES:
        for zeros in (1, shape[1]):
            parameters = integers((shape[1], 1), dtype, 1), integers((zeros, 1), dtype, 2)
            run_quantized(kernels, integers(shape, dtype, 0), *parameters, inner=shape[2])
