"""What was done, or would be: the answers of the API, for a program (`to_dict`) as for a person."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import onnx

from jr_onnx.conversion.element_types import type_name
from jr_onnx.conversion.graph.value_types import Dimension
from jr_onnx.conversion.plan import Plan, PlannedSite
from jr_onnx.conversion.policy import Jump
from jr_onnx.conversion.sites.survey import LeftAlone, Site

if TYPE_CHECKING:  # type checkers know it without the package; Python itself has the default from 3.13 on
    from typing_extensions import TypeVar

    Model = TypeVar("Model", covariant=True, default=onnx.ModelProto | None)
else:
    from typing import TypeVar

    Model = TypeVar("Model", covariant=True)


@dataclass(frozen=True)
class QuantizedSite:
    """How the integers of a site stand for numbers.

    Attributes:
        scale: what one step is.
        zero_point: the integer that stands for 0.
        threshold: the largest integer that becomes the zero point; several are one a channel; None without a jump.
        jump: what the threshold stands for, to which the jump is rounded down; likewise.
    """

    scale: float
    zero_point: int
    threshold: int | tuple[int, ...] | None
    jump: Jump | None


@dataclass(frozen=True)
class ConvertedSite:
    """One site that was converted.

    Attributes:
        path: the scope path of the node, "If_3/then_branch/Relu_1".
        scope: the path of the scope alone; empty for the main graph.
        name: the node's name; may be empty.
        op_type: what stood there.
        element_type: ONNX's name of it, in lower case.
        shape: None where the rank is unknown; a dimension may be a number, a name or None.
        jump: rounded to the element type; several are one a channel.
        lowering: what was written.
        reason: why that, where it is not the target's preferred form; else empty.
        differs: where its values differ from the definition of JumpReLU; empty if nowhere.
        quantized: how its integers stand for numbers; None where they are numbers themselves.
    """

    path: str
    scope: str
    name: str
    op_type: str
    element_type: str
    shape: tuple[Dimension, ...] | None
    opset: int
    jump: Jump
    lowering: str
    reason: str
    differs: str
    quantized: QuantizedSite | None = None


@dataclass(frozen=True)
class ConversionReport(Generic[Model]):
    """The result of `jr_onnx.convert`.

    Attributes:
        source: the file that was read; None for a model in memory.
        output: the file that was written, or would be in a dry run; None for a model in memory.
        written: whether it was.
        model: the hardened model, if a model in memory was given, and it was no dry run.
        target: what was asked for: custom-op, subgraph, standard or hard-sigmoid.
        sites: what was converted, in the order of the nodes.
        left_alone: what looks like a ReLU and was not converted, and why.
        notes: what the user should know besides.
        ir_version: of the hardened model.
        ir_version_before: of the model that was given.
        external_data: the locations of its external data files.
        external_mode: whether they are shared or copied ("share", "copy"); None where there are none.
        size: bytes of the hardened model, without external data.
        seconds: wall time.
    """

    source: Path | None
    output: Path | None
    written: bool
    model: Model = field(repr=False)
    target: str
    sites: tuple[ConvertedSite, ...]
    left_alone: tuple[LeftAlone, ...]
    notes: tuple[str, ...]
    ir_version: int
    ir_version_before: int
    external_data: tuple[str, ...]
    external_mode: str | None
    size: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model itself, in types that JSON has."""
        return _without_model(self)


@dataclass(frozen=True)
class HardenReport:
    """The result of `jr_onnx.ir.harden` and `jr_onnx.graphsurgeon.harden`; the attributes are those of
    `jr_onnx.ConversionReport`."""

    target: str
    sites: tuple[ConvertedSite, ...]
    left_alone: tuple[LeftAlone, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RevertReport(Generic[Model]):
    """The result of `jr_onnx.revert`.

    Attributes:
        source: the hardened file; None for a model in memory.
        output: the file that was written; None for a model in memory.
        model: the original, if a model in memory was given.
        exact: whether the structure has the SHA-256 that the hardened model records of its original, so that the
            original is given back byte for byte, with the weights that the hardened model has.
        why_not: why it is not; empty if it is.
        sites: how many JumpReLUs there were.
        external_data: the locations of its external data files.
        size: bytes of the original, without external data.
        seconds: wall time.
    """

    source: Path | None
    output: Path | None
    model: Model = field(repr=False)
    exact: bool
    why_not: str
    sites: int
    external_data: tuple[str, ...]
    size: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model itself, in types that JSON has."""
        return _without_model(self)


@dataclass(frozen=True)
class InspectedNode:
    """One node that is a ReLU or looks like one.

    Attributes:
        element_type: ONNX's name of it; None where it is not known or does not matter.
        converted: whether `convert` converts it, as it is.
        how: how it is converted, or why it is not.
        jump: of a JumpReLU that is there already; None of anything else, and where it is no constant.
        quantized: how its integers stand for numbers; None where they are numbers themselves.
    """

    path: str
    scope: str
    name: str
    op_type: str
    element_type: str | None
    shape: tuple[Dimension, ...] | None
    opset: int | None
    converted: bool
    how: str
    jump: Jump | None = None
    quantized: QuantizedSite | None = None


@dataclass(frozen=True)
class InspectionReport:
    """The result of `jr_onnx.inspect`.

    Attributes:
        opsets: domain -> version, as the model imports them.
        hardened: the model's jr_onnx metadata, where it was hardened before; else empty.
    """

    source: Path | None
    ir_version: int
    opsets: dict[str, int]
    functions: int
    hardened: dict[str, str]
    nodes: tuple[InspectedNode, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return _plain(self)


def converted_site(planned: PlannedSite) -> ConvertedSite:
    """A planned site as reports show it."""
    site = planned.site
    return ConvertedSite(
        path=site.path,
        scope=site.scope.path,
        name=site.name,
        op_type=site.op_type,
        element_type=type_name(site.element_type),
        shape=site.shape,
        opset=site.opset,
        jump=planned.jump,
        lowering=planned.form.name,
        reason=planned.reason,
        differs=planned.differs,
        quantized=quantized_site(site, planned.jump),
    )


def harden_report(target: str, plan: Plan) -> HardenReport:
    """The report on a plan that was carried out in memory."""
    return HardenReport(target, tuple(map(converted_site, plan.sites)), plan.left_alone, plan.notes)


def _without_model(report: Any) -> dict[str, Any]:
    plain = _plain(replace(report, model=None))
    del plain["model"]
    return plain


def quantized_site(site: Site, jump: Jump | None) -> QuantizedSite | None:
    """How the integers of a site stand for numbers, and what a jump, rounded to float, is among them."""
    known = site.quantization
    if known is None:
        return None
    if jump is None:
        return QuantizedSite(known.scale, known.zero_point, None, None)
    if not isinstance(jump, tuple):
        threshold = known.threshold(jump)
        return QuantizedSite(known.scale, known.zero_point, threshold, float(known.dequantized(threshold)))
    thresholds = tuple(map(known.threshold, jump))
    return QuantizedSite(known.scale, known.zero_point, thresholds, tuple(map(float, known.dequantized(thresholds))))


def _plain(report: Any) -> dict[str, Any]:
    """A report in types that JSON has."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(report), default=str))
    return plain
