"""Two models compared for people: the sites that changed, and everything else that did."""

from __future__ import annotations

import contextlib
import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import onnx

from jr_onnx.arguments import as_model
from jr_onnx.checking.compare import differences
from jr_onnx.checking.compare_nodes import Kind, is_converted
from jr_onnx.conversion.element_types import type_name
from jr_onnx.conversion.graph.names import used_names
from jr_onnx.conversion.graph.scopes import Scope
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.conversion.sites.matchers import operator_name
from jr_onnx.conversion.sites.survey import Site
from jr_onnx.conversion.sites.surveyed import Side, read_side, text_of_jump
from jr_onnx.files.source import Source, about, open_model
from jr_onnx.version import __version__


@dataclass(frozen=True)
class SiteChange:
    """A site that is another one in the second model.

    Attributes:
        path: the scope path in the first model.
        scope: the path of the scope alone; empty for the main graph.
        element_type: ONNX's name of it.
        before: what it is in the first model: the operator, or the form of JumpReLU.
        after: what it is in the second model.
        jump_before: None where it is no JumpReLU, or the jump is not a constant.
        jump_after: the same in the second model.
        nodes_before: the numbers of its nodes in `DiffReport.drawing_before`.
        nodes_after: the numbers of its nodes in `DiffReport.drawing_after`.
    """

    path: str
    scope: str
    element_type: str
    before: str
    after: str
    jump_before: str | None
    jump_after: str | None
    nodes_before: tuple[int, ...] = field(repr=False)
    nodes_after: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True)
class OtherChange:
    """Anything else that differs; None stands for nothing being there, "" for something that is not shown."""

    kind: str
    subject: str
    before: str | None
    after: str | None
    node: str


