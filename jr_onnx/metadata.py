"""Where a hardened model comes from, in `ModelProto.metadata_props`."""

from __future__ import annotations

import json
import re

import onnx

from jr_onnx.marks import PREFIX
from jr_onnx.options import Options
from jr_onnx.version import __version__

VERSION, TARGET, SITES, SOURCE = f"{PREFIX}version", f"{PREFIX}target", f"{PREFIX}sites", f"{PREFIX}source_sha256"
JUMP, POLICY, JUMP_INPUT = f"{PREFIX}jump", f"{PREFIX}policy_sha256", f"{PREFIX}jump_input"
#: What else decides which sites there are; recorded where asked for, so that `jr-onnx check` can make the plan again.
CLIP, INCLUDE, EXCLUDE = f"{PREFIX}clip", f"{PREFIX}include", f"{PREFIX}exclude"

#: The machine that a model was optimised for; others have no such entry.
MADE_FOR = f"{PREFIX}optimized_for"

#: How many JumpReLUs can be told in such a model: onnxruntime inlines functions, and keeps no marks.
OPTIMIZED_SITES = f"{PREFIX}optimized_sites"


def provenance(options: Options, sites: int, source_digest: str, jump_input: str | None) -> dict[str, str]:
    """The entries for a conversion, in the order in which they are written.

    `source_digest` is what `origin_digest` gives: SHA-256 of a skeleton, for which no weights are read. `jump_input` is
    the graph input that is a jump: a new one, or one that stays from before.
    """
    policy = options.policy
    target = f"{options.target} inline" if options.inline else options.target
    entries = {VERSION: __version__, TARGET: target, SITES: str(sites)}
    if policy.rules or isinstance(policy.default, tuple):
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


def origin_digest(model: onnx.ModelProto, digest: str) -> str:
    """The digest of the model that had no JumpReLU yet: as a hardened model records it, else the model's own."""
    recorded = hardened_metadata(model).get(SOURCE, "")
    return recorded if re.fullmatch("[0-9a-f]{64}", recorded) else digest


def hardened_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """What jr-onnx has recorded in a model; empty if it has not written it."""
    # Protobuf gives what is not UTF-8 as bytes; such a key is none of ours.
    entries = {str(entry.key): str(entry.value) for entry in model.metadata_props}
    return {key: value for key, value in entries.items() if key.startswith(PREFIX)}


def jump_input_of(model: onnx.ModelProto) -> str | None:
    """The graph input that is the jump of a hardened model."""
    return next((entry.value for entry in model.metadata_props if entry.key == JUMP_INPUT), None)
