"""Two models compared for people: the sites that changed, and everything else that did."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx

from jr_onnx.arguments import as_model
from jr_onnx.comparison.difference import Kind
from jr_onnx.comparison.nodes import is_converted
from jr_onnx.comparison.side import Side, read_side
from jr_onnx.comparison.structure import differences
from jr_onnx.diffing.drawing import Drawing, drawing_of
from jr_onnx.element_types import type_name
from jr_onnx.graph.structure import check_structure
from jr_onnx.modelfile.source import Source, about, open_model
from jr_onnx.sites.jumps import text_of_jump
from jr_onnx.sites.survey import Site


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
    drawing_before: Drawing = field(repr=False)
    drawing_after: Drawing = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the drawings, in types that JSON has."""
        return {
            "before": None if self.before is None else str(self.before),
            "after": None if self.after is None else str(self.after),
            "sites": [asdict(site) for site in self.sites],
            "sites_unchanged": self.sites_unchanged,
            "others": [asdict(change) for change in self.others],
        }


def diff(before: str | Path | onnx.ModelProto, after: str | Path | onnx.ModelProto) -> DiffReport:
    """The structural difference of two models; weights are not read.

    Raises:
        ModelError: a model cannot be read, or is not a sound graph.
    """
    with contextlib.ExitStack() as stack:
        given = as_model("before", before), as_model("after", after)
        first, second = (stack.enter_context(open_model(model)) for model in given)
        ours, theirs = _side(first), _side(second)
        return _report(first, second, ours, theirs)


def _side(source: Source) -> Side:
    with about(source.path):
        check_structure(source.skeleton)
        return read_side(source.skeleton)


def _report(first: Source, second: Source, ours: Side, theirs: Side) -> DiffReport:
    drawing_before, drawing_after = drawing_of(ours), drawing_of(theirs)
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
            nodes_before=drawing_before.numbers(here),
            nodes_after=drawing_after.numbers(there),
        )
        for here, there in changed
    )
    shown = {there.path for _, there in changed}
    others = tuple(
        OtherChange(one.kind.value, one.subject, one.ours, one.theirs, one.node)
        for one in differences(ours, theirs)
        if one.kind not in (Kind.SITE_CONVERTED, Kind.SITE_NOT_CONVERTED)
        and not (one.kind is Kind.JUMP and one.node in shown)
    )
    unchanged = len(both) - len(changed)
    return DiffReport(first.path, second.path, sites, unchanged, others, drawing_before, drawing_after)


def _described(site: Site) -> tuple[str, str | None]:
    """What a site is, and its jump."""
    if not is_converted(site):
        return site.op_type, None
    form = site.hardened.form.name if site.hardened is not None else f"{site.op_type}, ThresholdedRelu"
    return form, text_of_jump(site)
