"""What HARDENED should be: ORIGINAL planned and lowered again, with what the hardened file records about its making."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import onnx

from jr_onnx.conversion.edits import rewrite
from jr_onnx.conversion.forms.table import HARD_SIGMOID, RELU_GREATER, TARGETS
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.conversion.lower import RAISED_TO, Lowering
from jr_onnx.conversion.metadata import (
    CLIP,
    EXCLUDE,
    INCLUDE,
    JUMP,
    JUMP_INPUT,
    POLICY,
    RECOGNISE,
    TARGET,
    VERSION,
    hardened_metadata,
    jump_input_of,
    origin_digest,
)
from jr_onnx.conversion.options import Options, provenance
from jr_onnx.conversion.plan import make_plan
from jr_onnx.conversion.policy import Jump, JumpReluPolicy, PolicyRule, as_jump, matches
from jr_onnx.conversion.sites.matchers import SiteKind
from jr_onnx.conversion.sites.survey import Site
from jr_onnx.conversion.sites.surveyed import Side, jump_of, read_side
from jr_onnx.conversion.thresholds import with_thresholds
from jr_onnx.errors import OptionError
from jr_onnx.files.skeleton import skeleton_of
from jr_onnx.files.source import Source
from jr_onnx.files.spliced import Spliced

#: What a file records of its making that decides, beside the jump, which sites there are and who sets the jump.
FILTERS = (INCLUDE, EXCLUDE, CLIP, JUMP_INPUT)


@dataclass(frozen=True)
class Hardened:
    """The hardened model as it was found.

    Attributes:
        side: surveyed.
        metadata: what jr-onnx recorded in it.
    """

    source: Source
    side: Side
    metadata: Mapping[str, str]

    @property
    def model(self) -> onnx.ModelProto:
        """Its skeleton."""
        return self.source.skeleton

    @property
    def jump_relus(self) -> tuple[Site, ...]:
        """The sites that are a JumpReLU."""
        return tuple(site for site in self.side.sites.values() if site.kind is SiteKind.HARDENED)

    @property
    def recurrent(self) -> tuple[Site, ...]:
        """RNN, GRU and LSTM: with a threshold in their activations if they are hardened."""
        return tuple(site for site in self.side.sites.values() if site.kind is SiteKind.RECURRENT)


@dataclass(frozen=True)
class Asked:
    """The arguments of the conversion as whoever checks gives them; None for what the hardened file records."""

    policy: JumpReluPolicy | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    clip: bool | None = None
    jump_input: str | None = None


@dataclass(frozen=True)
class Expected:
    """What the hardened model should be.

    Attributes:
        planned: how many sites the plan for ORIGINAL has.
        buffer: the file that `convert` would write.
        side: the skeleton of that file, surveyed.
        left_by_record: the sites that only a filter recorded in the hardened file leaves alone.
        from_record: what else the plan has from the record that nobody asked for.
        nothing_of: how many sites ORIGINAL has that could be converted, if the plan converts none of them.
    """

    planned: int
    buffer: Spliced = field(repr=False)
    side: Side
    left_by_record: tuple[str, ...]
    from_record: tuple[str, ...]
    nothing_of: int


@dataclass(frozen=True)
class JumpsByPath(JumpReluPolicy):
    """A policy that names each site by its path; all others are left alone."""

    by_path: Mapping[str, Jump] = field(default_factory=dict)

    def rule_for(self, path: str, node_name: str) -> PolicyRule | None:
        return PolicyRule(node_name or path, self.by_path.get(path))


def read_hardened(source: Source) -> Hardened:
    """Survey a hardened model.

    Raises:
        ModelError: it is not a sound graph.
    """
    check_structure(source.skeleton)
    return Hardened(source, read_side(source.skeleton), hardened_metadata(source.skeleton))


def make_expected(original: Source, hardened: Hardened, asked: Asked) -> Expected:
    """Plan and lower ORIGINAL again, with what is asked for in place of what the hardened file records.

    Raises:
        JrOnnxError: the plan cannot be carried out on this model.
    """
    model = original.skeleton
    check_structure(model)
    options = _options(model, hardened, asked)
    if options.recognise:
        model = with_thresholds(original)
    if options.jump_input is not None and options.jump_input == jump_input_of(model):
        options = _without_new_input(model, options)
    plan = make_plan(model, options)
    edit = Lowering(model, plan, options, _raised_before(hardened)).edit()
    entries = provenance(options, len(plan.sites), origin_digest(model, original.digest), edit.jump_input)
    edit.metadata = _metadata(entries, hardened, asked.policy)
    buffer = Spliced(original, rewrite(original, edit))
    skeleton = onnx.ModelProto.FromString(skeleton_of(buffer))
    # A survey takes its time in a large model, and where all is planned there is nothing left to look for.
    found = read_side(model).sites.values() if options.include or options.exclude or not plan.sites else ()
    sites = [site for site in found if options.clip or site.kind is not SiteKind.CLIP]
    return Expected(
        len(plan.sites),
        buffer,
        read_side(skeleton),
        left_by_record=tuple(site.path for site in sites if _is_left_by_record(site, options, asked)),
        from_record=_from_record(options, asked),
        nothing_of=0 if plan.sites else sum(not site.problem for site in sites),
    )


def recorded_jump(metadata: Mapping[str, str]) -> float | None:
    """The one jump that a file records; None where it records none, a policy, or what is not a jump."""
    try:
        jump = float(metadata[JUMP])
        as_jump(jump)
    except (KeyError, ValueError, OptionError):
        return None
    return jump


def recorded_globs(metadata: Mapping[str, str], key: str) -> tuple[str, ...] | None:
    """The globs that a file records; None where that is no list of them."""
    try:
        globs = json.loads(metadata.get(key, "[]"))
    except (ValueError, RecursionError):
        return None
    is_list = isinstance(globs, list) and all(isinstance(glob, str) for glob in globs)
    return tuple(globs) if is_list else None


def without_filters(hardened: Hardened) -> Hardened:
    """The same as if it recorded nothing that decides, beside the jump, which sites there are."""
    kept = {key: value for key, value in hardened.metadata.items() if key not in FILTERS}
    return replace(hardened, metadata=kept)


def _is_left_by_record(site: Site, options: Options, asked: Asked) -> bool:
    """Whether a filter that was not asked for keeps a site from being converted."""
    include = options.include if asked.include is None else ()
    exclude = options.exclude if asked.exclude is None else ()
    if include and not any(matches(glob, site.path, site.name) for glob in include):
        return True
    return any(matches(glob, site.path, site.name) for glob in exclude)


def _from_record(options: Options, asked: Asked) -> tuple[str, ...]:
    notes = []
    if options.jump_input is not None and asked.jump_input is None:
        notes.append(f"jump input by the record: '{options.jump_input}', which whoever runs the model can set")
    if options.clip and asked.clip is None:
        notes.append("by the record Clip(0, c) is converted too")
    return tuple(notes)


def _options(original: onnx.ModelProto, hardened: Hardened, asked: Asked) -> Options:
    recorded, policy = hardened.metadata, asked.policy
    recognise = recorded.get(RECOGNISE) == "true" and policy is None
    target, _, inline = recorded.get(TARGET, "").partition(" ")
    if target not in TARGETS:
        target, inline = _likely_target(hardened)
    if recognise:
        policy = JumpReluPolicy()
    elif policy is None:
        jump = recorded_jump(recorded)
        policy = JumpReluPolicy(jump) if jump is not None else _recorded_jumps(original, hardened)
    return Options(
        policy=policy,
        target=next(known for known in TARGETS if known == target),
        include=(recorded_globs(recorded, INCLUDE) or ()) if asked.include is None else asked.include,
        exclude=(recorded_globs(recorded, EXCLUDE) or ()) if asked.exclude is None else asked.exclude,
        jump_input=recorded.get(JUMP_INPUT) if asked.jump_input is None else asked.jump_input,
        clip=recorded.get(CLIP) == "true" if asked.clip is None else asked.clip,
        inline=inline == "inline",
        allow_empty=True,
        recognise=recognise,
    )


def _raised_before(hardened: Hardened) -> int:
    """The IR version that an earlier conversion of the same model may have needed, for another target; 0 for none."""
    version = hardened.model.ir_version
    return version if version in RAISED_TO else 0


def _without_new_input(original: onnx.ModelProto, options: Options) -> Options:
    """The options without the jump input, if ORIGINAL has it already and keeps it for sites that are left alone."""
    plain = replace(options, jump_input=None)
    kept = Lowering(original, make_plan(original, plain), plain).edit().jump_input
    return plain if kept == options.jump_input else options


def _likely_target(hardened: Hardened) -> tuple[str, str]:
    """The target, and "inline" or nothing, of a file that has lost its record."""
    forms = [site.hardened.form for site in hardened.jump_relus if site.hardened]
    if not forms or any(form.calls for form in forms):
        return "custom-op", ""
    if any(form is not HARD_SIGMOID and not form.jump_is_input for form in forms):
        return "standard", ""
    if HARD_SIGMOID in forms:
        return "hard-sigmoid", ""
    return ("subgraph", "") if all(RELU_GREATER.name in form.name for form in forms) else ("custom-op", "inline")


def _recorded_jumps(original: onnx.ModelProto, hardened: Hardened) -> JumpsByPath:
    """For each site of ORIGINAL that is a JumpReLU in HARDENED, the jump that it has there."""
    jumps: dict[str, Jump] = {}
    for key, site in read_side(original).sites.items():
        there = hardened.side.sites.get(key)
        values = None if there is None else jump_of(there)
        if values is not None:
            jumps[site.path] = tuple(map(float, values.flat)) if values.ndim else float(values)
    return JumpsByPath(by_path=jumps)


def _metadata(entries: dict[str, str], hardened: Hardened, policy: JumpReluPolicy | None) -> dict[str, str]:
    """The entries as the version that made the file wrote them, and with the digest of the policy that it had."""
    recorded = hardened.metadata
    kept = {VERSION}
    if policy is None and recorded_jump(recorded) is None and RECOGNISE not in entries:
        # A policy, no jump, or what is none: a finding of its own.
        entries.pop(JUMP, None)
        entries.pop(POLICY, None)
        kept |= {JUMP, POLICY}
        if not recorded.keys() & {JUMP, POLICY}:
            entries[JUMP] = "the jump"
    entries.update({key: recorded[key] for key in kept if key in recorded})
    order = list(hardened.metadata)
    return dict(sorted(entries.items(), key=lambda entry: order.index(entry[0]) if entry[0] in order else len(order)))
