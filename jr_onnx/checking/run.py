"""The hardened model run: where it loads, what each site gives, what the whole gives, and how long it takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from google.protobuf.message import DecodeError, EncodeError

from jr_onnx.checking import rules
from jr_onnx.checking.expected import Hardened
from jr_onnx.checking.outputs import check_model
from jr_onnx.checking.report import Finding, Measurement, NotChecked, finding
from jr_onnx.checking.site_values import check_sites
from jr_onnx.conversion.element_types import NUMPY_TYPES
from jr_onnx.conversion.forms.table import JUMP_RELU
from jr_onnx.conversion.sites.survey import Site
from jr_onnx.errors import RuntimeMissingError
from jr_onnx.files.source import Source
from jr_onnx.runtime.execution import (
    ALL,
    Arrays,
    CannotRunError,
    Session,
    Way,
    has_use_for_kernels,
    levels,
    library_problem,
    onnxruntime,
    provider_name,
    runtime,
    session_errors,
)
from jr_onnx.runtime.inputs import SCALES, Sample, Sampler, becoming_integers
from jr_onnx.runtime.instrumented import Runnable, Workspace, runnable
from jr_onnx.text import one_line

#: The execution provider that onnxruntime always has; on it alone nothing can fall back or be copied.
CPU = "CPUExecutionProvider"

_ROUNDS = 15


@dataclass(frozen=True)
class Request:
    """What to run; the attributes are the arguments of `jr_onnx.check`."""

    data: Arrays
    samples: int
    shapes: Mapping[str, Sequence[int]]
    providers: tuple[str, ...]
    library: bool
    latency: bool


@dataclass
class RunResult:
    """What came of it; `sites` maps paths to what `CheckedSite` says of numbers, `judged` are the rules looked at."""

    findings: list[Finding] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    not_checked: list[NotChecked] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    sites: dict[str, dict[str, Any]] = field(default_factory=dict)
    judged: set[str] = field(default_factory=set)

    def not_run(self, what: str, why: object) -> None:
        """A check that was asked for and could not run."""
        self.findings.append(finding(rules.NOT_RUN, f"{what}: {why}"))


def check_running(original: Source | None, hardened: Hardened, request: Request) -> RunResult:
    """Run all there is to run; what cannot be run becomes a finding, and takes nothing else with it."""
    result = RunResult()
    try:
        with tempfile.TemporaryDirectory(prefix="jr-onnx-check-") as folder:
            _run(original, hardened, request, Workspace(Path(folder)), result)
    except (CannotRunError, RuntimeMissingError, OSError) as error:
        result.not_run("running the model", error)
    known = {rule for one in result.not_checked for rule in one.rules} | result.judged
    left = tuple(rule for rule in rules.RUNNING if rule not in known and (original or rule not in rules.WHOLE))
    if left:
        result.not_checked.append(NotChecked(", ".join(left), "did not run, or had nothing to look at", left))
    return result


def _run(original: Source | None, hardened: Hardened, request: Request, space: Workspace, result: RunResult) -> None:
    onnxruntime()
    ways = _ways(hardened, request, result)
    path = space.plain(hardened.source, "hardened")
    loaded = [way for way in ways if _loads(path, way, original, space, result)]
    if not loaded:
        return
    small = becoming_integers(hardened.model)
    sampler = Sampler(Session(path, loaded[0]), request.shapes, request.data, small=small)
    result.not_checked += _without_edges(hardened, small)
    samples = _real_samples(sampler, request)
    ran = [way for way in loaded if _runs(path, way, samples[0], original, space, result)]
    model = _runnable(hardened, result) if ran else None
    if model is not None:
        _sites(model, sampler, request.samples, ran, space, result)
    for way in ran:
        _whole(original, hardened, samples, way, space, result)
    _placements(path, ran, samples[0], hardened, result)
    if request.latency:
        _latency(original, path, samples[0], ran, space, result)


def _without_edges(hardened: Hardened, small: Collection[str]) -> Iterator[NotChecked]:
    for value in hardened.model.graph.input:
        if value.name in small and value.type.tensor_type.elem_type in NUMPY_TYPES:
            yield NotChecked(f"edge values of input '{value.name}'", "it becomes an index, a size or a count")


def _runnable(hardened: Hardened, result: RunResult) -> Runnable | None:
    if hardened.recurrent:
        result.not_checked.append(
            NotChecked("values of activations in RNN, GRU and LSTM", "they are inside of one operator")
        )
    if not hardened.jump_relus:
        return None
    try:
        return runnable(hardened.source, hardened.side.sites.values())
    except (DecodeError, EncodeError, ValueError, RuntimeError) as error:
        # Over 2 GB, or with functions that onnx does not inline.
        result.not_run("values of the sites, for which functions are inlined", one_line(error))
        return None


def _ways(hardened: Hardened, request: Request, result: RunResult) -> list[Way]:
    """Each provider, without the library and with it where a JumpReLU could use it."""
    has_kernels = any(map(_has_kernel, hardened.jump_relus))
    problem = library_problem() if has_kernels and request.library else ""
    if problem:
        result.not_run("with the kernel library", f"{problem} (`library=False` leaves it out)")
    if has_kernels and not request.library:
        result.not_checked.append(NotChecked("with the kernel library", "not asked for (`library=False`)"))
    libraries = (False, True) if has_kernels and request.library and not problem else (False,)
    ways = []
    for provider in dict.fromkeys(request.providers):
        try:
            name = provider_name(provider)
        except CannotRunError as error:
            result.not_run(f"on {provider}", error)
            continue
        ways += [Way(name, library) for library in libraries if not library or has_use_for_kernels(name)]
    return ways


def _has_kernel(site: Site) -> bool:
    return site.hardened is not None and site.hardened.form is JUMP_RELU


def _loads(path: Path, way: Way, original: Source | None, space: Workspace, result: RunResult) -> bool:
    """Load at every optimisation level."""
    failed = {}
    for level in levels():
        try:
            Session(path, Way(way.provider, way.library, level))
        except CannotRunError as error:
            failed[level] = str(error)
    result.checked.append(f"loads at {len(levels()) - len(failed)} of {len(levels())} optimisation levels ({way})")
    if not failed:
        result.judged.add(rules.LOADING)
        return True
    level, why = next(iter(failed.items()))
    if original is not None and not _original_loads(original, Way(way.provider, False, level), space):
        result.not_run(f"{way}", f"neither model loads at {level}: {why}")
    else:
        result.findings.append(finding(rules.LOADING, f"does not load at {', '.join(failed)} ({way}): {why}"))
    return ALL not in failed


def _runs(path: Path, way: Way, sample: Sample, original: Source | None, space: Workspace, result: RunResult) -> bool:
    try:
        Session(path, way).run(sample.feeds)
    except CannotRunError as error:
        if original is not None and not _original_loads(original, Way(way.provider, False), space, sample):
            result.not_run(f"{way}", f"neither model runs on {sample.name}: {error}")
        else:
            text = f"loads, but does not run on {sample.name} ({way}): {error}"
            result.findings.append(finding(rules.LOADING, text))
        return False
    return True


def _original_loads(original: Source, way: Way, space: Workspace, sample: Sample | None = None) -> bool:
    """Whether ORIGINAL loads, and runs on a sample if one is given."""
    try:
        session = Session(space.plain(original, "original"), way)
        if sample is not None:
            session.run(sample.feeds)
    except CannotRunError:
        return False
    return True


def _sites(
    model: Runnable, sampler: Sampler, samples: int, ways: Sequence[Way], space: Workspace, result: RunResult
) -> None:
    try:
        numbers = check_sites(model, sampler, samples, ways, space)
    except CannotRunError as error:
        result.not_run("values of the sites", error)
        return
    result.findings += numbers.findings
    result.not_checked += numbers.not_checked
    for path, how in numbers.how.items():
        exercised = path in numbers.exercised if how.startswith("in place") else None
        result.sites[path] = {"how": how, "values": numbers.values.get(path, 0), "exercised": exercised}
        result.judged |= {rules.SITE_VALUES} if exercised is None else set(rules.SITES)


def _real_samples(sampler: Sampler, request: Request) -> list[Sample]:
    given = list(sampler.given())
    made = [sampler.random(number, SCALES[0]) for number in range(request.samples)] if sampler.makes_inputs else []
    return [*given, *made]


def _whole(
    original: Source | None,
    hardened: Hardened,
    samples: Sequence[Sample],
    way: Way,
    space: Workspace,
    result: RunResult,
) -> None:
    if original is None:
        return
    try:
        numbers = check_model(original, hardened, samples, way, space)
    except CannotRunError as error:
        result.not_run(f"outputs against the original's ({way})", error)
        return
    result.findings += numbers.findings
    result.measurements += [Measurement(f"{one.name} ({way})", one.value, one.unit) for one in numbers.measurements]
    result.not_checked += numbers.not_checked
    result.judged |= numbers.checked.keys()
    if numbers.checked:
        result.checked.append(f"outputs against the original's, {' and '.join(numbers.checked.values())} ({way})")


def _placements(path: Path, ways: Sequence[Way], sample: Sample, hardened: Hardened, result: RunResult) -> None:
    """Where each JumpReLU ran; without the library there is none, because onnxruntime runs the function's nodes.

    Those of the main graph run always; branches and bodies may not be reached.
    """
    least = sum(not site.scope.path and _has_kernel(site) for site in hardened.jump_relus)
    other_forms = not all(map(_has_kernel, hardened.jump_relus))
    for way in ways:
        if way.provider != CPU and (other_forms or not way.library):
            why = "only a kernel of jr_onnx::JumpReLU can be looked up, standard operators cannot"
            result.not_checked.append(NotChecked(f"where JumpReLU runs ({way})", why, rules.PLACES))
        if not way.library:
            continue
        try:
            # Warnings off: the profile's graph is meant for this machine only, and onnxruntime says so.
            options = onnxruntime().SessionOptions()
            options.log_severity_level = 4
            session = runtime().session(path, providers=[way.provider], session_options=options, profile=True)
            session.run(None, dict(sample.feeds))
            places = runtime().placement(session)
        except (*session_errors(), OSError, DecodeError) as error:  # of a full disk the profile is cut off
            result.not_run(f"where JumpReLU runs ({way})", one_line(error))
            continue
        for place in places:
            if place.provider != way.provider:
                text = f"runs on {place.provider}, asked for was {way.provider}"
                result.findings.append(finding(rules.PLACEMENT, text, place.node))
            if place.copies:
                text = f"copies between devices around it: {', '.join(place.copies)}"
                result.findings.append(finding(rules.COPIES, text, place.node))
        if len(places) < least:
            text = f"only {len(places)} of the main graph's {least} JumpReLU ran by kernel ({way})"
            result.findings.append(finding(rules.PLACEMENT, text))
        there = sum(place.provider == way.provider for place in places)
        result.checked.append(f"{there} JumpReLU ran on {way.provider} by kernel")
        result.judged |= set(rules.PLACES)


def _latency(
    original: Source | None,
    path: Path,
    sample: Sample,
    ways: Sequence[Way],
    space: Workspace,
    result: RunResult,
) -> None:
    """Both models in turn, so that what else the machine does meets both; the median of the rounds' ratios."""
    for way in ways:
        hardened = Session(path, way)
        if original is None:
            seconds = median(_timed(hardened, sample) for _ in range(_ROUNDS))
            result.measurements.append(Measurement(f"latency ({way})", seconds * 1e3, "ms"))
            continue
        before = Session(space.plain(original, "original"), Way(way.provider, False))
        rounds = [(_timed(before, sample), _timed(hardened, sample)) for _ in range(_ROUNDS + 2)][2:]
        result.measurements += [
            Measurement(f"latency of the original ({way})", median(one for one, _ in rounds) * 1e3, "ms"),
            Measurement(f"latency ({way})", median(other for _, other in rounds) * 1e3, "ms"),
            Measurement(f"latency, ratio to the original ({way})", median(other / one for one, other in rounds)),
        ]


def _timed(session: Session, sample: Sample) -> float:
    started = time.perf_counter()
    session.run(sample.feeds)
    return time.perf_counter() - started
