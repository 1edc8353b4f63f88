"""Pieces of graphs written as text, as `onnx.parser` reads it."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx.parser


def fragment(text: str, outside: Mapping[str, str], prefix: str) -> list[onnx.NodeProto]:
    """The nodes of a text.

    Args:
        text: the lines between the braces of a graph.
        outside: name in the text -> the value of the graph around it that it stands for.
        prefix: what all other names get.
    """
    nodes = list(onnx.parser.parse_graph(f"fragment () => () {{ {text} }}").node)
    _rename(nodes, outside, prefix)
    return nodes


def _rename(nodes: list[onnx.NodeProto], outside: Mapping[str, str], prefix: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [outside.get(name, prefix + name) for name in names]
        for attribute in node.attribute:
            _rename(list(attribute.g.node), outside, prefix)
            for value in attribute.g.output:
                value.name = prefix + value.name
                value.type.tensor_type.ClearField("shape")  # the parser takes no brackets for a scalar
