"""examples/node: a hardened model in Node.js, by the function that it carries."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from example_programs import as_text
from support import Array, assert_same_bits, hardened, reference_vector, relu_model

from jr_onnx.reference import jump_relu

pytestmark = pytest.mark.slow


def run(folder: Path, model: Path, x: Array) -> Array:
    command = ["node", "run.mjs", str(model), ",".join(map(str, x.shape))]
    done = subprocess.run(command, cwd=folder, input=as_text(x), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.array([float(line) for line in done.stdout.split()], np.float32)


def test_the_reference_vector_has_the_bits_of_the_definition(
    npm_example: Callable[[str], Path], tmp_path: Path
) -> None:
    x = reference_vector(onnx.TensorProto.FLOAT)
    onnx.save(hardened(relu_model(shape=[x.size])), tmp_path / "m.onnx")
    assert_same_bits(run(npm_example("node"), tmp_path / "m.onnx", x), jump_relu(x, np.float32(0.5)))


def test_the_digits_model_answers_as_in_python(
    npm_example: Callable[[str], Path], digits: Path, image: Array, logits: Array
) -> None:
    got = run(npm_example("node"), digits, image)
    np.testing.assert_allclose(got, logits[0], rtol=1e-5, atol=1e-5)  # another build of onnxruntime
    assert got.argmax() == logits.argmax()
