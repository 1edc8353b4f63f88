"""The difference as one HTML page that needs no network: the data as JSON in the page, drawn by its own script."""

from __future__ import annotations

import html
import json
from importlib import resources

from jr_onnx.diffing.diff import DiffReport
from jr_onnx.diffing.drawing import Drawing
from jr_onnx.version import __version__


def to_html(report: DiffReport) -> str:
    """The page."""
    operators: dict[str, int] = {}
    scopes: dict[str, int] = {}
    before, after = str(report.before or "first model"), str(report.after or "second model")
    data = {
        "before": {"name": before, "nodes": _nodes(report.drawing_before, operators, scopes)},
        "after": {"name": after, "nodes": _nodes(report.drawing_after, operators, scopes)},
        **{key: value for key, value in report.to_dict().items() if key not in ("before", "after")},
        "version": __version__,
    }
    data["operators"], data["scopes"] = list(operators), list(scopes)
    # Names in a model are any text: "<" must not end the script element that holds the data.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    template = resources.files("jr_onnx.diffing").joinpath("page.html").read_text(encoding="utf-8")
    # The data last: nothing in them is taken for a placeholder.
    return template.replace("@TITLE@", html.escape(f"{before} | {after}")).replace("@DATA@", text)


def _nodes(drawing: Drawing, operators: dict[str, int], scopes: dict[str, int]) -> list[list[object]]:
    """[operator, label, scope, numbers of the nodes before], operators and scopes as numbers in a table of names."""
    return [
        [
            operators.setdefault(node.operator, len(operators)),
            node.label,
            scopes.setdefault(node.scope, len(scopes)),
            list(node.before),
        ]
        for node in drawing.nodes
    ]
