"""Images with labels, as a model is tuned and evaluated on: where they come from, and what makes them unfit."""

from jr_onnx.robustness.dataset.classifier import Classifier, read_classifier
from jr_onnx.runtime.data.dataset import Dataset, split
from jr_onnx.runtime.data.loading import load_data

__all__ = ["Classifier", "Dataset", "load_data", "read_classifier", "split"]
