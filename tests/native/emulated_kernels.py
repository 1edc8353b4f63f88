"""Runs cuda_kernels.cu on the CPU and compares every bit with the reference.

`build` compiles the source unchanged against the few CUDA declarations in emulation/include;
`python emulated_kernels.py LIBRARY` runs all comparisons.
"""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto

from jr_onnx.conversion.element_types import BFLOAT16, DOUBLE, FLOAT, FLOAT16
from jr_onnx.reference import jump_relu, quantized_jump_relu

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "custom_ops" / "src"
TYPES: dict[int, np.dtype[Any]] = {
    FLOAT: np.dtype(np.float32),
    DOUBLE: np.dtype(np.float64),
    FLOAT16: np.dtype(np.float16),
    BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    TensorProto.UINT8: np.dtype(np.uint8),
    TensorProto.INT8: np.dtype(np.int8),
    TensorProto.UINT16: np.dtype(np.uint16),
    TensorProto.INT16: np.dtype(np.int16),
}
JUMPS = [0.5, 0.0, -0.0, 0.05, 6e-8, -1.0, np.inf, -np.inf, np.nan, 60000.0]
EDGES = [0.0, -0.0, 0.5, -0.5, np.inf, -np.inf, np.nan, 1e-40, 6e-8, 65504.0]
GUARD = 0xA5
INT_MAX = 2**31 - 1
MEBIBYTES_16 = 16 << 20
Array = np.ndarray[Any, Any]


def build(library: Path, *flags: str, kernels: Path = SOURCES) -> None:
    """Compiles the folder `kernels`' cuda_kernels.cu; raises CalledProcessError where it does not compile."""
    include = ["-I", str(HERE / "emulation" / "include"), "-I", str(kernels), "-I", str(SOURCES)]
    command = ["g++", "-std=c++17", "-O2", "-w", "-shared", "-fPIC", *flags, *include]
    subprocess.run([*command, str(HERE / "emulation" / "emulator.cc"), "-o", str(library)], check=True)


class Memory:
    """An array at `offset` elements behind a multiple of 16 bytes: guard bytes in front, the end of memory behind."""

    def __init__(self, kernels: Kernels, content: Array, offset: int) -> None:
        self.kernels, self.front = kernels, 16 + offset * content.itemsize
        self.start: int = kernels.library.allocate(self.front + content.nbytes)
        whole = (ctypes.c_uint8 * (self.front + content.nbytes)).from_address(self.start)
        self.guard = np.frombuffer(whole, np.uint8, self.front)
        self.guard[:] = GUARD
        self.array: Array = np.frombuffer(whole, np.uint8, offset=self.front).view(content.dtype)
        self.array[:] = content

    @property
    def address(self) -> int:
        return self.start + self.front

    def close(self) -> None:
        assert (self.guard == GUARD).all(), "wrote in front of the output"
        del self.array, self.guard
        self.kernels.library.release(self.start)


class Inputs(ctypes.Structure):
    """jr::Inputs: the addresses of what a kernel reads."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("x", "addend", "jump", "zero_point"))


class Kernels:
    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        pointer, number = ctypes.c_void_p, ctypes.c_longlong
        self.library.jump_relu.argtypes = [ctypes.c_int, ctypes.POINTER(Inputs), pointer, *[number] * 3, ctypes.c_bool]
        self.library.configure.argtypes = [ctypes.c_int, ctypes.c_uint, number]
        self.library.allocate.argtypes, self.library.allocate.restype = [ctypes.c_size_t], pointer
        self.library.release.argtypes = [pointer]
        self.random = np.random.default_rng(7)

    def values(self, element_type: int, count: int) -> Array:
        dtype = TYPES[element_type]
        if dtype.kind in "iu":
            return self.random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, count, dtype, endpoint=True)
        x: Array = self.random.standard_normal(count).astype(dtype)
        places = self.random.integers(0, max(count, 1), count // 4)
        x[places] = self.random.choice(np.array(EDGES), places.size).astype(x.dtype)
        return x

    def compare(
        self, element_type: int, x: Array, jumps: Array, inner: int = 1, offsets: tuple[int, int, int] = (0, 0, 0)
    ) -> None:
        """JumpReLU of x, of x in place, and of x + a in the place of either; `offsets` are those of x, y and a.

        For integers QuantizedJumpReLU instead, with one zero point and with one for each jump.
        """

        def spread(values: Array) -> Array:
            return np.resize(np.repeat(values, inner), x.shape)

        def run(expected: Array, **more: Array) -> None:
            for place in ("y", "x", *({"addend"} & set(more))):
                held = {
                    "x": Memory(self, x, offsets[0]),
                    "y": Memory(self, np.full_like(x, 7), offsets[1]),
                    "jump": Memory(self, jumps, 0),
                    **{name: Memory(self, values, offsets[2]) for name, values in more.items()},
                }
                inputs = Inputs(**{name: memory.address for name, memory in held.items() if name != "y"})
                size = (x.size, jumps.size, inner, more.get("zero_point", jumps[:1]).size > 1)
                assert self.library.jump_relu(element_type, inputs, held[place].address, *size) == 0
                assert_same_bits(held[place].array, expected)
                for memory in held.values():
                    memory.close()

        if x.dtype.kind in "iu":
            zeros = self.values(element_type, jumps.size)
            for zero_point in (zeros[:1], zeros):
                run(quantized_jump_relu(x, spread(jumps), spread(zero_point)), zero_point=zero_point)
            return
        run(jump_relu(x, spread(jumps)))
        addend = self.values(element_type, x.size)
        with np.errstate(all="ignore"):
            run(jump_relu(x + addend, spread(jumps)), addend=addend)


def assert_same_bits(got: Array, expected: Array) -> None:
    """NaN may be any NaN: that of a sum is the processor's."""
    if got.dtype.kind in "iu":
        np.testing.assert_array_equal(got, expected)
        return
    bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[got.itemsize]
    both_nan = np.isnan(got) & np.isnan(expected)
    np.testing.assert_array_equal(np.where(both_nan, 0, got.view(bits)), np.where(both_nan, 0, expected.view(bits)))


