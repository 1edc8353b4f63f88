"""Numbers, site by site: in place where a site's values can be made outputs, and each alone on edge values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.checking import rules
from jr_onnx.checking.report import Results
from jr_onnx.conversion.element_types import BFLOAT16, FLOAT16, NUMPY_TYPES
from jr_onnx.conversion.forms.table import BODIES, HARD_SIGMOID, JUMP_RELU, RELU_GREATER, THRESHOLDED_RELU, Form
from jr_onnx.conversion.graph.names import OP_TYPE, own_operator
from jr_onnx.conversion.quantization import INTEGER_TYPES, Quantization
from jr_onnx.conversion.sites.survey import Site
from jr_onnx.conversion.sites.surveyed import jump_of, wiring_of
from jr_onnx.reference import jump_relu, quantized_jump_relu
from jr_onnx.runtime.execution import DISABLED, Arrays, CannotRunError, Session, Way
from jr_onnx.runtime.inputs import SCALES, Sample, Sampler
from jr_onnx.runtime.instrumented import Runnable, Workspace, as_float, count_of, counted, exposed, lifted, values_of

#: Fed to the whole model: whatever becomes of them on their way, each site must do the right thing with it.
_EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, -1e4, 1e4, np.inf, -np.inf, np.nan)


#: How many bytes the values of the sites of one session may take, and how many sites it may have: the time in which
#: onnxruntime starts one grows with the square of its outputs.
_ROOM, _SITES = 1 << 27, 256

#: Sites by the path in the hardened model.
Sites = Sequence[tuple[str, Site]]


def check_sites(
    model: Runnable, sampler: Sampler, samples: int, ways: Sequence[Way], space: Workspace, results: Results
) -> None:
    """Run every site in every way.

    Raises:
        CannotRunError: the copies that are run cannot be written.
    """
    known: list[tuple[str, Site]] = []
    for path, site in model.sites:
        why = _unknown(site)
        if why:
            results.add(rules.NOT_RUN, f"its values cannot be compared: {why}", path)
        else:
            known.append((path, site))
    if not known:
        return
    runs = _SiteRuns(replace(model, sites=tuple(known)), sampler, samples, ways, space, results)
    runs.run_alone()
    runs.run_in_place()


def _unknown(site: Site) -> str:
    """What a site's values cannot be compared without; empty if all is known."""
    if _dtype(site) is None:
        return "its element type is not known; declare it in value_info"
    return "its jump is not a constant, or too large to be read" if jump_of(site) is None else ""


def _jump_at(site: Site, feeds: Arrays) -> Array:
    """The jump in one run: a jump that is a graph input may be fed, and is cast where sites have several types."""
    jump = jump_of(site)
    assert jump is not None  # else the site would be among the unknown ones
    name = site.hardened.values.get("jump", "") if site.hardened is not None else ""
    produced = wiring_of(site.scope).producer(name)
    if produced is not None and produced[1].op_type == "Cast":
        name = produced[1].input[0]
    return np.asarray(feeds[name]).astype(jump.dtype) if name in feeds else jump


def _body_of(model: onnx.ModelProto) -> Form | None:
    """The form of the body of jr_onnx::JumpReLU."""
    function = next((f for f in model.functions if own_operator(f.domain, f.name) == OP_TYPE), None)
    operators = [node.op_type for node in function.node if node.op_type != "Sub"] if function is not None else []
    return next((form for form in BODIES if [op.op_type for op in form.ops] == operators), None)


def _dtype(site: Site) -> np.dtype[Any] | None:
    return NUMPY_TYPES.get(site.element_type, INTEGER_TYPES.get(site.element_type))


def _fed(values: Array, site: Site) -> Array:
    return values.astype(np.float32) if site.element_type == BFLOAT16 else values


