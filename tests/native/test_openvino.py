"""A provider that compiles subgraphs gets the whole model: the kernels would cut it to pieces."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from support import MODELS

import jr_onnx

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys, numpy, onnxruntime, jr_onnx

def nodes(providers):
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = "profile"
    session = jr_onnx.session(sys.argv[1], providers=providers, session_options=options)
    y = session.run(None, {"image": numpy.load(sys.argv[2])})[0]
    with open(session.end_profiling()) as file:
        events = [event for event in json.load(file) if event.get("cat") == "Node"]
    return y, [event["args"] for event in events if "provider" in event["args"]]

y, compiled = nodes(["OpenVINOExecutionProvider", "CPUExecutionProvider"])
_, by_kernel = nodes(["CPUExecutionProvider"])
numpy.save("y.npy", y)
print(json.dumps([[one["provider"] for one in compiled], [one["op_name"] for one in by_kernel]]))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The interpreter of an environment with onnxruntime-openvino."""
    folder = tmp_path_factory.mktemp("openvino")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "onnxruntime-openvino", repository]
    subprocess.run(install, check=True, env={**os.environ, "JR_CUDA": "OFF"})
    return python


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="onnxruntime-openvino has no wheel for this system",
)
@pytest.mark.parametrize("inline", [False, True], ids=["function", "inline"])
def test_openvino_compiles_a_hardened_model_as_one_subgraph(inline: bool, python: Path, tmp_path: Path) -> None:
    jr_onnx.convert(MODELS / "digits.onnx", jump=0.5, output=tmp_path / "hard.onnx", inline=inline)
    with np.load(MODELS / "digits_test.npz") as data:
        np.save(tmp_path / "x.npy", data["x"][:8])
    command = [python, "-c", PROGRAM, tmp_path / "hard.onnx", tmp_path / "x.npy"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    compiled, by_kernel = json.loads(ran.stdout.splitlines()[-1])
    assert compiled == ["OpenVINOExecutionProvider"]
    assert by_kernel.count("JumpReLU") == (0 if inline else 4)
    here = onnxruntime.InferenceSession(tmp_path / "hard.onnx").run(None, {"image": np.load(tmp_path / "x.npy")})[0]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), here, rtol=1e-3, atol=1e-3)
