"""Where a hardened model comes from, in `ModelProto.metadata_props`."""

from __future__ import annotations

import onnx

from jr_onnx.options import Options
from jr_onnx.version import __version__

#: All keys that jr-onnx writes begin with this, and so do the names of the values it adds.
PREFIX = "jr_onnx."
VERSION, JUMP_INPUT = f"{PREFIX}version", f"{PREFIX}jump_input"


def provenance(options: Options, sites: int, source_digest: str) -> dict[str, str]:
    """The entries for a conversion, in the order in which they are written.

    `source_digest` is `Source.digest`: SHA-256 of the source's skeleton, for which no weights are read.
    """
    policy = options.policy
    target = f"{options.target} inline" if options.inline else options.target
    entries = {VERSION: __version__, f"{PREFIX}target": target, f"{PREFIX}sites": str(sites)}
    if policy.rules or isinstance(policy.default, tuple):
        entries[f"{PREFIX}policy_sha256"] = policy.digest
    else:
        entries[f"{PREFIX}jump"] = repr(policy.default)
    if options.jump_input is not None:
        entries[JUMP_INPUT] = options.jump_input
    entries[f"{PREFIX}source_sha256"] = source_digest
    return entries


def was_hardened(model: onnx.ModelProto) -> bool:
    """Whether jr-onnx has written this model."""
    return any(entry.key == VERSION for entry in model.metadata_props)


def jump_input_of(model: onnx.ModelProto) -> str | None:
    """The graph input that is the jump of a hardened model."""
    return next((entry.value for entry in model.metadata_props if entry.key == JUMP_INPUT), None)
