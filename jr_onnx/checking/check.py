"""The verb: open both models, go from what a file says to what it does, and put it all into one report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx

from jr_onnx.arguments import as_integer, as_lists, as_model, as_name, as_names
from jr_onnx.checking import rules
from jr_onnx.checking.alone import WITHOUT_ORIGINAL, check_alone, check_record, filters_of_record
from jr_onnx.checking.compare import compare
from jr_onnx.checking.expected import (
    Asked,
    Expected,
    Hardened,
    make_expected,
    read_hardened,
    recorded_jump,
    without_filters,
)
from jr_onnx.checking.pairs import uses_jump_relu
from jr_onnx.checking.report import CheckedSite, CheckReport, Finding, Measurement, NotChecked, finding, in_order
from jr_onnx.checking.run import CPU, Request, check_running
from jr_onnx.checking.validity import check_external, check_validity, has_external
from jr_onnx.checking.weights import compare_external, compare_inline, reader_of
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.conversion.metadata import MADE_FOR, POLICY, TARGET, hardened_metadata
from jr_onnx.conversion.policy import Jump, JumpReluPolicy, as_jump, as_policy, jump_text
from jr_onnx.conversion.sites.survey import Site
from jr_onnx.conversion.sites.surveyed import Side, jump_relus, read_side, text_of_jump
from jr_onnx.errors import ModelError, OptionError
from jr_onnx.files.external import data_files, locations_of, without_locations
from jr_onnx.files.source import Source, open_model
from jr_onnx.runtime.arrays import inputs_of
from jr_onnx.text import count

#: How many sites a note or a message names.
_NAMED = 8


def check(
    original: str | Path | onnx.ModelProto | None,
    hardened: str | Path | onnx.ModelProto,
    *,
    jump: Jump | None = None,
    policy: JumpReluPolicy | str | Path | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    clip: bool | None = None,
    jump_input: str | None = None,
    data: Mapping[str, npt.NDArray[Any]] | str | Path | None = None,
    samples: int = 2,
    shapes: Mapping[str, Sequence[int]] | None = None,
    providers: Sequence[str] = (CPU,),
    library: bool = True,
    run: bool = True,
    latency: bool = False,
    keep_going: bool = False,
) -> CheckReport:
    """Is `hardened` exactly `original` with JumpReLU in place of Relu, and does it run so?

    Structure is checked first. Where it has errors, the numbers would only say the same again in other words, so they
    are not measured and listed in `not_checked`.

    Args:
        original: the model that was converted; None for what can be said without it.
        hardened: the model that came of it.
        jump: the jump to check for, instead of the one that the file records.
        policy: jumps by rules, or the YAML file that has them, instead of one.
        include: globs of the sites that should be converted, instead of those that the file records.
        exclude: globs of the sites that should be left alone, instead of those that the file records.
        clip: whether Clip(0, c) should be converted, instead of what the file records.
        jump_input: the graph input that the jump should be, instead of the one that the file records.
        data: real inputs by name, or an NPZ file of them, beside the random ones.
        samples: how many times the model is run on random inputs.
        shapes: the shape of an input, by name; for what random inputs of another shape do not fit.
        providers: onnxruntime's execution providers; each is checked for itself.
        library: run with the kernel library as well.
        run: run the model at all.
        latency: measure the time of both models, in turn.
        keep_going: measure numbers even if the structure has errors.

    Raises:
        ModelError: a model cannot be read.
        OptionError: the options make no sense for these models.

    Example:
        >>> _ = jr_onnx.convert("models/digits.onnx", jump=0.5, output="hard.onnx")
        >>> jr_onnx.check("models/digits.onnx", "hard.onnx").findings
        ()
    """
    if jump is not None and policy is not None:
        raise OptionError("give `jump` or `policy`, not both")
    hardened = as_model("hardened", hardened)
    original = None if original is None else as_model("original", original)
    if as_integer("samples", samples) < 1:
        raise OptionError(f"`samples`: {samples} is too few; at least 1 is needed")
    chosen = (
        JumpReluPolicy(default=as_jump(jump)) if jump is not None else None if policy is None else as_policy(policy)
    )
    asked = Asked(
        chosen,
        None if include is None else as_names("include", include),
        None if exclude is None else as_names("exclude", exclude),
        clip,
        as_name("jump_input", jump_input),
    )
    arrays = inputs_of(data)
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        theirs = stack.enter_context(open_model(hardened))
        ours = None if original is None else stack.enter_context(open_model(original))
        if ours is not None and MADE_FOR in hardened_metadata(theirs.skeleton):
            raise ModelError(
                f"{hardened if isinstance(hardened, str | Path) else 'it'}: was optimised for one machine; check the "
                "hardened model that it was made from against the original, and this one by itself"
            )
        work = _Work(ours, theirs, asked)
        work.check_structure()
        if work.is_no_hardened_model:
            return work.report(time.perf_counter() - started)
        if run:
            request = Request(
                arrays, samples, as_lists("shapes", shapes or {}), as_names("providers", providers), library, latency
            )
            work.check_numbers(request, keep_going=keep_going)
        else:
            work.not_checked.append(NotChecked("numbers and running", "not asked for (`run=False`)", rules.RUNNING))
        return work.report(time.perf_counter() - started)


def unreadable(path: Path, error: ModelError) -> CheckReport:
    """The report on a file that cannot be read, for who checks many and wants to hear of the others as well."""
    others = tuple(rule for rule in rules.RULES if rule != rules.CHECKER)
    return CheckReport(
        original=None,
        hardened=path,
        jump="",
        target="",
        sites=(),
        findings=(finding(rules.CHECKER, str(error)),),
        notes=(),
        checked=(),
        not_checked=(NotChecked("all else", "the file cannot be read", others),),
        measurements=(),
        seconds=0.0,
    )


@dataclass
class _Work:
    """A check on its way."""

    original: Source | None
    hardened: Source
    asked: Asked
    read: Hardened | None = None
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    not_checked: list[NotChecked] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    sites: list[CheckedSite] = field(default_factory=list)

    def check_structure(self) -> None:
        try:
            self.read = read_hardened(self.hardened)
        except ModelError as error:
            self.findings.append(finding(rules.CHECKER, str(error)))
            others = tuple(rule for rule in rules.RULES if rule.startswith("JR1"))
            self.not_checked.append(NotChecked("the structure", "the model is no sound graph", others))
            return
        if not _is_hardened(self.hardened, self.read.side):
            self._say_not_hardened()
            return
        self.sites = [_described(site) for site in jump_relus(self.read.side)]
        _, wrong = check_external(self.hardened.skeleton, self.hardened.path)
        self.findings += wrong
        if self.original is None:
            self.findings += check_alone(self.read, self.asked)
            self.checked.append("record, jumps, function body, opset imports")
            self.not_checked += WITHOUT_ORIGINAL
            self.notes += filters_of_record(self.read)
        else:
            self._check_pair(self.original, self.read, external_is_sound=not wrong)
        if not self._errors:
            self.findings += check_validity(self.hardened, self.original)
            self.checked.append("onnx.checker, strict shape inference")
        else:
            why = "the structure has errors"
            self.not_checked.append(NotChecked("onnx.checker, strict shape inference", why, rules.VALIDITY))

    def _say_not_hardened(self) -> None:
        text = "has no JumpReLU, and no record that it was converted"
        if self.original is not None:
            check_structure(self.original.skeleton)
            if _is_hardened(self.original, read_side(self.original.skeleton)):
                text += "; ORIGINAL has: the two are exchanged"
        self.findings.append(finding(rules.NOT_HARDENED, text))
        others = tuple(rule for rule in rules.RULES if rule != rules.NOT_HARDENED)
        self.not_checked.append(NotChecked("all else", "it is not hardened", others))
        self.read = None

    def _check_pair(self, original: Source, read: Hardened, *, external_is_sound: bool) -> None:
        if original.path is not None:
            data_files(original.skeleton, original.path)
        self.findings += check_record(read)
        expected = self._expected(original, read)
        if expected is None:
            why = "there is no plan to compare with"
            self.not_checked.append(NotChecked("the rest of the structure", why, rules.NEEDS_ORIGINAL))
            return
        ours, theirs = expected.side, read.side
        if locations_of(ours.model) != locations_of(theirs.model):  # what their files are called is not compared
            ours, theirs = (read_side(without_locations(side.model)) for side in (ours, theirs))
        others = list(compare(ours, theirs))
        self.findings += others
        self.findings += compare_inline(
            expected.buffer, expected.buffer.read, self.hardened.buffer, reader_of(self.hardened), same=not others
        )
        self.checked += [
            f"plan: {count(len(expected.plan.sites), 'site')}",
            "nodes, edges, names, order, constants, interface, declared types, metadata, functions, imports",
        ]
        if self._compare_external(original, is_sound=external_is_sound):
            self.checked.append("weights, byte for byte")
        self._say_what_the_record_decided(expected, read)

    def _compare_external(self, original: Source, *, is_sound: bool) -> bool:
        """Whether all external data were compared."""
        ours, theirs = original.skeleton, self.hardened.skeleton
        if not has_external(ours) and not has_external(theirs):
            return True
        if original.path is None or self.hardened.path is None:
            text = "external data: a model in memory has no folder in which they lie; give its file"
            self.findings.append(finding(rules.NOT_RUN, text))
            return False
        if is_sound:
            self.findings += compare_external(ours, original.path.parent, theirs, self.hardened.path.parent)
        return is_sound

    def _expected(self, original: Source, read: Hardened) -> Expected | None:
        try:
            return make_expected(original, read, self.asked)
        except OptionError as error:
            if self.asked != Asked():
                make_expected(original, without_filters(read), self.asked)  # raises if it is a mistake of who asks
            # What the file records does not fit ORIGINAL.
            self.findings.append(finding(rules.OTHER_ORIGINAL, f"what the file records does not fit ORIGINAL: {error}"))
            return None

    def _say_what_the_record_decided(self, expected: Expected, read: Hardened) -> None:
        """The plan is held against the file, and must not quietly come from it."""
        asked = self.asked.policy
        if asked is None and POLICY in read.metadata and recorded_jump(read.metadata) is None:
            text = "jumps by policy: the file records one and not what is in it; give `policy`"
            self.findings.append(finding(rules.NOT_RUN, text))
        self.notes += expected.from_record
        left = expected.left_by_record
        if left:
            named = ", ".join(left[:_NAMED]) + (f" and {len(left) - _NAMED} more" if len(left) > _NAMED else "")
            if asked is None:
                self.notes.append(f"left alone by the record: {named}")
            else:
                text = f"left alone by a filter that the file records and nobody asked for: {named}"
                self.findings.append(finding(rules.LEFT_BY_RECORD, text))
        if expected.nothing_of:
            text = f"the plan converts no site, ORIGINAL has {expected.nothing_of} that could be"
            self.findings.append(finding(rules.NOTHING_PLANNED, text))

    def check_numbers(self, request: Request, *, keep_going: bool) -> None:
        if self.read is None or (self._errors and not keep_going):
            why = "the structure has errors (`keep_going=True` runs it)"
            self.not_checked.append(NotChecked("numbers and running", why, rules.RUNNING))
            return
        result = check_running(self.original, self.read, request)
        self.findings += result.findings
        self.checked += result.checked
        self.not_checked += result.not_checked
        self.measurements += result.measurements
        seen = result.sites
        self.sites = [replace(site, **seen[site.path]) if site.path in seen else site for site in self.sites]

    @property
    def is_no_hardened_model(self) -> bool:
        """Whether that was found, and there is nothing else to look at."""
        return any(one.rule == rules.NOT_HARDENED for one in self.findings)

    @property
    def _errors(self) -> bool:
        return any(one.severity == "error" for one in self.findings)

    def report(self, seconds: float) -> CheckReport:
        metadata = self.read.metadata if self.read is not None else {}
        return CheckReport(
            original=None if self.original is None else self.original.path,
            hardened=self.hardened.path,
            jump=self._jump_text(metadata),
            target=metadata.get(TARGET, ""),
            sites=tuple(self.sites),
            findings=in_order(self.findings),
            notes=tuple(self.notes),
            checked=tuple(self.checked),
            not_checked=tuple(dict.fromkeys(self.not_checked)),
            measurements=tuple(self.measurements),
            seconds=seconds,
        )

    def _jump_text(self, metadata: Mapping[str, str]) -> str:
        policy = self.asked.policy
        if policy is not None and (policy.rules or policy.default is None):
            return "by policy (asked for)"
        if policy is not None and policy.default is not None:
            return f"{jump_text(policy.default, 'double')} (asked for)"
        recorded = recorded_jump(metadata)
        return f"{jump_text(recorded, 'double')} (recorded)" if recorded is not None else "as in the file, site by site"


def _is_hardened(source: Source, side: Side) -> bool:
    return bool(hardened_metadata(source.skeleton)) or bool(jump_relus(side)) or uses_jump_relu(source.skeleton)


def _described(site: Site) -> CheckedSite:
    form = site.hardened.form.name if site.hardened is not None else "ThresholdedRelu activation"
    return CheckedSite(site.path, form, text_of_jump(site) or "unknown")
