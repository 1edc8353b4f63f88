"""The kernel library that is installed beside this package."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import json
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jr_onnx
from jr_onnx.arguments import as_path, unfit
from jr_onnx.errors import RuntimeMissingError

if TYPE_CHECKING:
    import onnxruntime


def library_name(platform: str) -> str:
    """The kernel library's file name on a platform of `sys.platform`, as custom_ops/CMakeLists.txt builds it."""
    return "jr_onnx_ops" + {"darwin": ".dylib", "win32": ".dll"}.get(platform, ".so")


LIBRARY = library_name(sys.platform)

#: What the options of a session without CUDA say to the library: it then need not ask the driver.
_WITHOUT_CUDA = "custom_op.JumpReLU.without_cuda"

_registered: weakref.WeakSet[onnxruntime.SessionOptions] = weakref.WeakSet()


@dataclass(frozen=True)
class BuildInfo:
    """What the kernel library was built with."""

    compiler: str
    processor: str
    cpu: tuple[str, ...]
    cuda: str
    cuda_architectures: tuple[str, ...]


def library_path() -> Path:
    """Where the kernel library is: what onnxruntime's `register_custom_ops_library` wants, in any language.

    Raises:
        RuntimeMissingError: jr-onnx was installed without kernels.
    """
    # An editable installation keeps the library apart from the Python files; the package's path names both places.
    for folder in (*map(Path, jr_onnx.__path__), *_installed()):
        path = folder / LIBRARY
        if path.is_file():
            return path
    raise RuntimeMissingError(
        "jr-onnx was installed without its kernels, or is a source tree that is not installed "
        f"({jr_onnx.__path__[0]}); install it where there is a C++ compiler, or use session(..., kernels=False)"
    )


def _installed() -> Iterator[Path]:
    """Where this version is installed, for a source tree that Python finds before it: that of the current folder."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found = importlib.metadata.distribution("jr-onnx")
        if found.version == jr_onnx.__version__:
            yield Path(str(found.locate_file("jr_onnx")))


def build_info() -> BuildInfo:
    """What the library at `library_path()` was built with."""
    values = json.loads(library_path().with_suffix(".json").read_text(encoding="utf-8"))
    lists = {"cpu": tuple(values["cpu"]), "cuda_architectures": tuple(values["cuda_architectures"])}
    return BuildInfo(**{**values, **lists})


def cuda_problem(device: int = 0, library: str | Path | None = None) -> str:
    """Why the CUDA kernels cannot run on a device of this machine; empty if they can, or if there is no such device.

    The driver may be too old for the CUDA that they were built with, or the library may have no code for the GPU.

    Raises:
        RuntimeMissingError: jr-onnx was installed without kernels, or there is no such library.
    """
    loaded = ctypes.CDLL(str(_found(library)))
    if not hasattr(loaded, "jr_onnx_cuda_problem"):  # an older build, beside a model
        return ""
    why = ctypes.create_string_buffer(512)
    loaded.jr_onnx_cuda_problem(device, why, ctypes.c_size_t(len(why)))
    return why.value.decode()


def register(
    session_options: onnxruntime.SessionOptions, library: str | Path | None = None, *, cuda: bool = True
) -> None:
    """Load the kernel library into `session_options`: JumpReLU then runs by kernel, and not by its function body.

    Options that have the library already are left alone: onnxruntime would refuse them with it twice. Where this
    machine's NVIDIA driver is too old for the CUDA kernels, none are registered, so that CUDA runs the function body.

    Args:
        session_options: onnxruntime's.
        library: another build of the library than the installed one, such as `jr-onnx deploy` put beside a model. It is
            code that will run: never take its path from a model.
        cuda: False for options that no session with CUDA will have: the CPU's kernels are then registered in any case.

    Raises:
        RuntimeMissingError: jr-onnx was installed without kernels, or there is no such library.
    """
    if not hasattr(session_options, "register_custom_ops_library"):
        raise unfit("session_options", session_options, "an onnxruntime.SessionOptions")
    path = _found(library)
    if session_options not in _registered:
        if not cuda:
            session_options.add_session_config_entry(_WITHOUT_CUDA, "1")
        session_options.register_custom_ops_library(str(path))
        _registered.add(session_options)


def _found(library: str | Path | None) -> Path:
    """The library's absolute path: a bare name would be looked for where the system keeps its libraries."""
    path = library_path() if library is None else as_path("library", library).absolute()
    if not path.is_file():
        raise RuntimeMissingError(f"{path}: no such kernel library; deploy the model again")
    return path
