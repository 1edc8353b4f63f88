"""Numbers of the whole model: how far the outputs moved, and that at jump 0 they did not.

The tolerance at jump 0 is measured on ORIGINAL alone. onnxruntime may compute it in several ways that all are right:
with and without its optimisations, and with the values around each Relu handed out (which keeps it from fusing the Relu
away, as JumpReLU does). Where a Relu is float16 or bfloat16, onnxruntime may leave out its rounding (it computes
in float, and drops casts that meet): there ORIGINAL also runs with the outputs of these Relus one unit in the last
place larger and smaller. As far as these runs lie apart, and one rounding of the largest output on top, HARDENED at
jump 0 may lie from ORIGINAL, and no further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.checking import rules
from jr_onnx.checking.copies import Workspace, exposed, nudged, values_of
from jr_onnx.checking.expected import Hardened
from jr_onnx.checking.findings import Finding, Measurement, finding
from jr_onnx.checking.samples import Sample
from jr_onnx.checking.sessions import ALL, DISABLED, Arrays, CannotRunError, Session, Way
from jr_onnx.comparison.side import read_side
from jr_onnx.conversion import convert
from jr_onnx.element_types import BFLOAT16, FLOAT16
from jr_onnx.errors import JrOnnxError
from jr_onnx.forms.table import TARGETS
from jr_onnx.metadata import JUMP_INPUT, TARGET
from jr_onnx.modelfile.source import Source
from jr_onnx.sites.matchers import SiteKind
from jr_onnx.sites.survey import Site

#: One unit in the last place, relative, of the types that a CPU computes in float.
_HALF = {FLOAT16: 2.0**-10, BFLOAT16: 2.0**-7}

Outputs = Mapping[str, npt.NDArray[Any]]


@dataclass
class ModelNumbers:
    """What came of it."""

    findings: list[Finding] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)


def check_model(
    original: Source, hardened: Hardened, samples: Sequence[Sample], way: Way, space: Workspace
) -> ModelNumbers:
    """Run both models on the same samples.

    Raises:
        CannotRunError: ORIGINAL or HARDENED does not run.
    """
    result = ModelNumbers()
    before, after = space.plain(original, "original"), space.plain(hardened.source, "hardened")
    ours, theirs = _runs(before, samples, way), _runs(after, samples, way)
    _compare(ours, theirs, result)
    _at_zero(original, hardened, samples, way, space, result)
    return result


def _runs(path: Path, samples: Sequence[Sample], way: Way) -> list[Outputs]:
    session = Session(path, way)
    return [session.run(sample.feeds) for sample in samples]


def _compare(ours: Sequence[Outputs], theirs: Sequence[Outputs], result: ModelNumbers) -> None:
    agreed: list[npt.NDArray[Any]] = []
    for name in ours[0] if ours else ():
        pairs = [(one[name], other[name]) for one, other in zip(ours, theirs, strict=True) if name in other]
        moved, size = 0.0, 0.0
        for one, other in pairs:
            if one.dtype.kind != "f" or one.shape != other.shape:
                continue
            a, b = one.astype(np.float64), other.astype(np.float64)
            fresh = np.isnan(b) & ~np.isnan(a)
            if fresh.any():
                result.findings.append(finding(rules.NEW_NAN, f"output '{name}': {int(fresh.sum())} new NaN"))
            moved, size = max(moved, _distance(a, b)), max(size, _largest(a))
            if a.ndim == 2 and a.shape[1] > 1 and not np.isnan(a).any() and not np.isnan(b).any():
                agreed.append(a.argmax(1) == b.argmax(1))
        if pairs and pairs[0][0].dtype.kind == "f":
            result.measurements.append(Measurement(f"output '{name}' moved by at most", moved))
            result.measurements.append(Measurement(f"output '{name}' of the original, largest", size))
    if agreed:
        share = float(np.concatenate(agreed).mean())
        result.measurements.append(Measurement("top-1 agreement on these inputs", share))


def _distance(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """The largest difference between two outputs; infinite where just one is NaN, or infinities differ."""
    with np.errstate(invalid="ignore"):
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        apart = np.where(same, 0.0, np.abs(one - other))
    return float(np.max(np.where(np.isnan(apart), np.inf, apart), initial=0.0))


def _largest(array: npt.NDArray[Any]) -> float:
    return float(np.max(np.abs(array[np.isfinite(array)]), initial=0.0))


def _at_zero(
    original: Source, hardened: Hardened, samples: Sequence[Sample], way: Way, space: Workspace, result: ModelNumbers
) -> None:
    goal = space.path("zero")
    try:
        _convert_to_zero(hardened, goal, space)
        zero = {level: _runs(goal, samples, Way(way.provider, way.library, level)) for level in (DISABLED, ALL)}
    except (JrOnnxError, CannotRunError) as error:
        result.findings.append(finding(rules.NOT_RUN, f"outputs at jump 0: {error}"))
        return
    sites = read_side(original.skeleton).sites.values()
    values = values_of([site for site in sites if not site.scope.parent], original.skeleton)
    open_ = space.write(original, exposed(original, values), "original-exposed")
    plain = space.plain(original, "original")
    ways = [Way(way.provider, False, level) for level in (ALL, DISABLED)]
    paths = [plain, open_, *_nudged(original, [site for site in sites if site.element_type in _HALF], space)]
    runs = [_runs(path, samples, one) for path in paths for one in ways]
    for name in (value.name for value in original.skeleton.graph.output):
        _judge_zero(name, runs, zero, result)


def _nudged(original: Source, sites: Sequence[Site], space: Workspace) -> list[Path]:
    """Copies of ORIGINAL in which the half-precision Relus of the main graph give a little more, and a little less."""
    main = [site for site in sites if not site.scope.path and site.kind is not SiteKind.RECURRENT]
    if not main:
        return []
    unit = max(_HALF[site.element_type] for site in main)
    factors = {"more": 1 + unit, "less": 1 - unit}
    return [space.write(original, nudged(original, main, by), f"original-{name}") for name, by in factors.items()]


def _convert_to_zero(hardened: Hardened, goal: Path, space: Workspace) -> None:
    """HARDENED with every jump at 0."""
    target, _, inline = hardened.metadata.get(TARGET, "custom-op").partition(" ")
    convert(
        space.plain(hardened.source, "hardened"),
        jump=0.0,
        output=goal,
        target=next((known for known in TARGETS if known == target), "custom-op"),
        inline=inline == "inline",
        jump_input=hardened.metadata.get(JUMP_INPUT),
        allow_empty=True,
        force=True,
    )


def _judge_zero(
    name: str, runs: Sequence[Sequence[Arrays]], zero: Mapping[str, Sequence[Arrays]], result: ModelNumbers
) -> None:
    worst, allowed = 0.0, 0.0
    for index, reference in enumerate(runs[0]):
        if name not in reference or reference[name].dtype.kind != "f":
            return
        a = reference[name]
        others = [run[index][name].astype(np.float64) for run in runs]
        spread = max(_distance(one, other) for one in others for other in others)
        tolerance = spread + float(np.finfo(a.dtype).eps) * _largest(a.astype(np.float64))
        for level, outputs in zero.items():
            found = _distance(a.astype(np.float64), outputs[index][name].astype(np.float64))
            worst, allowed = max(worst, found), max(allowed, tolerance)
            if not found <= tolerance:
                text = f"output '{name}' differs by {found:.3g} at {level}, the tolerance is {tolerance:.3g}"
                result.findings.append(finding(rules.JUMP_ZERO, text))
    result.measurements.append(Measurement(f"output '{name}' at jump 0 differs by at most", worst))
    result.measurements.append(Measurement(f"output '{name}' at jump 0, tolerance", allowed))
