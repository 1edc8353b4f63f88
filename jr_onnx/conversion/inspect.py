"""What is in a model: every node that is a ReLU or looks like one, and whether and how it would be converted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from jr_onnx.arguments import as_model
from jr_onnx.conversion.element_types import type_name
from jr_onnx.conversion.graph.scopes import all_scopes
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.conversion.metadata import hardened_metadata
from jr_onnx.conversion.plan import lost_sites
from jr_onnx.conversion.report import InspectedNode, InspectionReport, quantized_site
from jr_onnx.conversion.sites.matchers import SiteKind
from jr_onnx.conversion.sites.survey import LeftAlone, Site, Survey, survey, survey_written_out
from jr_onnx.conversion.sites.surveyed import numbers_of
from jr_onnx.conversion.thresholds import with_thresholds
from jr_onnx.files.source import Source, open_model

_HOW = {
    SiteKind.RELU: "JumpReLU in its place",
    SiteKind.HARDENED: "is a JumpReLU; its jump is replaced",
    SiteKind.FUSED: "JumpReLU behind it",
    SiteKind.CLIP: "JumpReLU behind it, with `clip=True`",
    SiteKind.QUANTIZED: "JumpReLU of its integers behind it",
    SiteKind.RECURRENT: "ThresholdedRelu as its activation",
}


def find_sites(model: str | Path | onnx.ModelProto) -> Sequence[Site]:
    """The sites of a model: what `convert` with `clip=True` would convert, in the order of the nodes.

    Raises:
        ModelError: the input cannot be read, or is not an ONNX model.

    Examples:
        >>> len(jr_onnx.find_sites("models/digits.onnx"))
        4
    """
    with open_model(as_model("model", model)) as source:
        return _survey(source).sites


def inspect(model: str | Path | onnx.ModelProto) -> InspectionReport:
    """Every node of a model that is a ReLU or looks like one; nothing is changed.

    Raises:
        ModelError: the input cannot be read, or is not an ONNX model.

    Examples:
        >>> [(node.op_type, node.converted) for node in jr_onnx.inspect("models/digits.onnx").nodes][:2]
        [('Relu', True), ('Relu', True)]
    """
    with open_model(as_model("model", model)) as source:
        return _report(source)


def _survey(source: Source) -> Survey:
    model = source.skeleton
    check_structure(model)
    return survey(model, tuple(all_scopes(model)), clip=True)


def _report(source: Source) -> InspectionReport:
    model, found = source.skeleton, _survey(source)
    filled = with_thresholds(source)
    own = survey_written_out(filled, tuple(all_scopes(filled)))
    lost = lost_sites(model, found)
    return InspectionReport(
        source=source.path,
        ir_version=model.ir_version,
        opsets={opset.domain: opset.version for opset in model.opset_import},
        functions=len(model.functions),
        hardened=hardened_metadata(model),
        nodes=(
            *(_site(site, lost or site.problem) for site in found.sites),
            *(_written_out(site) for site in own.sites),
            *(_left_alone(left) for left in (*found.left_alone, *found.others, *own.left_alone)),
        ),
    )


def _site(site: Site, problem: str) -> InspectedNode:
    jump = numbers_of(site)
    return InspectedNode(
        path=site.path,
        scope=site.scope.path,
        name=site.name,
        op_type=site.op_type,
        element_type=type_name(site.element_type) if site.element_type else None,
        shape=site.shape,
        opset=site.opset,
        converted=not problem,
        how=problem or _HOW[site.kind],
        jump=jump,
        quantized=quantized_site(site, jump),
    )


def _written_out(site: Site) -> InspectedNode:
    node = _site(site, site.problem)
    written = site.hardened.form.name if site.hardened is not None else ""
    how = f"JumpReLU written out as {written}; `recognise=True` makes it jr_onnx::JumpReLU"
    return node if site.problem else replace(node, how=how)


def _left_alone(left: LeftAlone) -> InspectedNode:
    return InspectedNode(left.path, left.scope, left.name, left.op_type, None, None, None, False, left.reason)
