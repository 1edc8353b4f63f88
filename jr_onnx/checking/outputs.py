"""Numbers of the whole model: how far the outputs moved, and that at jump 0 they did not.

The tolerance at jump 0 is measured on ORIGINAL alone. onnxruntime may compute it in several ways that all are right:
with and without its optimisations, and with copies of the values around each Relu (which keep it from fusing the Relu
away, as JumpReLU does). Where a Relu is float16 or bfloat16, onnxruntime may leave out its rounding (it computes
in float, and drops casts that meet): there ORIGINAL also runs with the outputs of these Relus one unit in the last
place larger and smaller. As far as these runs lie apart, and one rounding of the largest output on top, HARDENED at
jump 0 may lie from ORIGINAL, and no further; integers and booleans must lie among the values of these runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.checking import rules
from jr_onnx.checking.expected import Hardened, JumpsByPath
from jr_onnx.checking.report import Results
from jr_onnx.conversion.convert import convert
from jr_onnx.conversion.element_types import BFLOAT16, DOUBLE, FLOAT, FLOAT16
from jr_onnx.conversion.forms.table import TARGETS
from jr_onnx.conversion.metadata import JUMP_INPUT, RECOGNISE, TARGET
from jr_onnx.conversion.sites.matchers import SiteKind
from jr_onnx.conversion.sites.survey import Site
from jr_onnx.conversion.sites.surveyed import jump_of, read_side
from jr_onnx.errors import JrOnnxError
from jr_onnx.files.source import Source, open_file
from jr_onnx.files.splice import Piece
from jr_onnx.runtime.agreement import why_random
from jr_onnx.runtime.execution import ALL, DISABLED, CannotRunError, Session, Way
from jr_onnx.runtime.inputs import Sample
from jr_onnx.runtime.instrumented import Workspace, scaled, set_apart

#: One unit in the last place, relative, of the types that a CPU computes in float.
_HALF = {FLOAT16: 2.0**-10, BFLOAT16: 2.0**-7}

#: The types for which onnxruntime has a Max at every opset, which makes the copies.
_COPIED = (FLOAT, DOUBLE)

#: NumPy's kinds of what is compared: floating-point numbers, integers and booleans.
_COMPARED = "fiub"

Array = npt.NDArray[Any]
Runs = list[dict[str, Array]]
Values = Sequence[Array]


def check_outputs(
    original: Source, hardened: Hardened, samples: Sequence[Sample], way: Way, space: Workspace, results: Results
) -> None:
    """Run both models on the same samples.

    Raises:
        CannotRunError: ORIGINAL or HARDENED does not run.
    """
    random = why_random(original.skeleton) or why_random(hardened.model)
    if random:
        results.skip("outputs against the original's", random, rules.WHOLE)
        return
    before, after = space.plain(original, "original"), space.plain(hardened.source, "hardened")
    ours, theirs = _runs(before, samples, way), _runs(after, samples, way)
    names = []
    for name in (value.name for value in original.skeleton.graph.output):
        if name in ours[0] and name in theirs[0] and ours[0][name].dtype.kind in _COMPARED:
            names.append(name)
        else:
            results.skip(f"output '{name}'", "only numbers and booleans are compared")
    if not names:
        return
    _compare(names, ours, theirs, way, results)
    results.covered.add(rules.NEW_NAN)
    at_zero = _at_zero(names, original, hardened, samples, way, space, results)
    if at_zero:
        results.covered.add(rules.JUMP_ZERO)
    jumps = f"at the jump and {_zero(hardened)}" if at_zero else "at the jump"
    results.checked.append(f"outputs against the original's, {jumps} ({way})")


def _runs(path: Path, samples: Sequence[Sample], way: Way) -> Runs:
    session = Session(path, way)
    return [session.run(sample.feeds) for sample in samples]


def _compare(names: Sequence[str], ours: Runs, theirs: Runs, way: Way, results: Results) -> None:
    """At the jump: how far the outputs moved."""
    agreed: list[Array] = []
    for name in names:
        moved, size, equal = 0.0, 0.0, []
        for one, other in ((run[name], theirs[number][name]) for number, run in enumerate(ours)):
            if one.dtype.kind != "f":
                equal.append(float(np.mean(one == other)) if one.size and one.shape == other.shape else 0.0)
                continue
            a, b = one.astype(np.float64), other.astype(np.float64)
            moved, size = max(moved, _spread([a, b])), max(size, _largest(a))
            if a.shape != b.shape:
                continue
            fresh = np.isnan(b) & ~np.isnan(a)
            if fresh.any():
                results.add(rules.NEW_NAN, f"output '{name}': {int(fresh.sum())} new NaN")
            if a.ndim == 2 and a.shape[0] and a.shape[1] > 1 and not np.isnan(a).any() and not np.isnan(b).any():
                agreed.append(a.argmax(1) == b.argmax(1))
        if equal:
            results.measure(f"output '{name}', share of equal values ({way})", float(np.mean(equal)))
        else:
            results.measure(f"output '{name}' moved by at most ({way})", moved)
            results.measure(f"output '{name}' of the original, largest ({way})", size)
    if agreed:
        results.measure(f"top-1 agreement on these inputs ({way})", float(np.concatenate(agreed).mean()))


def _spread(runs: Sequence[Array]) -> float:
    """The largest difference between any two of these outputs, in float64.

    It is infinite where their shapes differ, where one but not all are NaN, and where infinities differ.
    """
    if any(run.shape != runs[0].shape for run in runs):
        return inf
    low, high = np.fmin.reduce(runs), np.fmax.reduce(runs)  # these ignore NaN
    some, every = np.isnan(np.maximum.reduce(runs)), np.isnan(low)
    with np.errstate(invalid="ignore"):
        apart = np.where((low == high) | every, 0.0, high - low)
    return float(np.max(np.where(some & ~every, inf, apart), initial=0.0))


def _largest(array: Array) -> float:
    return float(np.max(np.abs(array[np.isfinite(array)]), initial=0.0))


def _at_zero(
    names: Sequence[str],
    original: Source,
    hardened: Hardened,
    samples: Sequence[Sample],
    way: Way,
    space: Workspace,
    results: Results,
) -> bool:
    """At jump 0, where no output may move further than ORIGINAL's own do; JumpReLUs of its own are at 0 as well.

    Returns:
        Whether an output could be compared.
    """
    # A jump that is an input is 0 by its default then, and what `data` has for it would set it again.
    jump_input = hardened.metadata.get(JUMP_INPUT, "")
    samples = [replace(sample, feeds={k: v for k, v in sample.feeds.items() if k != jump_input}) for sample in samples]
    path = space.path("hardened", "zero")
    try:
        _convert_to_zero(hardened, path, space)
        zero = {level: _runs(path, samples, replace(way, level=level)) for level in (DISABLED, ALL)}
    except (JrOnnxError, CannotRunError) as error:
        results.not_run(f"outputs {_zero(hardened)}", error)
        return False
    finally:
        space.drop(path)
    with _without_jumps(original, space) as plain:
        runs = _runs_of_original(plain, samples, way, space)
    compared = False
    for name in names:
        ours = [[outputs[name] for outputs in run] for run in runs]
        theirs = {level: [outputs[name] for outputs in run] for level, run in zero.items()}
        bounded = all(run.shape == each[0].shape for each in zip(*ours, strict=True) for run in each)
        if bounded and ours[0][0].dtype.kind == "f":
            bounded = _judge_floats(f"'{name}' {_zero(hardened)}", ours, theirs, way, results)
        elif bounded:
            _judge_exact(name, ours, theirs, results)
        if not bounded:
            why = "the original's own runs differ without bound, so there is no tolerance"
            results.not_run(f"output '{name}' {_zero(hardened)}", why)
        compared |= bounded
    return compared


def _zero(hardened: Hardened) -> str:
    """The jump at which HARDENED must give what ORIGINAL gives."""
    return "with its own thresholds" if RECOGNISE in hardened.metadata else "at jump 0"


@contextmanager
def _without_jumps(original: Source, space: Workspace) -> Iterator[Source]:
    """ORIGINAL with every jump at 0 that it has itself, if it was hardened before."""
    sites = [site for site in read_side(original.skeleton).sites.values() if jump_of(site) is not None]
    if not sites:
        yield original
        return
    goal = space.path("original", "zero")
    policy = JumpsByPath(by_path={site.path: 0.0 for site in sites})
    convert(space.plain(original, "original"), policy=policy, output=goal, force=True)
    with open_file(goal) as zero:
        yield zero
    space.drop(goal)


def _runs_of_original(original: Source, samples: Sequence[Sample], way: Way, space: Workspace) -> list[Runs]:
    """ORIGINAL in every way that is right; each copy is deleted when it has been run."""
    sites = read_side(original.skeleton).sites.values()
    apart = [site for site in sites if not site.scope.path and site.element_type in _COPIED]
    half = [site for site in sites if site.element_type in _HALF]
    copies = {"apart": set_apart(original, apart), **_scaled(original, half)}
    ways = [Way(way.provider, False, level) for level in (ALL, DISABLED)]
    runs = [_runs(space.plain(original, "original"), samples, one) for one in ways]
    for name, pieces in copies.items():
        path = space.write(original, pieces, "original", name)
        runs += [_runs(path, samples, one) for one in ways]
        space.drop(path)
    return runs


def _scaled(original: Source, sites: Sequence[Site]) -> dict[str, list[Piece]]:
    """Copies of ORIGINAL in which the half-precision Relus of the main graph give a little more, and a little less."""
    main = [site for site in sites if not site.scope.path and site.kind is not SiteKind.RECURRENT]
    if not main:
        return {}
    unit = max(_HALF[site.element_type] for site in main)
    return {"more": scaled(original, main, 1 + unit), "less": scaled(original, main, 1 - unit)}


def _convert_to_zero(hardened: Hardened, goal: Path, space: Workspace) -> None:
    """HARDENED with every jump at 0; as it is, where ORIGINAL has the same jumps."""
    if RECOGNISE in hardened.metadata:
        plain = space.plain(hardened.source, "hardened")
        convert(plain, recognise=True, output=goal, allow_empty=True, force=True)
        return
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


def _judge_floats(name: str, ours: Sequence[Values], theirs: Mapping[str, Values], way: Way, results: Results) -> bool:
    """`ours` by way and sample, `theirs` by optimisation level and sample; false where there is no tolerance."""
    worst, allowed = 0.0, 0.0
    for index, reference in enumerate(ours[0]):
        wide = [run[index].astype(np.float64) for run in ours]
        tolerance = _spread(wide) + float(np.finfo(reference.dtype).eps) * _largest(wide[0])
        if not isfinite(tolerance):
            return False
        for level, outputs in theirs.items():
            found = _spread([wide[0], outputs[index].astype(np.float64)])
            worst, allowed = max(worst, found), max(allowed, tolerance)
            if found > tolerance:
                text = f"output {name} differs by {found:.3g} at {level}, the tolerance is {tolerance:.3g}"
                results.add(rules.JUMP_ZERO, text)
    results.measure(f"output {name} differs by at most ({way})", worst)
    results.measure(f"output {name}, tolerance ({way})", allowed)
    return True


def _judge_exact(name: str, ours: Sequence[Values], theirs: Mapping[str, Values], results: Results) -> None:
    """Integers and booleans: each value must lie among those that ORIGINAL itself gives."""
    for index, runs in enumerate(zip(*ours, strict=True)):
        low, high = np.minimum.reduce(runs), np.maximum.reduce(runs)
        for level, outputs in theirs.items():
            found = outputs[index]
            if found.shape != low.shape or not ((low <= found) & (found <= high)).all():
                results.add(rules.JUMP_ZERO, f"output '{name}' is not the original's at {level}")
