"""Whether the differentiable copy computes what onnxruntime computes from the file that ships."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jr_onnx.robustness.gradients.backward import Jumps
from jr_onnx.robustness.gradients.errors import ParityError
from jr_onnx.robustness.differentiable.model import DifferentiableModel

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Parity:
    """How far the copy and onnxruntime are apart.

    Attributes:
        absolute: the largest difference of an output.
        relative: the same, over the largest output.
        agreement: the share of inputs that both put in the same class.
        inputs: how many were compared.
    """

    absolute: float
    relative: float
    agreement: float
    inputs: int


def check_parity(
    model: DifferentiableModel,
    session: Callable[[Array], Array],
    x: Array,
    tolerance: float = 1e-3,
    *,
    jumps: Jumps = None,
) -> Parity:
    """Compare the copy with onnxruntime on the user's own data.

    Args:
        model: the copy.
        session: the model's input -> its output, by onnxruntime.
        x: the model's inputs, preprocessed; in its shape and dtype.
        tolerance: the largest `Parity.relative` that is let pass.
        jumps: as for `DifferentiableModel.forward`.

    Raises:
        ParityError: they are farther apart, or one of them gives NaN or infinity where the other does not.
    """
    if len(x) == 0:
        raise ParityError("there is no input to compare the differentiable copy with onnxruntime on")
    device = next(model.buffers(), torch.empty(0)).device
    with torch.no_grad():
        given = model.outputs(torch.from_numpy(np.asarray(x)).to(device), jumps=jumps).cpu().double().numpy()
    expected = np.asarray(session(x), np.float64)
    if given.shape != expected.shape:
        raise ParityError(f"the differentiable copy gives the shape {given.shape}, onnxruntime {expected.shape}")
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(given)):
        raise ParityError("the differentiable copy and onnxruntime disagree on which outputs are finite")
    absolute = float(np.abs(given[finite] - expected[finite]).max(initial=0.0))
    relative = absolute / max(float(np.abs(expected)[finite].max(initial=0.0)), float(np.finfo(np.float32).tiny))
    agreement = float(np.mean(given.argmax(-1) == expected.argmax(-1)))
    if relative > tolerance:
        raise ParityError(
            f"the differentiable copy is off by {relative:.2g} of the largest output (tolerance {tolerance:g}), and "
            f"agrees on {agreement:.1%} of the classes; its gradients would say nothing about the file"
        )
    return Parity(absolute, relative, agreement, len(x))
