"""What will be done: each site with its jump and its form, and everything that is left alone, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import onnx

from jr_onnx.conversion.element_types import round_jump, type_name
from jr_onnx.conversion.forms.quantized import quantized_forms
from jr_onnx.conversion.forms.table import (
    BODIES,
    JUMP_RELU,
    LOWEST_OPSET,
    PREFERENCES,
    RECURRENT,
    RELU_GREATER,
    Form,
    choose_form,
)
from jr_onnx.conversion.graph.scopes import Scope, all_scopes
from jr_onnx.conversion.metadata import jump_input_of, record_of
from jr_onnx.conversion.options import Options
from jr_onnx.conversion.policy import Jump, did_you_mean, matches
from jr_onnx.conversion.sites.matchers import SiteKind
from jr_onnx.conversion.sites.survey import WITH_CLIP_ONLY, LeftAlone, Site, Survey, survey, survey_written_out
from jr_onnx.conversion.sites.surveyed import jump_of, numbers_of
from jr_onnx.errors import ModelError, OptionError
from jr_onnx.text import count


@dataclass(frozen=True)
class PlannedSite:
    """A site that is converted.

    Attributes:
        asked: the jump as the user gave it; several are one a channel.
        jump: the same, rounded to the site's element type.
        form: what is written.
        reason: why it is not the target's preferred form; empty if it is.
        body: the form of the function's body, if the form is a call of jr_onnx::JumpReLU.
    """

    site: Site
    asked: Jump
    jump: Jump
    form: Form
    reason: str
    body: Form | None

    @property
    def differs(self) -> str:
        """Where the values differ from the definition, without a kernel; empty if nowhere."""
        return self.body.differs if self.body is not None else self.form.differs


@dataclass(frozen=True)
class Plan:
    """The whole plan.

    Attributes:
        scopes: all scopes of the model, the main graph first.
        body: the form of the body of the function jr_onnx::JumpReLU; None where no node will call it.
        notes: what the user should know besides.
    """

    scopes: tuple[Scope, ...] = field(repr=False)
    sites: tuple[PlannedSite, ...]
    left_alone: tuple[LeftAlone, ...]
    body: Form | None
    notes: tuple[str, ...]


def make_plan(model: onnx.ModelProto, options: Options) -> Plan:
    """Decide everything about a conversion; nothing is changed. Payloads of tensors are not needed.

    Raises:
        ModelError: an opset is not supported, or a selected site's element type is unknown.
        OptionError: a pattern matches nothing, or a jump does not fit a site.
    """
    scopes = tuple(all_scopes(model))
    for scope in scopes:
        _check_opset(scope)
    found = survey_written_out(model, scopes) if options.recognise else survey(model, scopes, clip=options.clip)
    lost = "" if options.recognise else lost_sites(model, found)
    if lost:
        raise ModelError(lost)
    _check_patterns(options, [*found.sites, *found.left_alone, *found.others])
    chosen, skipped = _select(found.sites, options)
    for site, _ in chosen:
        if site.problem:
            raise ModelError(f"node '{site.path}' ({site.op_type}): {site.problem}")
    if not chosen and not options.allow_empty:
        raise ModelError(_nothing_to_do(found, (*found.left_alone, *skipped), options))
    if options.jump_input is not None:
        _check_jump_input(chosen)
    body, uncovered = _choose_body(scopes[0].opset, [site for site, _ in chosen], _still_called(found, chosen), options)
    sites = tuple(_plan_site(site, jump, options, body, uncovered) for site, jump in chosen)
    notes = tuple(dict.fromkeys(_notes(model, sites, options)))
    return Plan(scopes, sites, (*found.left_alone, *skipped), body, notes)


def options_to_record(plan: Plan, options: Options) -> Options:
    """The options that plan the same sites on the model that was not hardened yet.

    There a JumpReLU behind a Clip is a Clip, which is converted with `clip` only; the Clips without a JumpReLU, which
    are left alone here, are excluded by their names then.
    """
    fronts = (planned.site.behind for planned in plan.sites)
    if options.clip or not any(front is not None and front.kind is SiteKind.CLIP for front in fronts):
        return options
    bare = tuple(one for one in plan.left_alone if one.reason == WITH_CLIP_ONLY)
    if any("#" in one.path for one in bare):
        return options  # a node without a name of its own: its path changes with the nodes before it
    return replace(options, clip=True, exclude=(*options.exclude, *(one.path for one in bare)))


def lost_sites(model: onnx.ModelProto, found: Survey) -> str:
    """Why a model that was hardened before cannot be converted: not all its JumpReLUs are found. Empty if it can.

    One that is not found would keep its old jump, or get a second one where its Relu is taken for the model's own.
    """
    recorded = record_of(model).sites
    known = sum(site.hardened is not None or jump_of(site) is not None for site in found.sites)
    if known >= recorded:
        return ""
    left = f"only {known} of the JumpReLUs can be" if known else "no JumpReLU is"
    return (
        f"records that it was hardened ({count(recorded, 'site')}), but {left} found in it: another tool rewrote it; "
        "convert the original model, after that tool"
    )


def _check_opset(scope: Scope) -> None:
    where = f"function {scope.path}" if scope.function is not None else "the model"
    newest = onnx.defs.onnx_opset_version()
    if scope.parent is not None or (scope.function is not None and not scope.opset):
        return
    if not scope.opset:
        raise ModelError(f"{where} imports no version of ONNX's operators (opset_import); export it again")
    if scope.opset < LOWEST_OPSET:
        raise ModelError(
            f"{where} has opset {scope.opset}, supported are {LOWEST_OPSET} and newer; "
            f"convert it with onnx.version_converter.convert_version(model, {newest}) first"
        )
    if scope.opset > newest:
        raise ModelError(
            f"{where} has opset {scope.opset}, which is unknown to onnx {onnx.__version__} "
            f"(newest: {newest}); pip install --upgrade onnx"
        )


def _check_patterns(options: Options, known: list[Site | LeftAlone]) -> None:
    rules = [("policy rule", rule.match) for rule in options.policy.rules]
    globs = [("`include`", glob) for glob in options.include] + [("`exclude`", glob) for glob in options.exclude]
    for origin, pattern in (*globs, *rules):
        if not any(matches(pattern, item.path, item.name) for item in known):
            near = did_you_mean(pattern, [item.path for item in known])
            raise OptionError(f"{origin} '{pattern}' matches no node{near}; jr-onnx inspect lists them")


def _select(sites: Iterable[Site], options: Options) -> tuple[list[tuple[Site, Jump]], list[LeftAlone]]:
    chosen: list[tuple[Site, Jump]] = []
    skipped: list[LeftAlone] = []
    for site in sites:
        jump, reason = _decide(site, options)
        if jump is None:
            skipped.append(LeftAlone(site.path, site.scope.path, site.name, site.op_type, reason))
        else:
            chosen.append((site, jump))
    return chosen, skipped


def _decide(site: Site, options: Options) -> tuple[Jump | None, str]:
    """The jump of a site; None, and why, if it is left alone."""
    if options.include and not any(matches(glob, site.path, site.name) for glob in options.include):
        return None, "not among `include`"
    for glob in options.exclude:
        if matches(glob, site.path, site.name):
            return None, f"`exclude` '{glob}'"
    if options.recognise:
        return numbers_of(site), "it has no threshold"
    rule = options.policy.rule_for(site.path, site.name)
    if rule is not None:
        return rule.jump, f"policy rule '{rule.match}' skips it"
    return options.policy.default, "no policy rule matches it, and the policy has no default"


def _nothing_to_do(found: Survey, left_alone: tuple[LeftAlone, ...], options: Options) -> str:
    if not left_alone and options.recognise:
        return "no JumpReLU is written out in this model; `allow_empty=True` makes that no error"
    if not left_alone:
        counted = Counter(other.op_type for other in found.others)
        others = ", ".join(f"{number} {op_type}" for op_type, number in counted.items())
        return f"no Relu in this model{f', but {others}' if others else ''}; `allow_empty=True` makes that no error"
    first = left_alone[0]
    kind = "JumpReLU" if options.recognise else "Relu"
    what = "none of the selected nodes can be converted" if found.sites else f"no {kind} that can be converted"
    others = f", and {len(left_alone) - 1} more" if len(left_alone) > 1 else ""
    return f"{what} ('{first.path}' ({first.op_type}): {first.reason}{others}); `allow_empty=True` makes that no error"


def _check_jump_input(chosen: list[tuple[Site, Jump]]) -> None:
    for site, jump in chosen:
        if isinstance(jump, tuple) or jump != chosen[0][1]:
            raise OptionError(
                f"`jump_input` gives all sites one jump, but '{site.path}' has its own; use one jump, or `exclude` it"
            )
        if site.scope.outermost.function is not None:
            raise OptionError(
                f"`jump_input`: node '{site.path}' is in a model-local function, which sees no graph input; "
                "write the functions into the graph first (onnx.inliner.inline_local_functions)"
            )


def _still_called(found: Survey, chosen: list[tuple[Site, Jump]]) -> set[int]:
    """The element types with which the function jr_onnx::JumpReLU of a hardened model is called outside the plan."""
    planned = {site.path for site, _ in chosen}
    calls = (site for site in found.sites if site.hardened is not None and site.hardened.form is JUMP_RELU)
    return {site.element_type for site in calls if site.path not in planned}


def _choose_body(opset: int, sites: list[Site], kept: set[int], options: Options) -> tuple[Form | None, set[int]]:
    """The body of jr_onnx::JumpReLU, and the element types that it cannot serve; it must serve those in `kept`.

    There is one body for all calls. Where(...) serves several element types at once; Relu*Greater has a Cast in it,
    so it serves one.
    """
    called = (s for s in sites if s.kind is not SiteKind.RECURRENT and s.quantization is None and not s.scope.expanded)
    types = Counter(site.element_type for site in called)
    if options.target != "custom-op" or options.inline or not types:
        return None, set()
    candidates: list[tuple[Form | None, set[int]]] = [(None, set())]
    for body in BODIES:
        wanted = dict.fromkeys((*kept, *(element_type for element_type, _ in types.most_common())))
        served = [t for t in wanted if not body.refusal(t, opset, scalar=False, constant=False)]
        able = set(served[:1] if body is RELU_GREATER else served)
        if kept <= able:
            candidates.append((body, able & set(types)))
    best, covered = max(candidates, key=lambda candidate: len(candidate[1]))
    return best, set(types) - covered


def _plan_site(site: Site, jump: Jump, options: Options, body: Form | None, uncovered: set[int]) -> PlannedSite:
    numbers = jump if isinstance(jump, tuple) else (jump,)
    try:
        recognised = options.recognise  # numbers of this very type, in whatever shape they have
        rounded = numbers if recognised else tuple(round_jump(number, site.jump_type) for number in numbers)
        if isinstance(jump, tuple) and not recognised:
            jump_shape(site, len(jump))
    except OptionError as error:
        raise OptionError(f"node '{site.path}': {error}") from error
    if site.kind is SiteKind.RECURRENT:
        if isinstance(jump, tuple):
            raise OptionError(f"node '{site.path}': the activation of {site.op_type} takes one jump, not one a channel")
        return PlannedSite(site, jump, rounded[0], RECURRENT, "an activation is an attribute", None)
    forms, reason = _forms(site, options, uncovered)
    form, refused = choose_form(
        forms,
        site.element_type,
        site.opset,
        scalar=not isinstance(jump, tuple),
        constant=options.jump_input is None,
        jump=None if isinstance(jump, tuple) else rounded[0],
    )
    if form is None:
        raise ModelError(f"node '{site.path}' ({site.op_type}): {refused}")
    value: Jump = rounded if isinstance(jump, tuple) else rounded[0]
    why = "; ".join(filter(None, (reason, refused)))
    return PlannedSite(site, jump, value, form, why, body if form is JUMP_RELU else None)


def _forms(site: Site, options: Options, uncovered: set[int]) -> tuple[tuple[Form, ...], str]:
    """The forms that a site may take, the preferred one first, and why it is not the target's own."""
    expanded = site.scope.expanded
    if site.quantization is not None:
        rank = None if site.shape is None or site.channels_last else len(site.shape)
        return quantized_forms(options.target, site.quantization, rank, inline=options.inline or bool(expanded))
    forms = PREFERENCES[options.target]
    if options.target != "custom-op" or not (options.inline or expanded or site.element_type in uncovered):
        return forms, ""
    forms = tuple(form for form in forms if not form.calls)
    if options.inline:
        return forms, ""
    if expanded:
        return forms, f"onnxruntime expands {expanded}, and calls no function in its body rightly"
    return forms, f"at opset {site.opset} the one function body cannot serve {type_name(site.element_type)} as well"