def jump_of(element_type: int, seed: int) -> Array:
    jumps = jumps_of(element_type)
    return jumps[seed % jumps.size, None]


def jumps_of(element_type: int) -> Array:
    dtype = TYPES[element_type]
    if dtype.kind in "iu":
        return np.linspace(np.iinfo(dtype).min, np.iinfo(dtype).max, 9).astype(dtype)
    return np.array(JUMPS).astype(dtype)


def sizes_and_alignments(kernels: Kernels, element_type: int) -> None:
    lanes = 16 // TYPES[element_type].itemsize
    for count in (*range(70), 255, 256, 257, 1023, 4099):
        kernels.compare(element_type, kernels.values(element_type, count), jump_of(element_type, count))
    for offsets in itertools.product((0, 1, lanes - 1), repeat=3):
        for count in (1, 2, 7, 8, 17, 1000):
            kernels.compare(
                element_type, kernels.values(element_type, count), jump_of(element_type, count), offsets=offsets
            )


def every_pattern(kernels: Kernels, element_type: int) -> None:
    """All values of types of 8 and 16 bits; those of 8 bits with all jumps."""
    dtype = TYPES[element_type]
    if dtype.itemsize > 2:
        return
    bits = np.uint8 if dtype.itemsize == 1 else np.uint16
    x: Array = np.arange(np.iinfo(bits).max + 1).astype(bits).view(dtype)
    for jump in x if dtype.itemsize == 1 else jumps_of(element_type):
        for y_offset in (0, 1):  # 1: not aligned alike, so one element at a time
            kernels.compare(element_type, x, np.array([jump]), offsets=(0, y_offset, 0))


def jumps_a_channel(kernels: Kernels, element_type: int) -> None:
    """Rows of whole vectors, channels last in whole vectors, and neither."""
    lanes = 16 // TYPES[element_type].itemsize
    cases = itertools.product((1, 3), (2, 5, 16, 17, 8 * lanes), (1, 2, 7, 8, 49, 3 * lanes), (0, 1))
    for batch, channels, inner, offset in cases:
        x = kernels.values(element_type, batch * channels * inner)
        kernels.compare(element_type, x, kernels.values(element_type, channels), inner, (offset,) * 3)
    x = kernels.values(element_type, 2 * 100_003)
    kernels.compare(element_type, x, kernels.values(element_type, 100_003))


def small_grids_and_large_indices(kernels: Kernels, element_type: int) -> None:
    """Grids of one to three blocks, in three orders of the threads, with 32-bit and 64-bit indices."""
    for order, blocks, int_max in ((0, 1, INT_MAX), (1, 2, INT_MAX), (2, 3, INT_MAX), (2, 2**32 - 1, 2), (1, 3, 1)):
        kernels.library.configure(order, blocks, int_max)
        for count, channels, inner in (
            (257, 1, 1),
            (4099, 1, 1),
            (17 * 7 * 40, 17, 7),
            (64 * 49, 64, 49),
            (5 * 64, 64, 1),
        ):
            x, jumps = kernels.values(element_type, count), kernels.values(element_type, channels)
            for offset in (0, 1):
                kernels.compare(element_type, x, jumps, inner, (offset,) * 3)
    kernels.library.configure(0, 2**32 - 1, INT_MAX)


CHECKS: list[Callable[[Kernels, int], None]] = [
    sizes_and_alignments,
    every_pattern,
    jumps_a_channel,
    small_grids_and_large_indices,
]


if __name__ == "__main__":
    for check, element_type in itertools.product(CHECKS, TYPES):
        check(Kernels(Path(sys.argv[1])), element_type)
