"""The CUDA kernels from Python, with PyTorch for memory, streams and clocks. The tests and the benchmark share it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

SHIM = Path(__file__).with_name("kernel_shim.cu")
SOURCE = Path(__file__).resolve().parents[2] / "custom_ops" / "src" / "cuda_kernels.cu"
FLOAT, FLOAT16, DOUBLE, BFLOAT16 = 1, 10, 11, 16
UINT8, INT8, UINT16, INT16 = 2, 3, 4, 5


def why_not() -> str | None:
    """The reason why the kernels cannot be built and run here, if there is one."""
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed"
    if not torch.cuda.is_available():
        return "there is no CUDA device here"
    return None if nvcc() else "there is no nvcc here"


def nvcc() -> str | None:
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def build(folder: Path, source: Path = SOURCE) -> Path:
    """Compile the kernels for the GPU of this machine."""
    library = folder / f"{source.stem}.so"
    flags = ["-std=c++17", "-O3", "-shared", "-Xcompiler=-fPIC", "-arch=native", f"-I{SOURCE.parent}"]
    flags.append(f'-DKERNELS="{source.resolve()}"')
    subprocess.run([str(nvcc()), *flags, str(SHIM), "-o", str(library)], check=True)
    return library


class Kernels:
    """`kernels(x, jump, y)` on tensors of PyTorch."""

    def __init__(self, library: Path) -> None:
        import torch

        self.torch = torch
        self.library = ctypes.CDLL(str(library))
        pointer, number = ctypes.c_void_p, ctypes.c_longlong
        self.library.jump_relu.argtypes = [ctypes.c_int, pointer, pointer, *[number] * 3, ctypes.c_bool, pointer]
        self.library.error_text.restype = ctypes.c_char_p
        self.types = {
            torch.float32: FLOAT,
            torch.float16: FLOAT16,
            torch.float64: DOUBLE,
            torch.bfloat16: BFLOAT16,
            torch.uint8: UINT8,
            torch.int8: INT8,
            torch.uint16: UINT16,
            torch.int16: INT16,
        }

    def __call__(self, x: Any, jump: Any, y: Any, inner: int = 1) -> None:
        """Runs on PyTorch's current stream."""
        self._run((x, None, jump, None), y, inner)

    def add(self, a: Any, b: Any, jump: Any, y: Any, inner: int = 1) -> None:
        """JumpReLU of a + b."""
        self._run((a, b, jump, None), y, inner)

    def quantized(self, q: Any, threshold: Any, zero_point: Any, y: Any, inner: int = 1) -> None:
        """QuantizedJumpReLU, with one zero point or with one for each threshold."""
        self._run((q, None, threshold, zero_point), y, inner)

    def _run(self, tensors: tuple[Any, ...], y: Any, inner: int) -> None:
        error = self.launch(self.types[y.dtype], tensors, y, inner)
        if error:
            raise RuntimeError(self.library.error_text(error).decode())

    def launch(self, element_type: int, tensors: tuple[Any, ...], y: Any, inner: int = 1) -> int:
        """`tensors` are those of jr::Inputs: X, the addend, the jump, the zero point."""
        stream = self.torch.cuda.current_stream().cuda_stream
        inputs = (ctypes.c_void_p * 4)(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))
        x, _, jump, zero_point = tensors
        zero_each = zero_point is not None and zero_point.numel() > 1
        size = (x.numel(), jump.numel(), inner, zero_each)
        code: int = self.library.jump_relu(element_type, inputs, y.data_ptr(), *size, stream)
        return code
