"""What a model looks like from outside, and models that are no classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import DOUBLE, FLOAT, FLOAT16, INT64, MODELS, make_model, node, value

from jr_onnx import ModelError, OptionError
from jr_onnx.robustness.dataset import Classifier, read_classifier
from jr_onnx.robustness.dataset.classifier import guessing


def model(inputs: Sequence[Any], outputs: Sequence[Any], nodes: Sequence[onnx.NodeProto] = ()) -> onnx.ModelProto:
    return make_model(nodes or [node("Relu", "x", "y")], inputs, outputs)


def test_the_digits_classifier() -> None:
    found = read_classifier(MODELS / "digits.onnx")
    assert found == Classifier("image", ("N", 1, 8, 8), FLOAT, "logits", 10, "NCHW")
    assert found.batch_size is None


@pytest.mark.parametrize("name", ["mlp", "residual", "half", "relu6"])
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_exported_classifiers_are_read(name: str, exporter: str) -> None:
    found = read_classifier(MODELS / f"{name}.{exporter}.onnx")
    assert found.classes is not None
    assert found.classes > 1


@pytest.mark.parametrize("element_type", [FLOAT, FLOAT16, DOUBLE])
def test_samples_are_fed_in_the_models_type(element_type: int) -> None:
    found = read_classifier(model([value("x", element_type, ["N", 4])], [value("y", element_type, ["N", 4])]))
    fed = found.feed(np.zeros((2, 4), np.float32))
    assert fed["x"].dtype == onnx.helper.tensor_dtype_to_np_dtype(element_type)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (("N", 3, 8, 8), "NCHW"),
        (("N", 8, 8, 3), "NHWC"),
        (("N", 8, 8, 1), "NHWC"),
        (("N", 3, 8, 3), "NCHW"),
        (("N", 16, 8, 8), "NCHW"),
        (("N", None, None, None), "NCHW"),
        (("N", 3), "NCHW"),
    ],
)
def test_the_layout_is_told_from_the_channels(shape: Any, layout: str) -> None:
    nodes = [node("Flatten", "x", "y")]
    assert read_classifier(model([value("x", FLOAT, shape)], [value("y", FLOAT, ["N", 7])], nodes)).layout == layout


def test_a_number_of_classes_that_only_a_run_can_tell() -> None:
    found = read_classifier(model([value("x", FLOAT, ["N", "c"])], [value("y", FLOAT)]))
    assert found.classes is None
    found.check_labels(10**6, "anything")


def test_an_input_with_a_default_is_not_fed() -> None:
    nodes = [node("Mul", "x jump", "y")]
    inputs = [value("x", FLOAT, [5, 4]), value("jump", FLOAT, [])]
    made = make_model(nodes, inputs, [value("y", FLOAT, [5, 4])], initializers={"jump": np.float32(1)})
    found = read_classifier(made)
    assert found.input == "x"
    assert found.batch_size == 5


@pytest.mark.parametrize(
    ("inputs", "outputs", "complaint"),
    [
        ([("x", FLOAT, ["N", 4])], [("y", FLOAT, ["N", 4]), ("x", FLOAT, ["N", 4])], r"has 2 outputs \(y, x\)"),
        ([("x", FLOAT, ["N", 4]), ("z", FLOAT, [1])], [("y", FLOAT, ["N", 4])], r"has 2 inputs \(x, z\)"),
        ([("x", FLOAT, ["N", 1])], [("y", FLOAT, ["N", 1])], "no classifier of two or more classes"),
        ([("x", FLOAT, ["N", 4, 8, 8])], [("y", FLOAT, ["N", 4, 8, 8])], r"output 'y' is \[N, 4, 8, 8\]"),
        ([("x", FLOAT, [4])], [("y", FLOAT, [4])], r"input 'x' has the shape \[4\]"),
        ([("x", FLOAT, None)], [("y", FLOAT, ["N", 4])], "input 'x' has no known shape"),
        ([("x", INT64, ["N", 4])], [("y", INT64, ["N", 4])], "input 'x' is int64"),
    ],
)
def test_models_that_are_no_classifiers(inputs: Any, outputs: Any, complaint: str) -> None:
    made = model([value(*one) for one in inputs], [value(*one) for one in outputs])
    with pytest.raises(ModelError, match=complaint) as caught:
        read_classifier(made)
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_that_gives_the_class_itself() -> None:
    nodes = [node("ArgMax", "x", "y", axis=1, keepdims=0)]
    with pytest.raises(ModelError, match="output 'y' is int64, no scores; export the model with its logits"):
        read_classifier(model([value("x", FLOAT, ["N", 4])], [value("y", INT64, ["N"])], nodes))


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"m\.onnx"):
        read_classifier(tmp_path / "m.onnx")


DIGITS = Classifier("x", ("N", 1, 8, 8), FLOAT, "y", 3, "NCHW")


def test_the_class_is_the_highest_score_and_none_where_there_is_nan() -> None:
    scores = np.array([[1, 3, 2], [5, 5, 0], [np.nan, 1, 2], [-np.inf, -1, np.inf]], np.float32)
    assert DIGITS.predictions(scores).tolist() == [1, 0, -1, 2]


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 2), (4, 3, 1)])
def test_scores_that_are_not_one_a_class_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="not as one score a class"):
        DIGITS.predictions(np.zeros(shape, np.float32))


def test_samples_must_fit_the_input() -> None:
    DIGITS.check_shape((100, 1, 8, 8), "samples")
    with pytest.raises(OptionError, match=r"samples have the shape \[100, 1, 8, 9\]"):
        DIGITS.check_shape((100, 1, 8, 9), "samples")


@pytest.mark.parametrize(
    ("accuracy", "classes", "doubted"),
    [
        (1.0, 2, False),
        (0.76, 2, False),
        (0.5, 2, True),
        (0.7, 2, True),
        (0.9, 3, False),
        (0.21, 10, False),
        (0.2, 10, True),
    ],
)
def test_labels_are_doubted_where_a_model_is_hardly_better_than_guessing(
    accuracy: float, classes: int, doubted: bool
) -> None:
    assert bool(guessing(accuracy, classes)) is doubted
    assert not guessing(accuracy, None)
