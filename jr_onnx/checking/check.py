"""The verb: open both models, go from what a file says to what it does, and put it all into one report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.checking import rules
from jr_onnx.checking.alone import WITHOUT_ORIGINAL, check_alone, check_record, converted_sites
from jr_onnx.checking.bytestream import reader_of
from jr_onnx.checking.expected import Expected, Hardened, make_expected, read_hardened, recorded_jump
from jr_onnx.checking.findings import (
    CheckedSite,
    CheckReport,
    Finding,
    Measurement,
    NotChecked,
    finding,
    in_order,
)
from jr_onnx.checking.payloads import compare_external, compare_inline
from jr_onnx.checking.structure import compare
from jr_onnx.checking.validity import check_external, check_validity
from jr_onnx.errors import JrOnnxError, ModelError, OptionError
from jr_onnx.metadata import POLICY, TARGET
from jr_onnx.modelfile.external import DataFile, data_files
from jr_onnx.modelfile.source import Source, open_file, open_proto
from jr_onnx.policy import Jump, JumpReluPolicy
from jr_onnx.sites.jumps import jump_of
from jr_onnx.sites.survey import Site

CPU = "CPUExecutionProvider"


def check(
    original: str | Path | onnx.ModelProto | None,
    hardened: str | Path | onnx.ModelProto,
    *,
    jump: Jump | None = None,
    policy: JumpReluPolicy | None = None,
    data: Mapping[str, npt.NDArray[Any]] | None = None,
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
        policy: jumps by rules, instead of one.
        data: real inputs by name, beside the random ones.
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
    """
    if jump is not None and policy is not None:
        raise OptionError("give a jump or a policy, not both")
    if samples < 1:
        raise OptionError(f"samples: {samples} is too few; at least 1 is needed")
    asked = JumpReluPolicy(default=jump) if jump is not None else policy
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        theirs = _opened(stack, hardened)
        ours = None if original is None else _opened(stack, original)
        work = _Work(ours, theirs, asked)
        work.check_structure()
        if run:
            from jr_onnx.checking.running import Request, check_running

            request = Request(data or {}, samples, shapes or {}, tuple(providers), library, latency)
            work.check_numbers(check_running, request, keep_going=keep_going)
        else:
            work.not_checked.append(NotChecked("numbers and running", "not asked for (--no-run)"))
        return work.report(time.perf_counter() - started)


def _opened(stack: contextlib.ExitStack, model: str | Path | onnx.ModelProto) -> Source:
    return open_proto(model) if isinstance(model, onnx.ModelProto) else stack.enter_context(open_file(Path(model)))


@dataclass
class _Work:
    """A check on its way."""

    original: Source | None
    hardened: Source
    policy: JumpReluPolicy | None
    read: Hardened | None = None
    findings: list[Finding] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    not_checked: list[NotChecked] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    sites: list[CheckedSite] = field(default_factory=list)

    def check_structure(self) -> None:
        try:
            self.read = read_hardened(self.hardened)
        except ModelError as error:
            self.findings.append(finding(rules.CHECKER, str(error)))
            return
        self.sites = [_described(site) for site in converted_sites(self.read)]
        files, wrong = check_external(self.hardened.skeleton, self.hardened.path)
        self.findings += wrong
        if self.original is None:
            self.findings += check_alone(self.read, self.policy)
            self.checked.append("record, jumps, function body, opset imports")
            self.not_checked += WITHOUT_ORIGINAL
            by_policy = POLICY in self.read.metadata if self.policy is None else bool(self.policy.rules)
            if by_policy:
                self.not_checked.append(NotChecked("jumps by policy", "they are planned on ORIGINAL"))
        else:
            self._check_pair(self.original, self.read, files)
        if not self._errors:
            original = None if self.original is None else self.original.skeleton
            self.findings += check_validity(self.hardened.skeleton, original)
            self.checked.append("onnx.checker, strict shape inference")
        else:
            self.not_checked.append(NotChecked("onnx.checker, strict shape inference", "the structure has errors"))

    def _check_pair(self, original: Source, read: Hardened, files: tuple[DataFile, ...]) -> None:
        our_files = data_files(original.skeleton, original.path.parent) if original.path is not None else ()
        expected = self._expected(original, read)
        if expected is None:
            return
        self.findings += check_record(read)
        self.findings += compare(expected.side, read.side)
        self.findings += compare_inline(
            expected.buffer, expected.buffer.read, self.hardened.buffer, reader_of(self.hardened)
        )
        if our_files and files:
            self.findings += compare_external(original.skeleton, our_files, self.hardened.skeleton, files)
        self.checked += [
            f"plan: {len(expected.plan.sites)} sites",
            "nodes, edges, names, order, constants, interface, declared types, metadata, functions, imports",
            "weights, byte for byte",
        ]

    def _expected(self, original: Source, read: Hardened) -> Expected | None:
        try:
            return make_expected(original, read, self.policy)
        except JrOnnxError as error:
            if self.policy is not None or isinstance(error, ModelError):
                raise
            # What the file records does not fit ORIGINAL: a fault of the file, not of who asks.
            self.findings.append(finding(rules.OTHER_ORIGINAL, f"what the file records does not fit ORIGINAL: {error}"))
            return None

    def check_numbers(self, check_running: Any, request: Any, *, keep_going: bool) -> None:
        if self.read is None or (self._errors and not keep_going):
            self.not_checked.append(NotChecked("numbers and running", "the structure has errors (--keep-going)"))
            return
        result = check_running(self.original, self.read, request)
        self.findings += result.findings
        self.checked += result.checked
        self.not_checked += result.not_checked
        self.measurements += result.measurements
        seen = result.sites
        self.sites = [replace(site, **seen[site.path]) if site.path in seen else site for site in self.sites]

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
            checked=tuple(self.checked),
            not_checked=tuple(dict.fromkeys(self.not_checked)),
            measurements=tuple(self.measurements),
            seconds=seconds,
        )

    def _jump_text(self, metadata: Mapping[str, str]) -> str:
        if self.policy is not None:
            rest = "asked for" if not self.policy.rules else "asked for, by policy"
            return f"{self.policy.default!r} ({rest})"
        recorded = recorded_jump(metadata)
        return f"{recorded!r} (recorded)" if recorded is not None else "as in the file, site by site"


def _described(site: Site) -> CheckedSite:
    values = jump_of(site)
    if values is None or not values.size:
        jump = "not a constant"
    else:
        low, high = float(np.min(values)), float(np.max(values))
        jump = f"{low!r}" if low == high else f"{low!r} to {high!r}"
    form = site.hardened.form.name if site.hardened is not None else "ThresholdedRelu activation"
    return CheckedSite(site.path, form, jump)
