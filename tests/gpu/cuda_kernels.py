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
        self.library.jump_relu.argtypes = [ctypes.c_int, *[pointer] * 3, *[number] * 3, pointer]
        self.library.add_jump_relu.argtypes = [ctypes.c_int, *[pointer] * 4, *[number] * 3, pointer]
        self.library.error_text.restype = ctypes.c_char_p
        self.types = {
            torch.float32: FLOAT,
            torch.float16: FLOAT16,
            torch.float64: DOUBLE,
            torch.bfloat16: BFLOAT16,
        }

    def __call__(self, x: Any, jump: Any, y: Any, inner: int = 1) -> None:
        """Runs on PyTorch's current stream."""
        error = self.launch(self.types[x.dtype], x, jump, y, inner)
        if error:
            raise RuntimeError(self.library.error_text(error).decode())

    def add(self, a: Any, b: Any, jump: Any, y: Any, inner: int = 1) -> None:
        """JumpReLU of a + b, on PyTorch's current stream."""
        pointers = (tensor.data_ptr() for tensor in (a, b, jump, y))
        stream = self.torch.cuda.current_stream().cuda_stream
        error = self.library.add_jump_relu(self.types[a.dtype], *pointers, a.numel(), jump.numel(), inner, stream)
        if error:
            raise RuntimeError(self.library.error_text(error).decode())

    def launch(self, element_type: int, x: Any, jump: Any, y: Any, inner: int = 1) -> int:
        stream = self.torch.cuda.current_stream().cuda_stream
        pointers = x.data_ptr(), jump.data_ptr(), y.data_ptr()
        code: int = self.library.jump_relu(element_type, *pointers, x.numel(), jump.numel(), inner, stream)
        return code
