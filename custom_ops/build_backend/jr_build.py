"""The PEP 517 backend: scikit-build-core, and what has to be decided before CMake starts.

- No C++ compiler: the wheel is pure Python (every hardened model still runs, by its function body).
- No nvcc on the machine, but nvcc's packages exist for it: they become build requirements.

The environment variable JR_CUDA decides as it does for CMake: ON, OFF or AUTO (the default).
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any, Optional

from scikit_build_core import build as skbuild

# nvcc does not pin the packages that it needs, so all of them are pinned to one release here.
CUDA_PACKAGES = [f"nvidia-{part}==13.0.*" for part in ("cuda-nvcc", "nvvm", "cuda-crt", "cuda-runtime", "cuda-cccl")]
NO_COMPILER = (
    "jr-onnx: no C++ compiler was found (looked for $CXX, c++, g++ and clang++), so the JumpReLU kernels are not built."
    " Hardened models run without them, more slowly. Install a compiler and install jr-onnx again to have them."
)

# As Python 3.9 reads it: pip runs this before it says that 3.10 is needed.
Settings = Optional[dict[str, Any]]  # noqa: UP045


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return skbuild.get_requires_for_build_wheel(_settings(config_settings)) + _cuda_requires()


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    return skbuild.get_requires_for_build_editable(_settings(config_settings)) + _cuda_requires()


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    return skbuild.get_requires_for_build_sdist(config_settings)


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    _say_if_pure()
    return skbuild.build_wheel(wheel_directory, _settings(config_settings), metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    _say_if_pure()
    return skbuild.build_editable(wheel_directory, _settings(config_settings), metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    return skbuild.build_sdist(sdist_directory, config_settings)


def _settings(given: Settings) -> dict[str, Any]:
    """What scikit-build-core is told about this machine; what the user gave comes first."""
    if not _has_compiler():
        return {"wheel.cmake": "false", **(given or {})}
    nvcc = _packaged_nvcc() if _lacks_nvcc() else None
    found = {"cmake.define.CMAKE_CUDA_COMPILER": str(nvcc)} if nvcc else {}
    return {**found, **(given or {})}


def _say_if_pure() -> None:
    if not _has_compiler():
        print(NO_COMPILER, file=sys.stderr)


def _has_compiler() -> bool:
    asked_for = os.environ.get("CXX", "").split()
    return any(shutil.which(name) for name in (asked_for[:1] or ["c++", "g++", "clang++"]))


def _cuda_requires() -> list[str]:
    glibc = platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"
    served = glibc and platform.machine() in ("x86_64", "aarch64")
    return CUDA_PACKAGES if served and _has_compiler() and _lacks_nvcc() else []


def _lacks_nvcc() -> bool:
    """Whether CUDA is wanted and CMake would find no nvcc (the places are those of custom_ops/cmake/cuda.cmake)."""
    if os.environ.get("JR_CUDA", "AUTO").upper() == "OFF":
        return False
    roots = [os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    toolkits = os.pathsep.join(str(Path(root) / "bin") for root in roots if root)
    return not (os.environ.get("CUDACXX") or shutil.which("nvcc") or shutil.which("nvcc", path=toolkits))


def _packaged_nvcc() -> Path | None:
    namespace = importlib.util.find_spec("nvidia")
    folders = namespace.submodule_search_locations if namespace else None
    found = (nvcc for folder in folders or () for nvcc in Path(folder).glob("cu*/bin/nvcc"))
    return next(found, None)
