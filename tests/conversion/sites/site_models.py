"""What the tests of sites share: values, calls of functions, and where the sites are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from support import (
    FLOAT,
    make_model,
    node,
    report_of,
    value,
)

from jr_onnx import find_sites

X, Y = value("x", FLOAT, [4]), value("y", FLOAT, [4])
VALUES = np.array([-1, 0.25, 0.5, 2], np.float32)


def paths(model: onnx.ModelProto) -> list[str]:
    """The scope paths of the sites."""
    return [site.path for site in find_sites(model)]


def reasons(model: onnx.ModelProto, **options: Any) -> dict[str, str]:
    """Scope path -> why the node is left alone."""
    return {left.path: left.reason for left in report_of(model, allow_empty=True, **options).left_alone}


def calling(functions: list[onnx.FunctionProto], nodes: list[onnx.NodeProto], opset: int = 18) -> onnx.ModelProto:
    """A model that calls functions of the domain f."""
    return make_model(nodes, [X], [Y], opset=opset, functions=functions, domains=["f"])


def call(name: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node that calls a function of the domain f."""
    return node(name, inputs, outputs, domain="f", **attributes)
