"""Numbers, site by site: in place where a site's values can be made outputs, and each alone on edge values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.checking import rules
from jr_onnx.checking.copies import Runnable, Workspace, as_float, exposed, lifted, values_of
from jr_onnx.checking.findings import Finding, NotChecked, finding
from jr_onnx.checking.samples import SCALES, Sample, Sampler
from jr_onnx.checking.sessions import Arrays, CannotRunError, Session, Way
from jr_onnx.checking.site_values import edge_values, effective_form, wrong_value
from jr_onnx.element_types import BFLOAT16
from jr_onnx.forms.table import BODIES, DOMAIN, Form
from jr_onnx.sites.jumps import jump_of
from jr_onnx.sites.survey import Site

#: Fed to the whole model: whatever becomes of them on their way, each site must do the right thing with it.
_EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, -1e4, 1e4, np.inf, -np.inf, np.nan)


@dataclass
class SiteNumbers:
    """What came of it.

    Attributes:
        values: path -> how many values were compared.
        exercised: paths at which a value was above the jump.
        how: path -> how the site was checked.
    """

    findings: list[Finding] = field(default_factory=list)
    not_checked: list[NotChecked] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)
    exercised: set[str] = field(default_factory=set)
    how: dict[str, str] = field(default_factory=dict)

    def judge(
        self, path: str, site: Site, form: Form, x: npt.NDArray[Any], y: npt.NDArray[Any], where: str, *, real: bool
    ) -> None:
        """Compare one site's values; `real` says that they come from a run that could exercise it."""
        jump = jump_of(site)
        if jump is None:
            self.not_checked.append(NotChecked(f"numbers of {path}", "its jump is not a constant"))
            return
        wrong = wrong_value(site, form, x, y, jump)
        if wrong:
            self.findings.append(finding(rules.SITE_VALUES, f"{wrong}; {where}", path))
        self.values[path] = self.values.get(path, 0) + int(x.size)
        with np.errstate(invalid="ignore"):
            if real and bool((x.astype(np.float64) > np.asarray(jump, np.float64)).any()):
                self.exercised.add(path)


def check_sites(model: Runnable, sampler: Sampler, samples: int, ways: Sequence[Way], space: Workspace) -> SiteNumbers:
    """Run every site in every way."""
    result = SiteNumbers()
    body = _body_of(model.source.skeleton)
    _check_alone(model, ways, space, result, body)
    if model.in_place:
        _check_in_place(model, sampler, samples, ways, space, result, body)
    return result


def _body_of(model: onnx.ModelProto) -> Form | None:
    """The form of the body of jr_onnx::JumpReLU."""
    function = next((f for f in model.functions if f.domain == DOMAIN), None)
    operators = [node.op_type for node in function.node if node.op_type != "Sub"] if function is not None else []
    return next((form for form in BODIES if [op.op_type for op in form.ops] == operators), None)


def _check_alone(
    model: Runnable, ways: Iterable[Way], space: Workspace, result: SiteNumbers, body: Form | None
) -> None:
    """Each site alone in a model, on edge values."""
    paths, sites = zip(*model.sites, strict=True) if model.sites else ((), ())
    single, refused = lifted(model.source.skeleton, sites)
    for number, why in refused.items():
        result.not_checked.append(NotChecked(f"edge values at {paths[number]}", why))
    if len(refused) == len(sites):
        return
    path = space.save(single, "lifted")
    feeds = {
        f"x{number}": _fed(edge_values(site, jump), site)
        for number, site in enumerate(sites)
        if number not in refused and (jump := jump_of(site)) is not None
    }
    for way in ways:
        try:
            outputs = Session(path, way).run(feeds)
        except CannotRunError as error:
            result.findings.append(finding(rules.NOT_RUN, f"sites alone, on edge values ({way}): {error}"))
            continue
        for number, site in enumerate(sites):
            if f"x{number}" in feeds:
                form = effective_form(site, body, library=way.library)
                x, y = feeds[f"x{number}"], outputs[f"y{number}"]
                result.judge(paths[number], site, form, x, y, f"alone, on edge values, {way}", real=False)
                result.how.setdefault(paths[number], "lifted into a model of its own")


def _fed(values: npt.NDArray[Any], site: Site) -> npt.NDArray[Any]:
    return values.astype(np.float32) if site.element_type == BFLOAT16 else values


def _check_in_place(
    model: Runnable,
    sampler: Sampler,
    samples: int,
    ways: Sequence[Way],
    space: Workspace,
    result: SiteNumbers,
    body: Form | None,
) -> None:
    """The values of sites of the main graph, as outputs of a copy of the whole model."""
    source = model.source
    values = values_of([site for _, site in model.in_place], source.skeleton)
    path = space.write(source, exposed(source, values), "exposed")
    how = "in place, functions inlined" if model.inlined else "in place"
    for number, way in enumerate(ways):
        try:
            session = Session(path, way)
            for sample in _samples(sampler, samples, model, result, first=not number):
                outputs = session.run(sample.feeds)
                for name, site in model.in_place:
                    form = effective_form(site, body, library=way.library)
                    x, y = (_value(outputs, sample.feeds, value, site) for value in (site.input, site.output))
                    if x is not None and y is not None:
                        result.judge(name, site, form, x, y, f"{sample.name}, {way}", real=sample.real)
                        result.how[name] = how
        except CannotRunError as error:
            result.findings.append(finding(rules.NOT_RUN, f"values of the sites in place ({way}): {error}"))
    for name in dict.fromkeys(name for name, _ in model.in_place):
        if result.how.get(name) == how and name not in result.exercised:
            result.findings.append(finding(rules.NOT_EXERCISED, "no sample has a value above its jump", name))


def _samples(sampler: Sampler, samples: int, model: Runnable, result: SiteNumbers, *, first: bool) -> Iterable[Sample]:
    """The user's data, random inputs, edge values; then larger and larger inputs until every site is exercised."""
    yield from sampler.given()
    if not sampler.makes_inputs:
        return
    for number in range(samples):
        yield sampler.random(number, SCALES[0])
    yield sampler.edges(_EDGES)
    for scale in SCALES[1:] if first else ():
        if {name for name, _ in model.in_place} <= result.exercised:
            return
        yield sampler.random(0, scale)
        yield sampler.random(1, scale)


def _value(outputs: Arrays, feeds: Arrays, name: str, site: Site) -> npt.NDArray[Any] | None:
    if site.element_type == BFLOAT16 and as_float(name) in outputs:
        return outputs[as_float(name)]
    return outputs.get(name, feeds.get(name))
