"""The hardened model run: where it loads, what each site gives, what the whole gives, and how long it takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from google.protobuf.message import DecodeError, EncodeError

from jr_onnx.checking import rules
from jr_onnx.checking.expected import Hardened
from jr_onnx.checking.outputs import check_outputs
from jr_onnx.checking.report import Results
from jr_onnx.checking.site_values import check_sites
from jr_onnx.conversion.element_types import NUMPY_TYPES
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
    session_errors,
    session_options,
)
from jr_onnx.runtime.inputs import SCALES, Sample, Sampler, becoming_integers
from jr_onnx.runtime.instrumented import Runnable, Workspace, runnable
from jr_onnx.runtime.placements import placement
from jr_onnx.runtime.sessions import CPU, session
from jr_onnx.text import one_line

_ROUNDS = 15


@dataclass(frozen=True)
class RunOptions:
    """What to run; the attributes are the arguments of `jr_onnx.check`."""

    data: Arrays
    samples: int
    shapes: Mapping[str, Sequence[int]]
    providers: tuple[str, ...]
    library: bool
    latency: bool


def check_running(original: Source | None, hardened: Hardened, options: RunOptions, results: Results) -> None:
    """Run all there is to run; what cannot be run becomes a finding, and takes nothing else with it."""
    try:
        onnxruntime()
        with tempfile.TemporaryDirectory(prefix="jr-onnx-check-") as folder:
            _Runner(original, hardened, options, Workspace(Path(folder)), results).run()
    except (CannotRunError, RuntimeMissingError, OSError) as error:
        results.not_run("running the model", error)
    known = {rule for one in results.not_checked for rule in one.rules} | results.covered
    left = tuple(rule for rule in rules.RUNNING if rule not in known)
    if left:
        results.skip(", ".join(left), "did not run, or had nothing to look at", left)


class _Runner:
    """The runs of one model, and of its original where there is one."""

    def __init__(
        self, original: Source | None, hardened: Hardened, options: RunOptions, space: Workspace, results: Results
    ) -> None:
        self._original, self._hardened, self._options = original, hardened, options
        self._space, self._results = space, results
        self._path = space.plain(hardened.source, "hardened")

    def run(self) -> None:
        loaded = [way for way in self._ways() if self._loads(way)]
        if not loaded:
            return
        small = becoming_integers(self._hardened.model)
        sampler = Sampler(Session(self._path, loaded[0]), self._options.shapes, self._options.data, small=small)
        for value in self._hardened.model.graph.input:
            if value.name in small and value.type.tensor_type.elem_type in NUMPY_TYPES:
                why = "it becomes an index, a size or a count"
                self._results.skip(f"edge values of input '{value.name}'", why)
        numbers = range(self._options.samples) if sampler.makes_inputs else ()
        samples = [*sampler.given(), *(sampler.random(number, SCALES[0]) for number in numbers)]
        ways = [way for way in loaded if self._runs(way, samples[0])]
        model = self._runnable() if ways else None
        if model is not None:
            self._sites(model, sampler, ways)
        for way in ways if self._original is not None else ():
            self._outputs(samples, way)
        self._placements(ways, samples[0])
        if self._options.latency:
            self._latency(ways, samples[0])

    def _ways(self) -> list[Way]:
        """Each provider, without the library and with it where a JumpReLU could use it."""
        asked = self._options.library
        has_kernels = any(map(_has_kernel, self._hardened.jump_relus))
        problem = library_problem() if has_kernels and asked else ""
        if problem:
            self._results.not_run("with the kernel library", f"{problem} (`library=False` leaves it out)")
        if has_kernels and not asked:
            self._results.skip("with the kernel library", "not asked for (`library=False`)")
        libraries = (False, True) if has_kernels and asked and not problem else (False,)
        ways = []
        for provider in dict.fromkeys(self._options.providers):
            try:
                name = provider_name(provider)
            except CannotRunError as error:
                self._results.not_run(f"on {provider}", error)
                continue
            ways += [Way(name, library) for library in libraries if not library or has_use_for_kernels(name)]
        return ways

    def _loads(self, way: Way) -> bool:
        """Load at every optimisation level."""
        failed = {}
        for level in levels():
            try:
                Session(self._path, replace(way, level=level))
            except CannotRunError as error:
                failed[level] = str(error)
        loaded = f"{len(levels()) - len(failed)} of {len(levels())} optimisation levels"
        self._results.checked.append(f"loads at {loaded} ({way})")
        if not failed:
            self._results.covered.add(rules.LOADING)
            return True
        level, why = next(iter(failed.items()))
        if self._original_runs(Way(way.provider, False, level)):
            self._results.add(rules.LOADING, f"does not load at {', '.join(failed)} ({way}): {why}")
        else:
            self._results.not_run(f"{way}", f"neither model loads at {level}: {why}")
        return ALL not in failed

    def _runs(self, way: Way, sample: Sample) -> bool:
        try:
            Session(self._path, way).run(sample.feeds)
        except CannotRunError as error:
            if self._original_runs(Way(way.provider, False), sample):
                text = f"loads, but does not run on {sample.name} ({way}): {error}"
                self._results.add(rules.LOADING, text)
            else:
                self._results.not_run(f"{way}", f"neither model runs on {sample.name}: {error}")
            return False
        return True

    def _original_runs(self, way: Way, sample: Sample | None = None) -> bool:
        """Whether ORIGINAL loads, and runs on a sample if one is given; true where there is no ORIGINAL."""
        if self._original is None:
            return True
        try:
            original = Session(self._space.plain(self._original, "original"), way)
            if sample is not None:
                original.run(sample.feeds)
        except CannotRunError:
            return False
        return True

    def _runnable(self) -> Runnable | None:
        if self._hardened.recurrent:
            what = "values of activations in RNN, GRU and LSTM"
            self._results.skip(what, "they are inside of one operator")
        if not self._hardened.jump_relus:
            return None
        try:
            return runnable(self._hardened.source, self._hardened.side.sites.values())
        except (DecodeError, EncodeError, ValueError, RuntimeError) as error:
            # Over 2 GB, or with functions that onnx does not inline.
            self._results.not_run("values of the sites, for which functions are inlined", one_line(error))
            return None

    def _sites(self, model: Runnable, sampler: Sampler, ways: Sequence[Way]) -> None:
        try:
            check_sites(model, sampler, self._options.samples, ways, self._space, self._results)
        except CannotRunError as error:
            self._results.not_run("values of the sites", error)

    def _outputs(self, samples: Sequence[Sample], way: Way) -> None:
        assert self._original is not None
        try:
            check_outputs(self._original, self._hardened, samples, way, self._space, self._results)
        except CannotRunError as error:
            self._results.not_run(f"outputs against the original's ({way})", error)

    def _placements(self, ways: Sequence[Way], sample: Sample) -> None:
        """Where each JumpReLU ran; without the library there is none, because onnxruntime runs the function's nodes."""
        other_forms = not all(map(_has_kernel, self._hardened.jump_relus))
        for way in ways:
            if way.provider != CPU and (other_forms or not way.library):
                why = "only a kernel of jr_onnx::JumpReLU can be looked up, standard operators cannot"
                self._results.skip(f"where JumpReLU runs ({way})", why, rules.PLACES)
            if way.library:
                self._placement(way, sample)

    def _placement(self, way: Way, sample: Sample) -> None:
        try:
            options = session_options()
            profiled = session(self._path, providers=[way.provider], session_options=options, profile=True)
            profiled.run(None, dict(sample.feeds))
            places = placement(profiled)
        except (*session_errors(), OSError, DecodeError) as error:  # of a full disk the profile is cut off
            self._results.not_run(f"where JumpReLU runs ({way})", one_line(error))
            return
        for place in places:
            if place.provider != way.provider:
                text = f"runs on {place.provider}, asked for was {way.provider}"
                self._results.add(rules.PLACEMENT, text, place.node)
            if place.copies:
                text = f"copies between devices around it: {', '.join(place.copies)}"
                self._results.add(rules.COPIES, text, place.node)
        # Those of the main graph run always; branches and bodies may not be reached.
        least = sum(not site.scope.path and _has_kernel(site) for site in self._hardened.jump_relus)
        if len(places) < least:
            text = f"only {len(places)} of the main graph's {least} JumpReLU ran by kernel ({way})"
            self._results.add(rules.PLACEMENT, text)
        there = sum(place.provider == way.provider for place in places)
        self._results.checked.append(f"{there} JumpReLU ran on {way.provider} by kernel")
        self._results.covered.update(rules.PLACES)

    def _latency(self, ways: Sequence[Way], sample: Sample) -> None:
        """Both models in turn, so that what else the machine does meets both; the median of the rounds' ratios."""
        for way in ways:
            hardened = Session(self._path, way)
            if self._original is None:
                seconds = median(_timed(hardened, sample) for _ in range(_ROUNDS))
                self._results.measure(f"latency ({way})", seconds * 1e3, "ms")
                continue
            before = Session(self._space.plain(self._original, "original"), Way(way.provider, False))
            rounds = [(_timed(before, sample), _timed(hardened, sample)) for _ in range(_ROUNDS + 2)][2:]
            first, second = (median(seconds) * 1e3 for seconds in zip(*rounds, strict=True))
            self._results.measure(f"latency of the original ({way})", first, "ms")
            self._results.measure(f"latency ({way})", second, "ms")
            ratio = median(other / one for one, other in rounds)
            self._results.measure(f"latency, ratio to the original ({way})", ratio)


def _has_kernel(site: Site) -> bool:
    return site.hardened is not None and bool(site.hardened.form.calls)


def _timed(model: Session, sample: Sample) -> float:
    started = time.perf_counter()
    model.run(sample.feeds)
    return time.perf_counter() - started