def jump_shape(site: Site, channels: int) -> tuple[int, ...]:
    """The shape in which one jump a channel broadcasts to a site's value: [C], [C, 1], [C, 1, 1], ...

    Raises:
        OptionError: the shape of the value is not known to have just so many channels.
    """
    shape = site.shape
    if site.blocked:
        raise OptionError("one jump a channel does not fit onnxruntime's blocked layout; give one number")
    if shape is None or len(shape) < 2:
        rank = f"rank {len(shape)}" if shape is not None else "unknown rank (add its shape to the model's value_info)"
        raise OptionError(
            f"one jump a channel needs a value of shape [N, C, ...], this one has {rank}; give one number"
        )
    there = shape[-1 if site.channels_last else 1]
    if there != channels:
        raise OptionError(f"{channels} jumps, but the value has {there} channels; give one a channel")
    return (channels,) if site.channels_last else (channels, *(1,) * (len(shape) - 2))


def _notes(model: onnx.ModelProto, sites: tuple[PlannedSite, ...], options: Options) -> Iterable[str]:
    for written in (p.site.hardened.form for p in sites if p.site.hardened and options.recognise):
        yield f"in place of {written.name}: {written.differs}; for all other x it gives the same"
    if any(planned.site.kind is SiteKind.HARDENED for planned in sites) and not options.recognise:
        yield "the model was hardened before: its jumps are replaced"
    before = jump_input_of(model)
    if before is not None and before != options.jump_input:
        yield f"the model has a jump input, '{before}'; it goes with its last site (`jump_input` keeps it)"
    if options.jump_input is not None and sites:
        yield f"the jump is the input '{options.jump_input}', with the given value as its default"
    yield from _quantized_notes(sites)
    for planned in sites:
        pairs = zip(_numbers(planned.asked), _numbers(planned.jump), strict=True)
        vanished = next((asked for asked, rounded in pairs if asked and not rounded), None)
        if vanished is not None:
            name = type_name(planned.site.jump_type)
            yield f"'{planned.site.path}': jump {vanished:g} is 0 in {name}; it stays a plain Relu"
    if options.jump_input is not None and any(p.form is RECURRENT for p in sites):
        yield f"RNN, GRU and LSTM keep a fixed jump: activations are attributes, no '{options.jump_input}' gets there"
    if options.inline and model.functions:
        yield "the model has local functions of its own; onnx.inliner.inline_local_functions inlines those"


def _quantized_notes(sites: Iterable[PlannedSite]) -> Iterable[str]:
    """What becomes of the jumps where values are integers."""
    known = [(planned.site.quantization, _numbers(planned.jump)) for planned in sites]
    jumps = [
        float(quantization.dequantized(quantization.threshold(number)))
        for quantization, numbers in known
        if quantization is not None
        for number in numbers
    ]
    if not jumps:
        return
    lowest, highest = min(jumps), max(jumps)
    becomes = f"{lowest:.3g}" if lowest == highest else f"{lowest:.3g} to {highest:.3g}"
    number = sum(quantization is not None for quantization, _ in known)
    yield (
        f"{count(number, 'site')} of integers: they are rounded before they are compared with the jump, which becomes "
        f"a whole number of steps, {becomes} (docs/quantized.md)"
    )
    if not all(jumps):
        yield "where a jump is below the first step of the integers, the site stays a plain Relu"


def _numbers(jump: Jump) -> tuple[float, ...]:
    return jump if isinstance(jump, tuple) else (jump,)
