"""Scores of a classifier and their gradients, by onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.conversion.graph.names import PREFIX
from jr_onnx.errors import RuntimeMissingError
from jr_onnx.robustness.gradients.backward import SHARE, SMOOTH, TRUE, Backward
from jr_onnx.robustness.gradients.errors import NoGradientError
from jr_onnx.robustness.gradients.fragments import drop_unneeded, fragment, set_nodes
from jr_onnx.robustness.gradients.prepare import prepare, read_model
from jr_onnx.runtime.execution import CannotRunError, session_options, start
from jr_onnx.runtime.sessions import CPU
from jr_onnx.text import one_line

Floats = npt.NDArray[np.float32]

#: Numbers of samples that a session is made for, where the file leaves the number open; a batch is cut into the largest
#: that fit, and the rest filled up to the next.
_BATCHES = (2, 8, 32)

#: The most numbers of input that a batch has, unless one sample has more.
_AT_ONCE = 1 << 20

#: Values of the gradient model.
_LOGITS, _WEIGHTS, _RIVALS, _SHARPNESS = (f"{PREFIX}{name}" for name in ("logits", "weights", "rivals", "sharpness"))

#: Put behind the network: [N, classes] scores, all finite or NaN, of which those that are probabilities have become
#: their logarithms. A Softmax at the end is left out before; this is for what stands in its place, such as LogSoftmax
#: and Exp. The differences of probabilities have no gradient where one of them is 1.
_HEAD = """
    zero = Constant <value_float = 0.0> ()
    one = Constant <value_float = 1.0> ()
    tiny = Constant <value_float = 1.1754944e-38> ()
    inexact = Constant <value_float = 1.0e-3> ()
    most = Constant <value_float = 1.0e30> ()
    least = Constant <value_float = -1.0e30> ()
    classes = Constant <value_ints = [1]> ()
    lowest = ReduceMin (SCORES, classes)
    highest = ReduceMax (SCORES, classes)
    total = ReduceSum (SCORES, classes)
    excess = Sub (total, one)
    error = Abs (excess)
    not_negative = GreaterOrEqual (lowest, zero)
    at_most_one = LessOrEqual (highest, one)
    sum_is_one = LessOrEqual (error, inexact)
    shares = And (not_negative, at_most_one)
    likely = And (shares, sum_is_one)
    positive = Max (SCORES, tiny)
    logarithms = Log (positive)
    unsaturated = Where (likely, logarithms, SCORES)
    LOGITS = Clip (unsaturated, least, most)
"""

#: [N, classes, sums]: what the scores are weighted with. A loss adds how near each rival is to the best of them.
#: The scores of a sample that lie more than 64 apart are brought nearer, unless the sharpness is given.
_SEED = """
    zero = Constant <value_float = 0.0> ()
    one = Constant <value_float = 1.0> ()
    usual = Constant <value_float = 64.0> ()
    most = Constant <value_float = 1.0e30> ()
    least = Constant <value_float = -1.0e30> ()
    classes = Constant <value_ints = [1]> ()
    last = Constant <value_ints = [-1]> ()
    size = Abs (LOGITS)
    counts = Less (size, most)
    floored = Where (counts, LOGITS, least)
    capped = Where (counts, LOGITS, most)
    top = ReduceMax (floored, classes)
    bottom = ReduceMin (capped, classes)
    spread = Sub (top, bottom)
    unusual = Div (spread, usual)
    divisor = Max (unusual, one)
    soft = Reciprocal (divisor)
    is_soft = Equal (SHARPNESS, zero)
    factor = Where (is_soft, soft, SHARPNESS)
    rival = Where (RIVALS, LOGITS, least)
    best = ReduceMax (rival, classes)
    behind = Sub (rival, best)
    scaled = Mul (behind, factor)
    likelihood = Exp (scaled)
    likelihoods = Where (RIVALS, likelihood, zero)
    sum = ReduceSum (likelihoods, classes)
    divided = Max (sum, one)
    share = Div (likelihoods, divided)
    shares = Unsqueeze (share, last)
    SEED = Add (WEIGHTS, shares)
"""


class Gradients:
    """Scores and gradients of one classifier, by onnxruntime on the CPU in one thread: the same bits wherever it runs.

    Attributes:
        classes: how many scores a sample has.

    Args:
        model: the model, or its file; one input without a default and one output, [N, classes]. It is left alone.
        shape: of one sample, as the model takes it.

    Raises:
        ModelError: it cannot be read, has several inputs or outputs, or an opset that is too old.
        NoGradientError: there is an operator that has no gradient.
        RuntimeMissingError: onnxruntime or onnx-ad is not installed.
    """

    def __init__(self, model: onnx.ModelProto | str | Path, shape: Sequence[int]) -> None:
        self._model, self._shape = read_model(model), tuple(shape)
        fixed = _fixed_batch(self._model)
        most = max(_AT_ONCE // math.prod(self._shape), 1)
        self._batches = [fixed] if fixed else [size for size in _BATCHES if size <= most] or [1]
        self._sessions: dict[int, Any] = {}
        self.classes = self._session(self._batches[0]).get_outputs()[0].shape[1]

    def __call__(
        self,
        x: Floats,
        weights: Floats,
        *,
        rivals: npt.NDArray[np.bool_] | None = None,
        sharpness: Floats | None = None,
        backward: Backward = TRUE,
    ) -> tuple[Floats, Floats]:
        """Scores, and the gradients of their weighted sums with respect to x.

        Args:
            x: [N, ...] inputs.
            weights: [N, classes, sums].
            rivals: [N, classes]; with it the weights have added to them the softmax over these classes, which makes the
                sum the gradient of a loss: of the cross-entropy, or sharper.
            sharpness: [N], what the scores are multiplied by in that softmax; 1e30 for the largest alone, 0 for one
                that suits the scores: 1, or less where they lie more than 64 apart.
            backward: what the gradient of JumpReLU is taken to be.

        Returns:
            [N, classes] scores before any Softmax, finite or NaN; and [sums, N, ...] gradients.
        """
        count = len(x)
        feeds = {
            "x": x,
            _WEIGHTS: weights,
            _RIVALS: np.zeros(weights.shape[:2], np.bool_) if rivals is None else rivals,
            _SHARPNESS: np.zeros((count, 1), np.float32) if sharpness is None else sharpness[:, None],
        }
        parts = [
            self._run({name: values[start:stop] for name, values in feeds.items()}, size, backward)
            for start, stop, size in self._cut(count)
        ]
        scores, slopes = zip(*parts, strict=True)
        return np.concatenate(scores), np.moveaxis(np.concatenate(slopes), -1, 0)

    def _cut(self, count: int) -> list[tuple[int, int, int]]:
        """Where each part begins and ends, and how many samples its session takes."""
        parts: list[tuple[int, int, int]] = []
        start, largest = 0, self._batches[-1]
        while start < count or not parts:
            size = next((one for one in self._batches if one >= count - start), largest)
            parts.append((start, min(start + size, count), size))
            start += size
        return parts

    def _run(self, feeds: dict[str, npt.NDArray[Any]], size: int, backward: Backward) -> tuple[Floats, Floats]:
        count, session = len(feeds["x"]), self._session(size)
        filled = {name: _filled(values, size) for name, values in feeds.items()}
        filled[session.get_inputs()[0].name] = filled.pop("x").astype(np.float32, copy=False)
        scalars = {SMOOTH: np.asarray(backward.kind == "smooth"), SHARE: np.asarray(backward.share, np.float32)}
        scores, slopes = session.run(None, {**filled, **scalars})
        return scores[:count], slopes[:count]

    def _session(self, size: int) -> Any:
        if size not in self._sessions:
            model = gradient_model(self._model, (size, *self._shape))
            options = session_options(threads=1)
            try:
                self._sessions[size] = start(model.SerializeToString(), options, CPU, library=False)
            except CannotRunError as error:
                raise NoGradientError(f"onnxruntime cannot load the model of them: {error}") from error
        return self._sessions[size]


def gradient_model(model: onnx.ModelProto, shape: Sequence[int]) -> onnx.ModelProto:
    """The model that gives the scores and gradients of `Gradients.__call__` for inputs of one shape.

    Raises:
        ModelError, NoGradientError, RuntimeMissingError: see `Gradients`.
    """
    try:
        import onnx_ad

        from jr_onnx.robustness.gradients.rules import register
    except ImportError as error:
        raise RuntimeMissingError("onnx-ad is not installed, and gradients need it; pip install onnx-ad") from error
    register()
    prepared = prepare(model, shape)
    graph = prepared.graph
    graph.node.extend(fragment(_HEAD, {"SCORES": graph.output[0].name, "LOGITS": _LOGITS}, f"{PREFIX}head/"))
    graph.output[0].name = _LOGITS
    try:
        made = onnx_ad.reverse(prepared, prefix=PREFIX, layout="onnx")
    except Exception as error:  # what its rules do not expect of a model has no error of its own
        raise NoGradientError(one_line(error)) from error
    return _with_seed(made, graph.output[0].type.tensor_type.shape)


def _with_seed(made: onnx.ModelProto, scores: onnx.TensorShapeProto) -> onnx.ModelProto:
    """The weights of the scores computed in the graph, for they depend on the scores."""
    graph = made.graph
    seed = graph.input.pop().name
    outside = {
        "SEED": seed,
        **{name.rsplit(".")[-1].upper(): name for name in (_LOGITS, _WEIGHTS, _RIVALS, _SHARPNESS)},
    }
    nodes = list(graph.node)
    first = next(index for index, node in enumerate(nodes) if seed in node.input)
    nodes[first:first] = fragment(_SEED, outside, f"{PREFIX}seed/")
    set_nodes(graph, nodes)
    drop_unneeded(graph)  # such as the gradients of scales and bounds, which onnx-ad computes too
    batch, classes = (size.dim_value for size in scores.dim)
    graph.input.extend(
        onnx.helper.make_tensor_value_info(name, element_type, shape)
        for name, element_type, shape in (
            (_WEIGHTS, onnx.TensorProto.FLOAT, [batch, classes, "sums"]),
            (_RIVALS, onnx.TensorProto.BOOL, [batch, classes]),
            (_SHARPNESS, onnx.TensorProto.FLOAT, [batch, 1]),
            (SMOOTH, onnx.TensorProto.BOOL, []),
            (SHARE, onnx.TensorProto.FLOAT, []),
        )
    )
    return made


def _filled(values: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Filled up with copies of the last row, or with zeros."""
    missing = size - len(values)
    if not missing:
        return values
    return np.pad(values, [(0, missing), *[(0, 0)] * (values.ndim - 1)], mode="edge" if len(values) else "constant")


def _fixed_batch(model: onnx.ModelProto) -> int:
    """The one batch size that the file takes; 0 where it takes any."""
    defaults = {tensor.name for tensor in model.graph.initializer}
    sizes = next((value.type.tensor_type.shape.dim for value in model.graph.input if value.name not in defaults), ())
    return int(sizes[0].dim_value) if sizes else 0
