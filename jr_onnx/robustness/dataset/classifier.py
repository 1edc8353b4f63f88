"""What a model must be to be tuned and evaluated: one float tensor in, one score a class out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.conversion.element_types import NUMPY_TYPES, type_name
from jr_onnx.conversion.graph.names import initializer_names
from jr_onnx.conversion.graph.scopes import all_scopes
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.conversion.graph.value_types import Dimension, ValueType, ValueTypes
from jr_onnx.errors import ModelError
from jr_onnx.files.source import open_model
from jr_onnx.runtime.data.fitting import Layout, check_labels, check_shape, layout_of, shape_text

#: How many times more often than by guessing a model must be right for its labels to be believed. Of few classes, half
#: of the way from guessing to being always right is enough.
_GUESSING = 2


def guessing(accuracy: float, classes: int | None) -> str:
    """What to say of a model that is hardly ever right; empty where it is often, or the classes are not known."""
    if classes is None or accuracy > min(_GUESSING / classes, (1 + 1 / classes) / 2):
        return ""
    return (
        f"The original is right on {accuracy:.1%} of the samples, which guessing among {classes} classes might be too: "
        "are the order of the classes, `mean` and `std` those that it was trained with?"
    )


@dataclass(frozen=True)
class Classifier:
    """The outside of a classifier.

    Attributes:
        input: the name of the input that must be fed. One with a default, such as a jump input, is none.
        shape: its shape, the batch first; a dimension may be a number, a name or None.
        element_type: `TensorProto.DataType` of the input.
        output: the name of the output, one score a class: logits or probabilities of shape [N, classes].
        classes: how many; None where only a run can tell.
        layout: where the channels are in an input of rank 4.
    """

    input: str
    shape: tuple[Dimension, ...]
    element_type: int
    output: str
    classes: int | None
    layout: Layout

    @property
    def batch_size(self) -> int | None:
        """The one batch size that the model takes; None where it takes any."""
        return self.shape[0] if isinstance(self.shape[0], int) else None

    def feed(self, inputs: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """What to give to onnxruntime: the input by name, in the model's element type."""
        return {self.input: np.ascontiguousarray(inputs, NUMPY_TYPES[self.element_type])}

    def predictions(self, scores: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The class with the highest score, the lowest number where several have it; -1 where a score is NaN.

        Raises:
            ModelError: the scores are not [N, classes] with at least two classes.
        """
        if scores.ndim != 2 or scores.shape[1] < 2 or self.classes not in (None, scores.shape[1]):
            raise ModelError(f"output '{self.output}' came out as {list(scores.shape)}, not as one score a class")
        found: npt.NDArray[np.int64] = scores.argmax(axis=1).astype(np.int64)
        found[np.isnan(scores).any(axis=1)] = -1
        return found

    def check_shape(self, shape: tuple[int, ...], what: str) -> None:
        """Whether samples fit the input; `shape` is [N, ...], the number of samples does not matter.

        Raises:
            OptionError: they do not; the message says so of `what`.
        """
        check_shape(shape, self.shape, what)

    def check_labels(self, highest: int, what: str) -> None:
        """Whether a label is a class of the model.

        Raises:
            OptionError: it is not.
        """
        check_labels(highest, self.classes, what)


def read_classifier(model: str | Path | onnx.ModelProto) -> Classifier:
    """Look at a model from outside, by onnx alone; no weight is read.

    Raises:
        ModelError: the model cannot be read, or is no classifier: it has several inputs or outputs, does not take
            float, or does not give one score a class.
    """
    with open_model(model) as source:
        return _classifier(source.skeleton)


def _classifier(model: onnx.ModelProto) -> Classifier:
    check_structure(model)
    defaults = set(initializer_names(model.graph))
    inputs = [value.name for value in model.graph.input if value.name not in defaults]
    outputs = [value.name for value in model.graph.output]
    for kind, names in (("input", inputs), ("output", outputs)):
        if len(names) != 1:
            listed = f" ({', '.join(names)})" if names else ""
            raise ModelError(f"the model has {len(names)} {kind}s{listed}; a classifier has one, export it with one")
    scopes = tuple(all_scopes(model))
    types = ValueTypes(model, scopes)
    (given,) = types.lookup(scopes[0], inputs[0]) or (None,)
    (scores,) = types.lookup(scopes[0], outputs[0]) or (None,)
    taken = _check_input(inputs[0], given)
    shape = taken.shape or ()
    classes = _check_output(outputs[0], scores)
    return Classifier(inputs[0], shape, taken.element_type, outputs[0], classes, layout_of(shape))


def _check_input(name: str, given: ValueType | None) -> ValueType:
    if given is None or given.shape is None or len(given.shape) < 2:
        shape = "no known shape" if given is None or given.shape is None else f"the shape {shape_text(given.shape)}"
        raise ModelError(f"input '{name}' has {shape}; a classifier takes [N, ...], samples of one or more numbers")
    if given.element_type not in NUMPY_TYPES:
        raise ModelError(f"input '{name}' is {type_name(given.element_type)}; images in floating point are needed")
    return given


def _check_output(name: str, scores: ValueType | None) -> int | None:
    if scores is None:
        return None
    if scores.element_type not in NUMPY_TYPES:
        raise ModelError(
            f"output '{name}' is {type_name(scores.element_type)}, no scores; export the model with its logits"
        )
    if scores.shape is None:
        return None
    if len(scores.shape) != 2 or scores.shape[1] in (0, 1):
        raise ModelError(
            f"output '{name}' is {shape_text(scores.shape)}, not [N, classes] with one score a class: this is no "
            "classifier of two or more classes"
        )
    return scores.shape[1] if isinstance(scores.shape[1], int) else None
