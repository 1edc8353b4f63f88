"""The library as a file: what it exports, what it needs, and what its machine code looks like."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jr_onnx import runtime


def _tool(*command: str) -> str:
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_only_the_entry_point_is_exported(library: Path) -> None:
    symbols = [line.split()[-1] for line in _tool("nm", "-D", "--defined-only", str(library)).splitlines()]
    assert symbols == ["RegisterCustomOps"]


def test_no_library_of_cuda_or_onnxruntime_is_linked(library: Path) -> None:
    needed = re.findall(r"NEEDED.*\[(.+)\]", _tool("readelf", "-d", str(library)))
    assert needed
    allowed = re.compile(r"^(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|ld-linux[-\w]*)\.so")
    assert [name for name in needed if not allowed.match(name)] == []


def test_the_kernels_of_each_instruction_set_are_in_the_library(library: Path) -> None:
    built = runtime.build_info()
    assert built.cpu[0] == "baseline"
    if built.processor != "x86_64":
        pytest.skip(f"one instruction set only on {built.processor}")
    assert built.cpu == ("baseline", "avx2", "avx512")
    code = _tool("objdump", "-d", "--no-show-raw-insn", str(library))
    assert re.search(r"\bvcmpleps\b.*ymm", code)
    assert re.search(r"\bvpcmp\w*w\b.*zmm", code)


def test_cuda_code_moves_sixteen_bytes_at_a_time(library: Path) -> None:
    built = runtime.build_info()
    if not built.cuda:
        pytest.skip("the library was built without CUDA")
    sass = _tool("cuobjdump", "--dump-sass", str(library))
    kernels = re.split(r"Function : ", sass)[1:]
    kernels = [body for body in kernels if "jump_relu" in body.splitlines()[0]]
    # Element types, inputs, and ways in which the jumps lie; of integers, and one way more for zero points.
    assert len(kernels) >= 4 * 2 * 5 + 4 * 6
    for body in kernels:
        name = body.splitlines()[0]
        assert "LDG.E.128" in body and "STG.E.128" in body, name
        assert "CONSTANT" not in body, f"{name} reads X through the cache that must not see writes"
