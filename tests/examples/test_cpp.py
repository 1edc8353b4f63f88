"""examples/cpp: built against onnxruntime's own headers and the library of its Python wheel, with no Python in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from example_programs import EXAMPLES, as_text
from support import Array, assert_same_bits, hardened, reference_vector, relu_model

from jr_onnx import runtime
from jr_onnx.errors import RuntimeMissingError
from jr_onnx.reference import jump_relu

sys.path.append(str(EXAMPLES.parent / "tools"))
from check_ort_abi import NotRunError, download_headers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built as its README says."""
    if not shutil.which("cmake") or not shutil.which("c++"):
        pytest.skip("there is no CMake or no C++ compiler here")
    folder = tmp_path_factory.mktemp("cpp")
    shared = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)
    if shared is None:
        pytest.skip("the wheel of this onnxruntime has no libonnxruntime.so")
    # The name that the program looks for when it starts is not that of the file in the wheel.
    for name in ("libonnxruntime.so.1", "libonnxruntime.so"):
        (folder / name).symlink_to(shared)
    try:
        headers = download_headers(folder)
    except NotRunError as error:
        pytest.skip(f"onnxruntime's headers cannot be had here: {error}")
    options = [f"-DONNXRUNTIME_INCLUDE={headers}", f"-DONNXRUNTIME_LIBRARY={folder / 'libonnxruntime.so'}"]
    configure = ["cmake", "-S", str(EXAMPLES / "cpp"), "-B", str(folder / "build"), *options]
    for command in (configure, ["cmake", "--build", str(folder / "build")]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "main"


@pytest.fixture(params=["kernels", "function"])
def library(request: pytest.FixtureRequest) -> str:
    if request.param == "function":
        return "-"
    try:
        return str(runtime.library_path())
    except RuntimeMissingError as error:
        pytest.skip(str(error))


def run(program: Path, model: Path, library: str, x: Array) -> Array:
    command = [str(program), str(model), library, ",".join(map(str, x.shape))]
    done = subprocess.run(command, input=as_text(x), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.array([float(line) for line in done.stdout.split()], np.float32)


def test_the_reference_vector_has_the_bits_of_the_definition(program: Path, library: str, tmp_path: Path) -> None:
    x = reference_vector(onnx.TensorProto.FLOAT)
    onnx.save(hardened(relu_model(shape=[x.size])), tmp_path / "m.onnx")
    assert_same_bits(run(program, tmp_path / "m.onnx", library, x), jump_relu(x, np.float32(0.5)))


def test_the_digits_model_answers_as_in_python(
    program: Path, library: str, digits: Path, image: Array, logits: Array
) -> None:
    assert_same_bits(run(program, digits, library, image), logits[0])


def test_a_missing_library_is_an_error_and_no_crash(program: Path, digits: Path) -> None:
    done = subprocess.run([program, digits, "missing.so", "1,1,8,8"], input="", capture_output=True, text=True)
    assert done.returncode == 1
    assert "missing.so" in done.stderr


@pytest.mark.parametrize("shape", ["", "1,x,8", "1,1,8,9", "-1", "99999999999999999999"])
def test_a_shape_that_is_none_or_does_not_fit_is_an_error_and_no_crash(
    shape: str, program: Path, digits: Path, image: Array
) -> None:
    done = subprocess.run([program, digits, "-", shape], input=as_text(image), capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr
