"""Nodes of a graph: put in place of what it had, dropped if unneeded, and read from text, as `onnx.parser` does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx
import onnx.parser

from jr_onnx.conversion.graph.names import used_names


def set_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Give a graph these nodes, of which some may be its own: they are copied before its list is cleared."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    graph.ClearField("node")
    graph.node.extend(copies)


def drop_unneeded(graph: onnx.GraphProto) -> None:
    """Drop the nodes that no output of the graph needs."""
    needed, kept = {value.name for value in graph.output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(used_names(node))
            kept.append(node)
    set_nodes(graph, reversed(kept))


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
