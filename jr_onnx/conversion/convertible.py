"""What is no model to convert, before its sites are looked at."""

from __future__ import annotations

import onnx

from jr_onnx.conversion.forms.write import is_for_cuda
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.conversion.metadata import MADE_FOR, hardened_metadata
from jr_onnx.errors import ModelError


def check_convertible(model: onnx.ModelProto) -> None:
    """Refuse what is no sound graph, and what is made for one machine or one provider.

    Raises:
        ModelError: it is one of these.
    """
    check_structure(model)
    optimized = why_optimized(model)
    if optimized:
        raise ModelError(f"{optimized}; convert the model that it was made from, and optimise again")


def why_optimized(model: onnx.ModelProto) -> str:
    """What a model was made for that only jr-onnx optimize makes; empty for any other model."""
    if MADE_FOR in hardened_metadata(model):
        return "was optimised for one machine"
    return "is optimised for CUDA" if is_for_cuda(model) else ""
