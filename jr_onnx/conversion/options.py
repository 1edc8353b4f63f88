"""What the user asked for, in one value that the whole pipeline reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jr_onnx.arguments import as_name, as_names
from jr_onnx.conversion.forms.table import TARGETS, Target
from jr_onnx.conversion.metadata import (
    CLIP,
    EXCLUDE,
    INCLUDE,
    JUMP,
    JUMP_INPUT,
    POLICY,
    RECOGNISE,
    SITES,
    SOURCE,
    TARGET,
    VERSION,
)
from jr_onnx.conversion.policy import Jump, JumpReluPolicy, as_jump, as_policy
from jr_onnx.errors import OptionError
from jr_onnx.version import __version__


def provenance(options: Options, sites: int, source_digest: str, jump_input: str | None) -> dict[str, str]:
    """The entries for a conversion, in the order in which they are written.

    `source_digest` is what `origin_digest` gives: SHA-256 of a skeleton, for which no weights are read. `jump_input` is
    the graph input that is a jump: a new one, or one that stays from before.
    """
    policy = options.policy
    target = f"{options.target} inline" if options.inline else options.target
    entries = {VERSION: __version__, TARGET: target, SITES: str(sites)}
    if options.recognise:
        entries[RECOGNISE] = "true"
    elif policy.rules or isinstance(policy.default, tuple):
        entries[POLICY] = policy.digest
    else:
        entries[JUMP] = repr(policy.default)
    if jump_input is not None:
        entries[JUMP_INPUT] = jump_input
    if options.clip:
        entries[CLIP] = "true"
    for key, globs in ((INCLUDE, options.include), (EXCLUDE, options.exclude)):
        if globs:
            entries[key] = json.dumps(globs)
    entries[SOURCE] = source_digest
    return entries


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        policy: which site gets which jump.
        target: what JumpReLU is written as.
        include: globs; where there are any, only sites that one of them matches are converted.
        exclude: globs; sites that one of them matches are left alone.
        jump_input: the name of the graph input that the jump becomes; None for a constant jump.
        clip: convert Clip with minimum 0 too.
        inline: write the function body into the graph instead of calling the function.
        allow_empty: a model without a site is no error.
        recognise: the sites are the JumpReLUs that the model has written out, and the jumps are their thresholds.
    """

    policy: JumpReluPolicy
    target: Target = "custom-op"
    include: tuple[str, ...] = field(default=())
    exclude: tuple[str, ...] = field(default=())
    jump_input: str | None = None
    clip: bool = False
    inline: bool = False
    allow_empty: bool = False
    recognise: bool = False


def make_options(
    jump: Jump | None,
    policy: JumpReluPolicy | str | Path | None,
    target: Target,
    include: Sequence[str],
    exclude: Sequence[str],
    jump_input: str | None,
    clip: bool,
    inline: bool,
    allow_empty: bool,
    recognise: bool = False,
) -> Options:
    """The options from the arguments of `jr_onnx.convert` and `jr_onnx.graphsurgeon.harden`.

    Raises:
        OptionError: they contradict each other, or the target is unknown.
    """
    if recognise and (jump is not None or policy is not None):
        raise OptionError("`recognise` keeps the thresholds that the model has; leave out `jump` and `policy`")
    if recognise and (target != "custom-op" or inline or jump_input is not None or clip):
        raise OptionError("`recognise` writes JumpReLU alone; leave out `target`, `inline`, `jump_input` and `clip`")
    if not recognise and (jump is None) == (policy is None):
        raise OptionError("give either `jump` or `policy` (which has a default jump of its own)")
    if target not in TARGETS:
        raise OptionError(f"unknown target {target!r}; it is one of {', '.join(TARGETS)}")
    if inline and target != "custom-op":
        raise OptionError(f"`inline` is for the target custom-op; {target} calls no function anyway")
    chosen = as_policy(policy) if policy is not None else JumpReluPolicy(None if recognise else as_jump(jump))
    included, excluded = as_names("include", include), as_names("exclude", exclude)
    name = as_name("jump_input", jump_input)
    return Options(chosen, target, included, excluded, name, clip, inline, allow_empty, recognise)
