"""The kernel library for the platforms that onnxruntime has wheels for: cross-compiled, and run where an emulator can.

Windows runs under Wine and aarch64 under QEMU, each with onnxruntime's own wheel for it. macOS, musl and Windows on ARM
are only compiled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from native_models import jump_model

from jr_onnx.conversion.element_types import FLOAT
from jr_onnx.reference import jump_relu
from jr_onnx.runtime.library import library_name

#: Zig's target: CMake's system and processor, Python's platform, and how the file starts.
TARGETS = {
    "x86_64-linux-gnu.2.28": ("Linux", "x86_64", "linux", b"\x7fELF"),
    "aarch64-linux-gnu.2.28": ("Linux", "aarch64", "linux", b"\x7fELF"),
    "x86_64-linux-musl": ("Linux", "x86_64", "linux", b"\x7fELF"),
    "aarch64-linux-musl": ("Linux", "aarch64", "linux", b"\x7fELF"),
    "aarch64-macos.11.0": ("Darwin", "arm64", "darwin", bytes.fromhex("cffaedfe0c000001")),
    "x86_64-windows-gnu": ("Windows", "AMD64", "win32", b"MZ"),
    "aarch64-windows-gnu": ("Windows", "ARM64", "win32", b"MZ"),
}

X = np.array([-np.inf, -1, -0.0, 0, 0.25, 0.5, np.nextafter(np.float32(0.5), 1), 1, np.inf], np.float32)


@pytest.mark.parametrize(
    ("platform", "name"),
    [
        ("linux", "jr_onnx_ops.so"),
        ("darwin", "jr_onnx_ops.dylib"),
        ("win32", "jr_onnx_ops.dll"),
        ("freebsd14", "jr_onnx_ops.so"),
    ],
)
def test_the_library_is_looked_for_by_the_name_of_the_platform(platform: str, name: str) -> None:
    assert library_name(platform) == name


def _built(target: str, repository: Path, folder: Path) -> Path:
    """The library for a target, by the one CMake project and Zig's compiler."""
    pytest.importorskip("ziglang", reason="Zig cross-compiles: pip install ziglang")
    system, processor, platform, _ = TARGETS[target]
    compiler = f"{sys.executable} -m ziglang c++ -target {target}"
    # Linked without a C++ library: the kernels need none, on any platform.
    environment = {**os.environ, "CXX": compiler, "LDFLAGS": "-nostdlib++"}
    names = [f"-DCMAKE_SYSTEM_NAME={system}", f"-DCMAKE_SYSTEM_PROCESSOR={processor}", "-DJR_CUDA=OFF"]
    for command in (["cmake", "-S", repository / "custom_ops", "-B", folder, *names], ["cmake", "--build", folder]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / library_name(platform)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_the_library_builds_for_the_platform(target: str, repository: Path, tmp_path: Path) -> None:
    content = _built(target, repository, tmp_path).read_bytes()
    assert content.startswith(TARGETS[target][-1])
    assert b"RegisterCustomOps" in content


def _onnxruntime_of(platform: str, member: str, folder: Path, version: str = "onnxruntime") -> Path:
    """onnxruntime's shared library, from its wheel for another platform."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", version]
    subprocess.run([*command, "--python-version", "3.12", "--platform", platform, "-d", folder], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.startswith(f"onnxruntime/capi/{member}")]
        (folder / Path(name).name).write_bytes(archive.read(name))
    return folder / Path(name).name


def _runs(folder: Path, *command: str | Path, **variables: str) -> None:
    """The program `deploy` gives what the reference gives."""
    onnx.save(jump_model(FLOAT, np.asarray(0.5, np.float32), ["n"], depth=2), folder / "model.onnx")
    numbers = "\n".join(map(repr, X.tolist()))
    environment = {**os.environ, **variables}
    done = subprocess.run(command, cwd=folder, input=numbers, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    y = np.array(done.stdout.split(), np.float32)
    np.testing.assert_array_equal(y.view(np.uint32), jump_relu(X, np.float32(0.5)).view(np.uint32))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("wine"), reason="Wine is not installed")
def test_the_library_runs_in_onnxruntime_for_windows(repository: Path, tmp_path: Path) -> None:
    library = _built("x86_64-windows-gnu", repository, tmp_path / "build")
    shutil.copy(library, tmp_path)
    _onnxruntime_of("win_amd64", "onnxruntime.dll", tmp_path)
    zig = [sys.executable, "-m", "ziglang"]
    (tmp_path / "onnxruntime.def").write_text("LIBRARY onnxruntime.dll\nEXPORTS\nOrtGetApiBase\n")
    stub = ["dlltool", "-m", "i386:x86-64", "-d", "onnxruntime.def", "-l", "onnxruntime.lib"]
    subprocess.run([*zig, *stub], cwd=tmp_path, check=True)
    source, headers = Path(__file__).with_name("deploy.cc"), repository / "custom_ops" / "src"
    build = ["c++", "-target", "x86_64-windows-gnu", "-std=c++17", f"-I{headers}", source, "onnxruntime.lib"]
    subprocess.run([*zig, *build, "-o", "deploy.exe"], cwd=tmp_path, check=True)
    wine = {"WINEPREFIX": str(tmp_path / "wine"), "WINEDEBUG": "-all"}
    _runs(tmp_path, "wine", "deploy.exe", "model.onnx", library.name, **wine)


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-g++")),
    reason="qemu-user and g++-aarch64-linux-gnu are not installed",
)
def test_the_library_runs_in_onnxruntime_for_aarch64(repository: Path, tmp_path: Path) -> None:
    library = _built("aarch64-linux-gnu.2.28", repository, tmp_path / "build")
    # QEMU 7.2 ends with a segmentation fault in onnxruntime 1.32 itself, with and without the library.
    shared = _onnxruntime_of("manylinux_2_28_aarch64", "libonnxruntime.so", tmp_path, "onnxruntime==1.23.2")
    (tmp_path / "libonnxruntime.so.1").symlink_to(shared)
    source, headers = Path(__file__).with_name("deploy.cc"), repository / "custom_ops" / "src"
    build = ["aarch64-linux-gnu-g++", "-std=c++17", f"-I{headers}", source, shared, f"-Wl,-rpath,{tmp_path}"]
    subprocess.run([*build, "-o", "deploy"], cwd=tmp_path, check=True)
    _runs(tmp_path, "qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "deploy", "model.onnx", library)
