"""The gradient that the library has of a model, and that of finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from support import Array, run

from jr_onnx.robustness.gradients.backward import TRUE, Backward
from jr_onnx.robustness.gradients.gradients import Gradients


def scores_and_slope(model: Any, x: Array, backward: Backward = TRUE) -> tuple[Array, Array]:
    """The scores, and the gradient of their sum with weights 0, 1, 2, ..."""
    gradients = Gradients(model, x.shape[1:])
    weights = np.tile(np.arange(gradients.classes, dtype=np.float32), (len(x), 1))
    scores, (slope,) = gradients(x, weights[:, :, None], backward=backward)
    return scores, slope


def assert_close(found: Array, expected: Array, share: float = 1e-5) -> None:
    """To a share of the largest."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * float(np.abs(expected).max()))


def by_differences(model: onnx.ModelProto, x: Array, small: float = 1 / 16) -> Array:
    """The gradient that `scores_and_slope` gives, by onnxruntime on the file."""
    name, found = model.graph.input[0].name, np.zeros(x.size)
    for place in range(x.size):
        ends = []
        for sign in (1, -1):
            moved = x.astype(np.float64).reshape(-1)
            moved[place] += sign * small
            scores = run(model, {name: moved.reshape(x.shape).astype(np.float32)})[0].astype(np.float64)
            ends.append((scores * np.arange(scores.shape[1])).sum())
        found[place] = (ends[0] - ends[1]) / (2 * small)
    return found.reshape(x.shape)
