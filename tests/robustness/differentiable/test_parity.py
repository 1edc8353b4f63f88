"""The comparison of the copy with onnxruntime on the user's data."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support import MODELS, Array, run

torch = pytest.importorskip("torch", reason="torch is not installed: there is no differentiable copy without it")

from jr_onnx.robustness.gradients.errors import ParityError  # noqa: E402 - behind the check that torch is there
from jr_onnx.robustness.differentiable.model import DifferentiableModel  # noqa: E402
from jr_onnx.robustness.differentiable.parity import check_parity  # noqa: E402

DIGITS = MODELS / "digits.onnx"
IMAGES = np.load(MODELS / "digits_test.npz")["x"][:32]


def session(x: Array) -> Array:
    """onnxruntime on the digits model."""
    return run(onnx.load(DIGITS), {"image": x})[0]


def test_a_copy_of_the_same_model_passes() -> None:
    parity = check_parity(DifferentiableModel.from_onnx(DIGITS), session, IMAGES, 1e-4)
    assert parity.relative < 1e-5
    assert parity.agreement == 1.0
    assert parity.inputs == 32


def test_a_copy_with_another_jump_is_refused() -> None:
    with pytest.raises(ParityError, match=r"off by .* of the largest output \(tolerance 0.0001\), and agrees on"):
        check_parity(DifferentiableModel.from_onnx(DIGITS), session, IMAGES, 1e-4, jumps=0.5)


def test_one_wrong_bias_is_enough() -> None:
    model = onnx.load(DIGITS)
    weights = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [10])
    values = onnx.numpy_helper.to_array(weights).copy()
    values[3] += 0.05
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    with pytest.raises(ParityError):
        check_parity(DifferentiableModel.from_onnx(model), session, IMAGES, 1e-4)


def test_nan_on_one_side_is_refused() -> None:
    with pytest.raises(ParityError, match="disagree on which outputs are finite"):
        check_parity(DifferentiableModel.from_onnx(DIGITS), lambda x: session(x) * np.nan, IMAGES)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ParityError, match=r"gives the shape \(32, 10\), onnxruntime \(32, 9\)"):
        check_parity(DifferentiableModel.from_onnx(DIGITS), lambda x: session(x)[:, 1:], IMAGES)


def test_no_input_is_refused() -> None:
    with pytest.raises(ParityError, match="there is no input to compare"):
        check_parity(DifferentiableModel.from_onnx(DIGITS), session, IMAGES[:0])
