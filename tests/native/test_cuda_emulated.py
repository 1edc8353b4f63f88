"""The CUDA kernels' source, compiled for the CPU: every bit against the reference, with no GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from emulated_kernels import CHECKS, SOURCES, TYPES, Inputs, Kernels, build

from jr_onnx.conversion.element_types import type_name

if not shutil.which("g++"):
    pytest.skip("g++ is not installed", allow_module_level=True)

SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
# Each fault is planted into the source: (what stands there, what is put there).
FAULTS = {
    "less in place of less or equal": ("return x <= jump ? zero : x;", "return x < jump ? zero : x;"),
    "a zero keeps its sign": ("return x <= jump ? zero : x;", "return x <= jump ? x * zero : x;"),
    "NaN is zeroed": ("return x <= jump ? zero : x;", "return x > jump ? x : zero;"),
    "the mask is not inverted": ("& ~low) | (zeros[i] & low)", "& low) | (zeros[i] & ~low)"),
    "the zero point is left out": (" | (zeros[i] & low);", ";"),
    "the last word is left out": ("i < 4; ++i", "i < 3; ++i"),
    "bytes are signed": ("__vcmpleu4", "__vcmples4"),
    "bytes are not signed": ("__vcmples4", "__vcmpleu4"),
    "16 bits are signed": ("__vcmpleu2", "__vcmples2"),
    "bytes are put into the wrong lanes": ("i % 4 * 8", "(3 - i % 4) * 8"),
    "the first zero point is that of all": ("if (!layout.zero_each) return", "return"),
    "one vector too many": ("v < split.vectors; v += threads", "v <= split.vectors; v += threads"),
    "threads overlap": ("v += threads", "v += kThreads"),
    "the head is left out of the load": (
        "const int64_t first = split.head + v * Pack<T>::lanes",
        "const int64_t first = v * Pack<T>::lanes",
    ),
    "the tail misses one": ("s < split.count - in_vectors;", "s < split.count - in_vectors - 1;"),
    "the tail starts with the vectors": ("s < split.head ? s : s + in_vectors", "s"),
    "channels do not wrap": ("if (++channel == places.channels.by) channel = 0;", "++channel;"),
    "rows are not carried": ("place = 0;\n", "\n"),
    "the addend's alignment is not asked": ("((from ^ to) | (from ^ also))", "(from ^ to)"),
    "y's alignment is not asked": ("((from ^ to) | (from ^ also))", "(from ^ also)"),
    "the head counts bytes": ("% kVectorBytes / sizeof(T);", "% kVectorBytes;"),
    "the grid has no singles": ("split.vectors > singles ? split.vectors : singles", "split.vectors"),
    "the divider is off by one": ("<< 32) / by + 1)", "<< 32) / by)"),
    "rows that vectors straddle": ("layout.inner % lanes == 0", "true"),
    "channels last, ragged": ("layout.inner == 1 && layout.channels % lanes == 0", "layout.inner == 1"),
    "vectors of rows behind a head": ("split.head == 0 && split.vectors > 0", "split.vectors > 0"),
    "A is added to A": ("return sum(a[i], b[i]);", "return sum(a[i], a[i]);"),
    "A is added to A in vectors": ("sum(a.lane[i], b.lane[i])", "sum(a.lane[i], a.lane[i])"),
}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernels]:
    library = tmp_path_factory.mktemp("emulated") / "kernels.so"
    build(library)
    yield Kernels(library)


@pytest.mark.parametrize("element_type", TYPES, ids=type_name)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_bit_is_that_of_the_reference(
    kernels: Kernels, check: Callable[[Kernels, int], None], element_type: int
) -> None:
    check(kernels, element_type)


def test_an_unknown_element_type_is_an_error(kernels: Kernels) -> None:
    assert kernels.library.jump_relu(99, Inputs(), None, 8, 1, 1, False) != 0


def run_sanitized(library: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    runtime = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    options = {"LD_PRELOAD": runtime.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    script = Path(__file__).with_name("emulated_kernels.py")
    command = [sys.executable, "-W", "ignore", str(script), str(library)]
    return subprocess.run(
        command, env=os.environ | options, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.slow
@pytest.mark.sanitizers
def test_nothing_is_read_or_written_outside(tmp_path: Path) -> None:
    build(tmp_path / "kernels.so", *SANITIZED)
    done = run_sanitized(tmp_path / "kernels.so", timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.sanitizers
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, tmp_path: Path) -> None:
    sources = {name: (SOURCES / name).read_text() for name in ("cuda_kernels.cu", "cuda_jumps.h")}
    there, planted = FAULTS[fault]
    assert any(there in source for source in sources.values())
    for name, source in sources.items():
        (tmp_path / name).write_text(source.replace(there, planted))
    build(tmp_path / "kernels.so", *SANITIZED, kernels=tmp_path)
    assert run_sanitized(tmp_path / "kernels.so", timeout=600).returncode != 0
