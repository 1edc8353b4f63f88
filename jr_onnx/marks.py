"""What jr-onnx puts its name on: names of the values it adds, and metadata of models and of nodes that it wrote."""

from __future__ import annotations

import onnx

#: Every key and every value's name that jr-onnx makes up begins with this.
PREFIX = "jr_onnx."

#: On the last node of a form that consists of ONNX's own operators: the form's name. Without it a ThresholdedRelu is
#: the model's own.
FORM = f"{PREFIX}form"

#: On RNN, GRU and LSTM: which activations were a Relu, as "0" or "0,2".
ACTIVATIONS = f"{PREFIX}activations"


def mark_of(node: onnx.NodeProto, key: str) -> str | None:
    """The value of a mark; None where the node does not have it."""
    return next((str(entry.value) for entry in node.metadata_props if entry.key == key), None)


def set_marks(node: onnx.NodeProto, marks: dict[str, str]) -> None:
    """Put marks in the place of those that the node has."""
    kept = [entry for entry in node.metadata_props if not str(entry.key).startswith(PREFIX)]
    del node.metadata_props[:]
    node.metadata_props.extend(kept)
    node.metadata_props.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in marks.items())
