"""The verb: open both models, go from what a file says to what it does, and put it all into one report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

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
from jr_onnx.checking.report import CheckedSite, CheckReport, Results
from jr_onnx.checking.run import RunOptions, check_running
from jr_onnx.checking.validity import check_external, check_validity, has_external
from jr_onnx.checking.weights import compare_external, compare_inline
from jr_onnx.conversion.forms.write import is_for_cuda
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.conversion.metadata import MADE_FOR, POLICY, TARGET, hardened_metadata
from jr_onnx.conversion.policy import Jump, JumpReluPolicy, as_jump, as_policy, jump_text
from jr_onnx.conversion.sites.survey import Site
from jr_onnx.conversion.sites.surveyed import Side, jump_relus, read_side, text_of_jump
from jr_onnx.errors import ModelError, OptionError
from jr_onnx.files.external import data_files, locations_of, without_locations
from jr_onnx.files.source import Source, about, open_model
from jr_onnx.runtime.data.dataset import Dataset
from jr_onnx.runtime.data.loading import DataSource, read_data
from jr_onnx.runtime.sessions import CPU
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
    data: Dataset | DataSource | None = None,
    random_inputs: int = 2,
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
        hardened: the model that `convert` made of it.
        jump: the jump to check for, instead of the one that the file records.
        policy: jumps by rules, or the YAML file that has them, instead of one.
        include: globs of the sites that should be converted, instead of those that the file records.
        exclude: globs of the sites that should be left alone, instead of those that the file records.
        clip: whether Clip(0, c) should be converted, instead of what the file records.
        jump_input: the graph input that the jump should be, instead of the one that the file records.
        data: real inputs: all that `jr_onnx.load_data` takes or gives; of samples (x), the first 32 are run. Where they
            leave no input to make up, they take the place of the random ones.
        random_inputs: how many times the model is run on random inputs.
        shapes: the shape of an input, by name; for what random inputs of another shape do not fit.
        providers: onnxruntime's execution providers; each is checked for itself.
        library: run with the kernel library as well.
        run: run the model at all.
        latency: measure the time of both models, in turn.
        keep_going: measure numbers even if the structure has errors.

    Raises:
        ModelError: a model cannot be read.
        OptionError: the options make no sense for these models.

    Examples:
        >>> _ = jr_onnx.convert("models/digits.onnx", jump=0.5, output="hard.onnx")
        >>> jr_onnx.check("models/digits.onnx", "hard.onnx").findings
        ()
    """
    if jump is not None and policy is not None:
        raise OptionError("give `jump` or `policy`, not both")
    hardened = as_model("hardened", hardened)
    original = None if original is None else as_model("original", original)
    if as_integer("random_inputs", random_inputs) < 1:
        raise OptionError(f"`random_inputs`: {random_inputs} is too few; at least 1 is needed")
    asked = Asked(
        JumpReluPolicy(default=as_jump(jump)) if jump is not None else None if policy is None else as_policy(policy),
        None if include is None else as_names("include", include),
        None if exclude is None else as_names("exclude", exclude),
        clip,
        as_name("jump_input", jump_input),
    )
    given = None if data is None else read_data(data)
    options = RunOptions(
        given, random_inputs, as_lists("shapes", shapes or {}), as_names("providers", providers), library, latency
    )
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        theirs = stack.enter_context(open_model(hardened))
        ours = None if original is None else stack.enter_context(open_model(original))
        if ours is not None and (MADE_FOR in hardened_metadata(theirs.skeleton) or is_for_cuda(theirs.skeleton)):
            with about(theirs.path):
                raise ModelError(
                    "was optimised; check the hardened model that it was made from against the "
                    "original, and this one by itself"
                )
        work = _Check(ours, theirs, asked)
        if work.check_structure():
            work.check_numbers(options if run else None, keep_going=keep_going)
        return work.report(time.perf_counter() - started)


def unreadable(path: Path, error: ModelError) -> CheckReport:
    """The report on a file that cannot be read, where many are checked and the others go on."""
    results = Results()
    results.add(rules.CHECKER, str(error))
    others = tuple(rule for rule in rules.RULES if rule != rules.CHECKER)
    results.skip("all else", "the file cannot be read", others)
    return results.report(None, path)


