"""What is built and installed: the wheel, the wheel without a compiler, and an editable installation."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def _build(repository: Path, target: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A wheel, as pip builds it: in an environment of its own."""
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "-w", str(target), str(repository)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def _only_wheel(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def _path_without_compilers(folder: Path) -> str:
    """A PATH with what a build may call and no C++ compiler."""
    folder.mkdir()
    for tool in ("sh", "uname", "env", "git", "ldd", "cmake", "ninja"):
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    return str(folder)


def test_the_wheel_holds_the_library_and_no_leftovers(repository: Path, tmp_path: Path, library: Path) -> None:
    built = _build(repository, tmp_path, {"JR_CUDA": "OFF"})
    assert built.returncode == 0, built.stdout + built.stderr
    wheel = _only_wheel(tmp_path)
    assert re.fullmatch(r"jr_onnx-[\d.]+-py3-none-linux_\w+\.whl", wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    assert {"jr_onnx/jr_onnx_ops.so", "jr_onnx/jr_onnx_ops.json", "jr_onnx/py.typed"} <= set(names)
    allowed = re.compile(
        r"jr_onnx/([\w/]+\.py|py\.typed|[\w/]+\.html|jr_onnx_ops\.(so|json))|jr_onnx-[\d.]+\.dist-info/.+"
    )
    assert [name for name in names if not allowed.fullmatch(name)] == []
    assert library.name == "jr_onnx_ops.so"


def test_without_a_compiler_the_wheel_is_pure_python_and_the_build_says_so(repository: Path, tmp_path: Path) -> None:
    path = _path_without_compilers(tmp_path / "bin")
    built = _build(repository, tmp_path / "wheels", {"PATH": path, "CXX": ""})
    assert built.returncode == 0, built.stdout + built.stderr
    said = (built.stdout + built.stderr).count("the JumpReLU kernels are not built")
    assert said == 1
    wheel = _only_wheel(tmp_path / "wheels")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "jr_onnx/runtime/library.py" in names
    assert not [name for name in names if "jr_onnx_ops" in name]


def test_cuda_that_is_demanded_and_cannot_be_built_is_an_error(repository: Path, tmp_path: Path) -> None:
    built = _build(repository, tmp_path, {"JR_CUDA": "ON", "CUDACXX": "/no/such/nvcc"})
    assert built.returncode != 0
    assert "JR_CUDA=ON, but" in built.stdout + built.stderr
    assert re.search(r"Successfully installed .*nvidia-cuda-nvcc-13\.0", built.stdout + built.stderr), (
        "pip was to fetch nvcc"
    )


def test_cuda_that_is_not_demanded_and_cannot_be_built_is_left_out(repository: Path, tmp_path: Path) -> None:
    built = _build(repository, tmp_path, {"JR_CUDA": "", "CUDACXX": "/no/such/nvcc"})
    assert built.returncode == 0, built.stdout + built.stderr
    assert "The CUDA kernels are not built" in built.stdout + built.stderr
    assert "nvidia" not in built.stdout + built.stderr, "no compiler is downloaded unasked"
    info = zipfile.ZipFile(_only_wheel(tmp_path)).read("jr_onnx/jr_onnx_ops.json")
    assert json.loads(info)["cuda"] == ""


def test_cuda_that_is_not_wanted_is_not_tried(repository: Path, tmp_path: Path) -> None:
    """By every word that CMake takes for OFF, though there may be an nvcc."""
    built = _build(repository, tmp_path, {"JR_CUDA": "no"})
    assert built.returncode == 0, built.stdout + built.stderr
    assert "CUDA compiler" not in built.stdout + built.stderr
    assert json.loads(zipfile.ZipFile(_only_wheel(tmp_path)).read("jr_onnx/jr_onnx_ops.json"))["cuda"] == ""


def test_an_editable_installation_finds_its_library(repository: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-e", repository]
    subprocess.run(install, check=True, env={**os.environ, "JR_CUDA": "OFF"})
    code = "import jr_onnx.runtime as r; print(r.library_path().is_file(), r.build_info().cpu[0])"
    ran = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ran.stdout.split() == ["True", "baseline"]
