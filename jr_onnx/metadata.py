"""Where a hardened model comes from, in `ModelProto.metadata_props`."""

from __future__ import annotations

import onnx

from jr_onnx.marks import PREFIX
from jr_onnx.options import Options
from jr_onnx.version import __version__

VERSION, JUMP_INPUT = f"{PREFIX}version", f"{PREFIX}jump_input"


def provenance(options: Options, sites: int, source_digest: str, jump_input: str | None) -> dict[str, str]:
    """The entries for a conversion, in the order in which they are written.

    `source_digest` is `Source.digest`: SHA-256 of the source's skeleton, for which no weights are read. `jump_input` is
    the graph input that is a jump: a new one, or one that stays from before.
    """
    policy = options.policy
    target = f"{options.target} inline" if options.inline else options.target
    entries = {VERSION: __version__, f"{PREFIX}target": target, f"{PREFIX}sites": str(sites)}
    if policy.rules or isinstance(policy.default, tuple):
        entries[f"{PREFIX}policy_sha256"] = policy.digest
    else:
        entries[f"{PREFIX}jump"] = repr(policy.default)
    if jump_input is not None:
        entries[JUMP_INPUT] = jump_input
    entries[f"{PREFIX}source_sha256"] = source_digest
    return entries


def jump_input_of(model: onnx.ModelProto) -> str | None:
    """The graph input that is the jump of a hardened model."""
    return next((entry.value for entry in model.metadata_props if entry.key == JUMP_INPUT), None)
