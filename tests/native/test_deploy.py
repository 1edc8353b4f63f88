"""A hardened model deployed from C++, with no Python: the library is loaded by onnxruntime alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from native_models import jump_model

from jr_onnx.conversion.element_types import FLOAT
from jr_onnx.reference import jump_relu


def test_a_cpp_program_runs_a_hardened_model(library: Path, repository: Path, tmp_path: Path) -> None:
    shared = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)
    if shared is None:
        pytest.skip("the wheel of this onnxruntime has no libonnxruntime.so")
    if not shutil.which("c++"):
        pytest.skip("no C++ compiler")
    # The name that the program looks for when it starts is not that of the file in the wheel.
    (tmp_path / "libonnxruntime.so.1").symlink_to(shared)
    program, source = tmp_path / "deploy", Path(__file__).with_name("deploy.cc")
    headers = repository / "custom_ops" / "src"
    command = ["c++", "-std=c++17", f"-I{headers}", source, "-o", program, shared, f"-Wl,-rpath,{tmp_path}"]
    subprocess.run(command, check=True)
    model = tmp_path / "model.onnx"
    onnx.save(jump_model(FLOAT, np.asarray(0.5, np.float32), ["n"], depth=2), model)
    x = np.array([-np.inf, -1, -0.0, 0, 0.25, 0.5, np.nextafter(np.float32(0.5), 1), 1, np.inf], np.float32)
    ran = subprocess.run(
        [program, model, library], input="\n".join(map(repr, x.tolist())), capture_output=True, text=True, check=True
    )
    np.testing.assert_array_equal(np.array(ran.stdout.split(), np.float32), jump_relu(x, np.float32(0.5)))