class _Check:
    """A check on its way."""

    def __init__(self, original: Source | None, hardened: Source, asked: Asked) -> None:
        self._original, self._hardened, self._asked = original, hardened, asked
        self._read: Hardened | None = None
        self._results = Results()

    def check_structure(self) -> bool:
        """Whether it is a hardened model, so that there is something else to look at."""
        results = self._results
        try:
            read = read_hardened(self._hardened)
        except ModelError as error:
            results.add(rules.CHECKER, str(error))
            results.skip("the structure", "the model is not a sound graph", rules.STRUCTURE)
            return True
        if not _is_hardened(self._hardened, read.side):
            self._say_not_hardened()
            return False
        self._read = read
        results.sites = {site.path: _described(site) for site in jump_relus(read.side)}
        wrong = check_external(self._hardened.skeleton, self._hardened.path)
        results.findings += wrong
        if self._original is None:
            results.findings += check_alone(read, self._asked)
            results.checked.append("record, jumps, function body, opset imports")
            results.not_checked += WITHOUT_ORIGINAL
            results.notes += filters_of_record(read)
        else:
            self._check_pair(self._original, read, external_is_sound=not wrong)
        if results.has_errors:
            results.skip("onnx.checker, strict shape inference", "the structure has errors", rules.VALIDITY)
        else:
            results.findings += check_validity(self._hardened, self._original)
            results.checked.append("onnx.checker, strict shape inference")
        return True

    def _say_not_hardened(self) -> None:
        text = "has no JumpReLU, and no record that it was converted"
        if self._original is not None:
            check_structure(self._original.skeleton)
            if _is_hardened(self._original, read_side(self._original.skeleton)):
                text += "; ORIGINAL has: the two are exchanged"
        self._results.add(rules.NOT_HARDENED, text)
        others = tuple(rule for rule in rules.RULES if rule != rules.NOT_HARDENED)
        self._results.skip("all else", "it is not hardened", others)

    def _check_pair(self, original: Source, read: Hardened, *, external_is_sound: bool) -> None:
        if original.path is not None:
            data_files(original.skeleton, original.path)
        self._results.findings += check_record(read)
        expected = self._expected(original, read)
        if expected is None:
            why = "there is no plan to compare with"
            self._results.skip("the rest of the structure", why, rules.NEEDS_ORIGINAL)
            return
        ours, theirs = expected.side, read.side
        if locations_of(ours.model) != locations_of(theirs.model):  # what their files are called is not compared
            ours, theirs = (read_side(without_locations(side.model)) for side in (ours, theirs))
        others = list(compare(ours, theirs))
        self._results.findings += others
        self._results.findings += compare_inline(expected.buffer, self._hardened, same=not others)
        self._results.checked += [
            f"plan: {count(expected.planned, 'site')}",
            "nodes, edges, names, order, constants, interface, declared types, metadata, functions, imports",
        ]
        if self._compare_external(original, is_sound=external_is_sound):
            self._results.checked.append("weights, byte for byte")
        self._say_what_the_record_decided(expected, read)

    def _compare_external(self, original: Source, *, is_sound: bool) -> bool:
        """Whether all external data were compared."""
        ours, theirs = original.skeleton, self._hardened.skeleton
        if not has_external(ours) and not has_external(theirs):
            return True
        if original.path is None or self._hardened.path is None:
            text = "external data: a model in memory has no folder in which they lie; give its file"
            self._results.add(rules.NOT_RUN, text)
            return False
        if is_sound:
            self._results.findings += compare_external(ours, original.path.parent, theirs, self._hardened.path.parent)
        return is_sound

    def _expected(self, original: Source, read: Hardened) -> Expected | None:
        try:
            return make_expected(original, read, self._asked)
        except OptionError as error:
            if self._asked != Asked():
                make_expected(original, without_filters(read), self._asked)  # raises if the arguments are the mistake
            # What the file records does not fit ORIGINAL.
            self._results.add(rules.OTHER_ORIGINAL, f"what the file records does not fit ORIGINAL: {error}")
            return None

    def _say_what_the_record_decided(self, expected: Expected, read: Hardened) -> None:
        """The plan is held against the file, and must not quietly come from it."""
        asked = self._asked.policy
        if asked is None and POLICY in read.metadata and recorded_jump(read.metadata) is None:
            text = "jumps by policy: the file records one and not what is in it; give `policy`"
            self._results.add(rules.NOT_RUN, text)
        self._results.notes += expected.from_record
        left = expected.left_by_record
        if left:
            named = ", ".join(left[:_NAMED]) + (f" and {len(left) - _NAMED} more" if len(left) > _NAMED else "")
            if asked is None:
                self._results.notes.append(f"left alone by the record: {named}")
            else:
                text = f"left alone by a filter that the file records and nobody asked for: {named}"
                self._results.add(rules.LEFT_BY_RECORD, text)
        if expected.nothing_of:
            text = f"the plan converts no site, ORIGINAL has {expected.nothing_of} that could be"
            self._results.add(rules.NOTHING_PLANNED, text)

    def check_numbers(self, options: RunOptions | None, *, keep_going: bool) -> None:
        """Run the models; without options that was not asked for."""
        if options is None:
            self._results.skip("numbers and running", "not asked for (`run=False`)", rules.RUNNING)
        elif self._read is None or (self._results.has_errors and not keep_going):
            self._results.skip("numbers and running", "the structure has errors (`keep_going=True`)", rules.RUNNING)
        else:
            check_running(self._original, self._read, options, self._results)

    def report(self, seconds: float) -> CheckReport:
        """What was found."""
        metadata = self._read.metadata if self._read is not None else {}
        original = None if self._original is None else self._original.path
        jump, target = self._jump_text(metadata), metadata.get(TARGET, "")
        return self._results.report(original, self._hardened.path, jump, target, seconds)

    def _jump_text(self, metadata: Mapping[str, str]) -> str:
        policy = self._asked.policy
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