class _SiteRuns:
    """The runs in which the values of sites are seen."""

    def __init__(
        self,
        model: Runnable,
        sampler: Sampler,
        samples: int,
        ways: Sequence[Way],
        space: Workspace,
        results: Results,
    ) -> None:
        self._model, self._sampler, self._samples = model, sampler, samples
        self._ways, self._space, self._results = ways, space, results
        self._body = _body_of(model.source.skeleton)
        self._in_place = "in place, functions inlined" if model.inlined else "in place"
        self._exercised: set[str] = set()

    def run_alone(self) -> None:
        """Each site alone in a model, on edge values."""
        paths, sites = zip(*self._model.sites, strict=True)
        single, refused = lifted(self._model.source.skeleton, sites)
        for number, why in refused.items():
            self._results.skip(f"edge values at {paths[number]}", why)
        if len(refused) == len(sites):
            return
        path = self._space.save(single, "hardened", "lifted")
        left = [(number, site) for number, site in enumerate(sites) if number not in refused]
        feeds = {f"x{number}": _fed(edge_values(site, _jump_at(site, {})), site) for number, site in left}
        for way in self._ways:
            try:
                outputs = Session(path, way).run(feeds)
            except CannotRunError as error:
                self._results.not_run(f"sites alone, on edge values ({way})", error)
                continue
            for number, site in left:
                x, y = feeds[f"x{number}"], outputs[f"y{number}"]
                form = effective_form(site, self._body, library=way.library)
                wrong = wrong_value(site, form, x, y, _jump_at(site, {}))
                where = f"alone, on edge values, {way}"
                self._note(paths[number], wrong, x.size, where, "lifted into a model of its own")

    def run_in_place(self) -> None:
        """The values of sites of the main graph, as outputs of a copy of the whole model."""
        if not self._model.in_place:
            return
        source = self._model.source
        for sites in self._groups():
            values = values_of([site for _, site in sites], source.skeleton)
            path = self._space.write(source, exposed(source, values), "hardened", "exposed")
            for number, way in enumerate(self._ways):
                try:
                    session = Session(path, way)
                    for sample in self._samples_for({name for name, _ in sites}, more=not number):
                        self._compare(session.run(sample.feeds), sites, sample, way)
                except CannotRunError as error:
                    self._results.not_run(f"values of the sites in place ({way})", error)
            self._space.drop(path)
        for name in dict.fromkeys(name for name, _ in self._model.in_place):
            site = self._results.sites.get(name)
            if site is not None and site.how == self._in_place:
                self._results.sites[name] = replace(site, exercised=name in self._exercised)
                self._results.covered.add(rules.NOT_EXERCISED)
                if name not in self._exercised:
                    self._results.add(rules.NOT_EXERCISED, "no sample has a value above its jump", name)

    def _groups(self) -> Iterator[Sites]:
        """The sites of the main graph, as many at a time as have room in memory with all that they take and give."""
        source, sites = self._model.source, self._model.in_place
        values = values_of([site for _, site in sites], source.skeleton)
        path = self._space.write(source, counted(source, values), "hardened", "counted")
        session = Session(path, replace(self._ways[0], level=DISABLED), in_order=True)
        sizes = session.run(self._sampler.random(0, SCALES[0]).feeds)
        self._space.drop(path)
        group: list[tuple[str, Site]] = []
        room = _ROOM
        for name, site in sites:
            known = (sizes.get(count_of(value)) for value in (site.input, site.output))
            itemsize = (_dtype(site) or np.dtype(np.float64)).itemsize
            needed = sum(int(size) * itemsize for size in known if size is not None)
            if group and (needed > room or len(group) >= _SITES):
                yield tuple(group)
                group, room = [], _ROOM
            group.append((name, site))
            room -= needed
        if group:
            yield tuple(group)

    def _samples_for(self, sites: set[str], *, more: bool) -> Iterable[Sample]:
        """The user's data, random inputs, edge values; `more` and larger ones until every site is exercised."""
        sampler = self._sampler
        yield from sampler.given()
        if not sampler.makes_inputs:
            return
        for number in range(self._samples):
            yield sampler.random(number, SCALES[0])
        yield sampler.edges(_EDGES)
        for scale in SCALES[1:] if more else ():
            if sites <= self._exercised:
                return
            yield sampler.random(0, scale)
            yield sampler.random(1, scale)

    def _compare(self, outputs: Arrays, sites: Sites, sample: Sample, way: Way) -> None:
        for path, site in sites:
            x, y = (_value(outputs, sample.feeds, value, site) for value in (site.input, site.output))
            if x is None or y is None:
                continue
            form, jump = effective_form(site, self._body, library=way.library), _jump_at(site, sample.feeds)
            wrong = wrong_value(site, form, x, y, jump, unrounded=_may_be_unrounded(site, way))
            self._note(path, wrong, x.size, f"{sample.name}, {way}", self._in_place)
            if sample.real:
                numbers = x if site.quantization is None else site.quantization.dequantized(x)
                with np.errstate(invalid="ignore"):
                    if bool((numbers.astype(np.float64) > np.asarray(jump, np.float64)).any()):
                        self._exercised.add(path)

    def _note(self, path: str, wrong: str, compared: int, where: str, how: str) -> None:
        """Take note of one comparison: the first value that is wrong, of how many."""
        if not compared:
            return
        if wrong:
            self._results.add(rules.SITE_VALUES, f"{wrong}; {where}", path)
        self._results.covered.add(rules.SITE_VALUES)
        site = self._results.sites.get(path)
        if site is not None:
            self._results.sites[path] = replace(site, how=how, values=site.values + compared)


def _may_be_unrounded(site: Site, way: Way) -> bool:
    """Whether onnxruntime may hand a site a float where the model says float16 or bfloat16.

    Where it has no kernels for these types it computes in float, and drops casts that meet. An input of the model is
    what it is, so that a site alone has no such doubt.
    """
    return site.element_type in (FLOAT16, BFLOAT16) and not way.library


def _value(outputs: Arrays, feeds: Arrays, name: str, site: Site) -> Array | None:
    if site.element_type == BFLOAT16 and as_float(name) in outputs:
        return outputs[as_float(name)]
    return outputs.get(name, feeds.get(name))


# --- What a JumpReLU gave against what its definition gives, bit for bit; forms are held to what they document --------

Array = npt.NDArray[Any]