@dataclass(frozen=True)
class DiffReport:
    """The result of `jr_onnx.diff`.

    Attributes:
        before: the first file; None for a model in memory.
        after: the second file.
        sites: the sites that changed, in the order of the nodes.
        sites_unchanged: how many did not.
        others: everything else that differs. Payloads over 4 KiB are not compared: `jr_onnx.check` does that.
        drawing_before: the nodes and edges of the first model.
        drawing_after: the nodes and edges of the second model.
    """

    before: Path | None
    after: Path | None
    sites: tuple[SiteChange, ...]
    sites_unchanged: int
    others: tuple[OtherChange, ...]
    drawing_before: tuple[DrawnNode, ...] = field(repr=False)
    drawing_after: tuple[DrawnNode, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the drawings, in types that JSON has."""
        return {
            "before": None if self.before is None else str(self.before),
            "after": None if self.after is None else str(self.after),
            "sites": [asdict(site) for site in self.sites],
            "sites_unchanged": self.sites_unchanged,
            "others": [asdict(change) for change in self.others],
        }


def diff(original: str | Path | onnx.ModelProto, hardened: str | Path | onnx.ModelProto) -> DiffReport:
    """The structural difference of two models; weights are not read.

    Args:
        original: the first model, a file or in memory.
        hardened: the second model; any two can be compared.

    Raises:
        ModelError: a model cannot be read, or is not a sound graph.

    Examples:
        >>> _ = jr_onnx.convert("models/digits.onnx", jump=0.5, output="hard.onnx")
        >>> [site.jump_after for site in jr_onnx.diff("models/digits.onnx", "hard.onnx").sites]
        ['0.5', '0.5', '0.5', '0.5']
    """
    with contextlib.ExitStack() as stack:
        given = as_model("original", original), as_model("hardened", hardened)
        first, second = (stack.enter_context(open_model(model)) for model in given)
        ours, theirs = _side(first), _side(second)
        return _report(first, second, ours, theirs)


def _side(source: Source) -> Side:
    with about(source.path):
        check_structure(source.skeleton)
        return read_side(source.skeleton)


def _report(first: Source, second: Source, ours: Side, theirs: Side) -> DiffReport:
    our_numbers, their_numbers = _numbers(ours), _numbers(theirs)
    both = [(site, theirs.sites[key]) for key, site in ours.sites.items() if key in theirs.sites]
    changed = [pair for pair in both if _described(pair[0]) != _described(pair[1])]
    sites = tuple(
        SiteChange(
            path=here.path,
            scope=here.scope.path,
            element_type=type_name(there.element_type),
            before=_described(here)[0],
            after=_described(there)[0],
            jump_before=_described(here)[1],
            jump_after=_described(there)[1],
            nodes_before=tuple(our_numbers[here.scope][index] for index in here.nodes),
            nodes_after=tuple(their_numbers[there.scope][index] for index in there.nodes),
        )
        for here, there in changed
    )
    shown = {there.path for _, there in changed}
    others = tuple(
        OtherChange(one.kind.text, one.subject, one.ours, one.theirs, one.node)
        for one in differences(ours, theirs)
        if one.kind not in (Kind.SITE_CONVERTED, Kind.SITE_NOT_CONVERTED)
        and not (one.kind is Kind.JUMP and one.node in shown)
    )
    unchanged = len(both) - len(changed)
    drawings = _drawing(ours, our_numbers), _drawing(theirs, their_numbers)
    return DiffReport(first.path, second.path, sites, unchanged, others, *drawings)


def _described(site: Site) -> tuple[str, str | None]:
    """What a site is, and its jump."""
    if not is_converted(site):
        return site.op_type, None
    form = site.hardened.form.name if site.hardened is not None else f"{site.op_type}, ThresholdedRelu"
    return form, text_of_jump(site)


# --- A model as nodes and edges to draw: one number a node over all scopes, edges by number ---------------------------

#: The operator (with its domain where that is not ONNX's own), the name (or operator and index), the path of the scope,
#: and the numbers of the nodes that it reads from; graph inputs and constants have none.
DrawnNode = tuple[str, str, str, tuple[int, ...]]


def _drawing(side: Side, numbers: Mapping[Scope, range]) -> tuple[DrawnNode, ...]:
    """All nodes and edges of a model, in and out of the bodies of nodes."""
    givers = {
        scope: {name: number for number, node in zip(own, scope.nodes, strict=True) for name in node.output if name}
        for scope, own in numbers.items()
    }
    nodes = []
    for scope in side.scopes:
        for label, node in zip(scope.labels, scope.nodes, strict=True):
            found = (_giver(givers, scope, name) for name in used_names(node))
            before = tuple(dict.fromkeys(number for number in found if number is not None))
            nodes.append((operator_name(node), label, scope.path, before))
    return tuple(nodes)


def _numbers(side: Side) -> dict[Scope, range]:
    """The numbers of each scope's nodes."""
    ends = [0, *accumulate(len(scope.nodes) for scope in side.scopes)]
    return {scope: range(start, end) for scope, (start, end) in zip(side.scopes, pairwise(ends), strict=True)}


def _giver(givers: Mapping[Scope, Mapping[str, int]], scope: Scope, name: str) -> int | None:
    around: Scope | None = scope
    while around is not None:
        if name in givers[around]:
            return givers[around][name]
        around = around.parent
    return None


# --- The difference as one HTML page that needs no network: the data as JSON in the page, drawn by its own script -----


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
    template = resources.files("jr_onnx.checking").joinpath("diff.html").read_text(encoding="utf-8")
    # The data last: nothing in them is taken for a placeholder.
    return template.replace("@TITLE@", html.escape(f"{before} | {after}")).replace("@DATA@", text)


def _nodes(drawing: Iterable[DrawnNode], operators: dict[str, int], scopes: dict[str, int]) -> list[list[object]]:
    """The nodes, with operators and scopes as numbers in a table of names."""
    return [
        [operators.setdefault(operator, len(operators)), label, scopes.setdefault(scope, len(scopes)), list(before)]
        for operator, label, scope, before in drawing
    ]
