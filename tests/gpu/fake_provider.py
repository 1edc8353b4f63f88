"""onnxruntime's own CUDA provider on a CUDA runtime that needs no GPU, in a virtual environment of its own.

`python fake_provider.py FOLDER` makes the environment and prints its interpreter; start it with LD_LIBRARY_PATH=FOLDER.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import venv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
SOURCES = REPOSITORY / "custom_ops"
EMULATION = REPOSITORY / "tests" / "native" / "emulation" / "include"

#: What fake_cuda/ was written for, and the headers that it is compiled with.
ONNXRUNTIME, HEADERS = "onnxruntime-gpu==1.31.1", ("nvidia-cuda-runtime==13.0.*", "nvidia-cuda-crt==13.0.*")


class NotToBeHadError(Exception):
    """A package cannot be installed here; the message is pip's."""


def make(folder: Path) -> Path:
    """The interpreter of an environment with onnxruntime-gpu and jr_onnx; the fake libraries lie in `folder`.

    Raises:
        NotToBeHadError: a package is not to be had for this machine.
    """
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    (site,) = folder.glob("venv/lib/python*/site-packages")
    # All but onnxruntime is taken from the environment that runs the tests, behind what is installed here.
    inherited = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "inherited.pth").write_text("\n".join(inherited) + "\n")
    _install(site, ONNXRUNTIME, *HEADERS)
    provider = site / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    _build_libraries(folder, _wanted_by(provider), site / "nvidia" / "cu13" / "include")
    shutil.copytree(REPOSITORY / "jr_onnx", site / "jr_onnx", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    _build_kernels(folder, site / "jr_onnx")
    return python


def _install(site: Path, *packages: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:", "--target", str(site)]
    done = subprocess.run([*command, *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotToBeHadError(f"{', '.join(packages)}: {done.stderr.strip().splitlines()[-1]}")


def _wanted_by(provider: Path) -> dict[str, set[str]]:
    """CUDA library -> the functions of it that the provider links to, or looks up by name, as those of cuDNN."""
    linked = subprocess.run(["readelf", "-d", provider], capture_output=True, text=True, check=True).stdout
    undefined = subprocess.run(["nm", "-D", "--undefined-only", provider], capture_output=True, text=True, check=True)
    wanted = defaultdict(set, {name: set() for name in re.findall(r"NEEDED.*\[(libcu.+)\]", linked)})
    for name, library in re.findall(r" U (\w+)(?:@(libcu\S+))?$", undefined.stdout, re.MULTILINE):
        if library or re.match(r"cu[A-Z]", name):  # those of the driver have no version
            wanted[library or "libcuda.so.1"].add(name)
    wanted["libcudnn.so"] = {name.decode() for name in re.findall(rb"\0(cudnn[A-Z]\w+)(?=\0)", provider.read_bytes())}
    return wanted


def _build_libraries(folder: Path, wanted: dict[str, set[str]], headers: Path) -> None:
    """Each library with the functions it must have: those written in fake_cuda/, and others that only succeed."""
    for library in sorted(wanted, key=lambda name: not name.startswith("libcudart")):  # the others link to it
        written = HERE / "fake_cuda" / f"{re.sub('lib|[.].*', '', library)}.cc"
        objects, functions = [], wanted[library]
        if written.exists():
            objects.append(folder / f"{written.stem}.o")
            _compile([written], objects[0], "-c", "-I", headers)
            listed = subprocess.run(["nm", "--defined-only", *objects], capture_output=True, text=True, check=True)
            functions = functions - set(re.findall(r" T (\w+)$", listed.stdout, re.MULTILINE))
        stubs, versions = folder / f"{library}.cc", folder / f"{library}.map"
        stubs.write_text("".join(f'extern "C" int {name}() {{ return 0; }}\n' for name in sorted(functions)))
        versions.write_text(f"{library} {{ global: *; }};\n")
        if not library.startswith("libcudart"):
            objects += folder.glob("libcudart.so.*[0-9]")
        linking = f"-Wl,-soname,{library},--version-script={versions},--as-needed"
        _compile([stubs, *objects], folder / library, "-shared", linking)


def _build_kernels(folder: Path, package: Path) -> None:
    """The kernel library, its CUDA kernels compiled for the CPU."""
    (cudart,) = folder.glob("libcudart.so.*[0-9]")
    flags = ("-w", "-fvisibility=hidden", "-I", SOURCES / "src")
    kernels = folder / "kernels.o"
    _compile([HERE / "fake_cuda" / "ops.cc"], kernels, "-c", "-I", EMULATION, *flags)
    variant = ("-DJR_CUDA", "-DJR_VARIANT=baseline", "-DJR_VECTOR_BYTES=16")
    exports = f"-Wl,--version-script={SOURCES / 'exports.map'}"
    sources = [*sorted((SOURCES / "src").glob("*.cc")), kernels, cudart]
    _compile(sources, package / "jr_onnx_ops.so", "-shared", *flags, *variant, exports)
    facts = {"compiler": "g++", "processor": "emulated", "cpu": ["baseline"], "cuda": "13.0", "cuda_architectures": []}
    (package / "jr_onnx_ops.json").write_text(json.dumps(facts))


def _compile(sources: Iterable[Path], output: Path, *arguments: str | Path) -> None:
    subprocess.run(["g++", "-std=c++17", "-O1", "-fPIC", *sources, *arguments, "-o", output], check=True)


if __name__ == "__main__":
    print(make(Path(sys.argv[1]).resolve()))
