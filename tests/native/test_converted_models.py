"""Whole models, as `jr_onnx.convert` writes them: the same bits by kernel and by function body."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from native_models import CPU, Array, assert_same_bits
from support import SHIPPED

import jr_onnx
from jr_onnx import runtime

pytestmark = pytest.mark.usefixtures("library")

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def _feeds(session: onnxruntime.InferenceSession) -> dict[str, Array]:
    """Random values for every input; an axis that may vary gets the length 2."""
    random = np.random.default_rng(0)
    feeds: dict[str, Array] = {}
    for value in session.get_inputs():
        shape = [axis if isinstance(axis, int) else 2 for axis in value.shape]
        if value.type in TYPES:
            feeds[value.name] = random.standard_normal(shape).astype(TYPES[value.type])
        else:
            feeds[value.name] = np.ones(shape, np.bool_ if value.type == "tensor(bool)" else np.int64)
    return feeds


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_converted_model_gives_the_same_bits_with_and_without_the_kernels(path: Path, tmp_path: Path) -> None:
    hardened = tmp_path / path.name
    jr_onnx.convert(path, jump=0.25, output=hardened)
    # The graph as it stands, so that the two sessions differ in JumpReLU alone.
    sessions = []
    for kernels in (True, False):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        sessions.append(runtime.session(hardened, providers=CPU, session_options=options, kernels=kernels))
    feeds = _feeds(sessions[0])
    for by_kernel, by_body in zip(*(session.run(None, feeds) for session in sessions), strict=True):
        if np.issubdtype(by_kernel.dtype, np.floating):
            assert_same_bits(by_kernel, by_body)
        else:
            np.testing.assert_array_equal(by_kernel, by_body)


def test_every_jump_relu_of_the_digits_model_runs_by_kernel(tmp_path: Path, repository: Path) -> None:
    report = jr_onnx.convert(repository / "models" / "digits.onnx", jump=0.5, output=tmp_path / "hardened.onnx")
    session = runtime.session(tmp_path / "hardened.onnx", providers=CPU, profile=True)
    session.run(None, _feeds(session))
    placed = runtime.placement(session)
    assert len(placed) == len(report.sites) > 0
    assert {place.provider for place in placed} == set(CPU)