_UNSIGNED = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def wrong_value(site: Site, form: Form, x: Array, y: Array, jump: Array, *, unrounded: bool = False) -> str:
    """The first value that is wrong; empty if all are right.

    NaN is NaN whatever its payload is. Relu*Greater and Relu*HardSigmoid may keep the sign of a zero; ThresholdedRelu
    gives 0 for NaN.
    `unrounded` says that the site may have read a wider value than `x`, which is that value rounded: what is rounded to
    the jump itself may have been above it.
    """
    if site.quantization is not None:
        return _wrong_integer(site.quantization, x, y, jump)
    dtype = NUMPY_TYPES[site.element_type]
    values, got = x.astype(dtype), y.astype(dtype)
    if values.shape != got.shape:
        return f"the output has the shape {list(got.shape)}, the input {list(values.shape)}"
    wanted = jump_relu(values, jump)
    if form is THRESHOLDED_RELU:
        wanted = np.where(np.isnan(values), dtype.type(0), wanted)
    same = _bits(got) == _bits(wanted)
    same |= np.isnan(got) & np.isnan(wanted)
    if form in (RELU_GREATER, HARD_SIGMOID):
        same |= (got == 0) & (wanted == 0)
    if unrounded:
        same |= (values == jump) & (got == values)
    return _first_wrong(same, values, got, wanted)


def _wrong_integer(quantization: Quantization, x: Array, y: Array, jump: Array) -> str:
    """The same of integers: JumpReLU of what they stand for, and the integers themselves against the threshold."""
    if x.shape != y.shape:
        return f"the output has the shape {list(y.shape)}, the input {list(x.shape)}"
    threshold = np.vectorize(quantization.threshold, otypes=[quantization.dtype])(jump)
    wanted = quantized_jump_relu(x, threshold, quantization.zero_point)
    numbers = [quantization.dequantized(values) for values in (x, y)]
    same = np.asarray(y == wanted) & (_bits(jump_relu(numbers[0], jump)) == _bits(numbers[1]))
    return _first_wrong(same, x, y, wanted)


def _first_wrong(same: Array, values: Array, got: Array, wanted: Array) -> str:
    if same.all():
        return ""
    place = tuple(int(i) for i in np.argwhere(~same)[0])
    x0, y0, w0 = (array[place].item() for array in (values.astype(np.float64), got, wanted))
    return f"gives {y0!r} for {x0!r} at {list(place)}, JumpReLU {w0!r} ({int((~same).sum())} of {same.size} wrong)"


def _bits(array: Array) -> Array:
    return np.ascontiguousarray(array).view(_UNSIGNED[array.dtype.itemsize]).reshape(array.shape)


def effective_form(site: Site, body: Form | None, *, library: bool) -> Form:
    """The form that runs: of JumpReLU without the library its function body."""
    form = site.hardened.form if site.hardened is not None else JUMP_RELU
    return body if form is JUMP_RELU and body is not None and not library else form


def edge_values(site: Site, jump: Array) -> Array:
    """Every value at which something could go wrong, for each jump of a site: [number of values, *jump.shape]."""
    if site.quantization is not None:
        return _edge_integers(site, site.quantization, jump)
    dtype = NUMPY_TYPES[site.element_type]
    k = np.asarray(jump).astype(dtype)
    infinity = dtype.type(np.inf)
    largest, smallest = np.nextafter(infinity, dtype.type(0)), np.nextafter(dtype.type(0), infinity)
    fixed = [-np.inf, -1.0, -0.0, 0.0, 1.0, np.inf, np.nan, float(largest), -float(largest), float(smallest)]
    around = [np.nextafter(k, -infinity), k, np.nextafter(k, infinity), (k / dtype.type(2)).astype(dtype), -k]
    rows = [np.broadcast_to(dtype.type(value), k.shape) for value in fixed] + around
    values = np.stack([np.asarray(row, dtype) for row in rows])
    # Behind a Relu or a Clip the form is without a Relu of its own, so nothing negative may reach it.
    return np.where(values < 0, -values, values) if site.rectified else values


def _edge_integers(site: Site, quantization: Quantization, jump: Array) -> Array:
    """Every integer of 8 bits; of 16 the lowest and the highest, and those around the zero point and the threshold.

    QuantizedJumpReLU with channels last takes values of four axes, behind which the jump has three.
    """
    k = np.asarray(jump) if site.shape is None or np.ndim(jump) else np.reshape(jump, (1,) * (len(site.shape) - 1))
    limits = np.iinfo(quantization.dtype)
    threshold = np.vectorize(quantization.threshold, otypes=[np.int64])(k)
    if limits.bits == 8:
        rows = [np.full(k.shape, value) for value in range(limits.min, limits.max + 1)]
    else:
        fixed = [limits.min, limits.min + 1, limits.max - 1, limits.max, quantization.zero_point]
        rows = [np.full(k.shape, value) for value in fixed] + [threshold + step for step in (-1, 0, 1)]
    return np.asarray(np.clip(np.stack(rows), limits.min, limits.max), quantization.dtype)
