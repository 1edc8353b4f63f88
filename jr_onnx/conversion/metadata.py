"""Where a hardened model comes from, in `ModelProto.metadata_props`."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass

import onnx

from jr_onnx.conversion.graph.names import PREFIX
from jr_onnx.conversion.graph.scopes import all_scopes

VERSION, TARGET, SITES, SOURCE = f"{PREFIX}version", f"{PREFIX}target", f"{PREFIX}sites", f"{PREFIX}source_sha256"
JUMP, POLICY, JUMP_INPUT = f"{PREFIX}jump", f"{PREFIX}policy_sha256", f"{PREFIX}jump_input"
#: What else decides which sites there are; recorded where asked for, so that `jr-onnx check` can make the plan again.
CLIP, INCLUDE, EXCLUDE = f"{PREFIX}clip", f"{PREFIX}include", f"{PREFIX}exclude"

#: That the JumpReLUs are the model's own, which it had written out, with the thresholds that they had.
RECOGNISE = f"{PREFIX}recognise"

#: The machine that a model was optimised for; others have no such entry.
MADE_FOR = f"{PREFIX}optimized_for"

#: The way back to the model that had no JumpReLU yet, as `jr_onnx.files.undo` packs it; for `jr_onnx.revert` alone.
REVERT = f"{PREFIX}revert"

#: How many JumpReLUs can be told in such a model: onnxruntime inlines functions, and keeps no marks.
OPTIMIZED_SITES = f"{PREFIX}optimized_sites"


def origin_digest(model: onnx.ModelProto, digest: str) -> str:
    """The digest of the model that had no JumpReLU yet: as a hardened model records it, else the model's own."""
    recorded = hardened_metadata(model).get(SOURCE, "")
    return recorded if re.fullmatch("[0-9a-f]{64}", recorded) else digest


def hardened_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """What jr-onnx has recorded in a model, but for the way back; empty if it has not written it."""
    # Protobuf gives what is not UTF-8 as bytes; such a key is none of ours.
    entries = {str(entry.key): str(entry.value) for entry in model.metadata_props}
    return {key: value for key, value in entries.items() if key.startswith(PREFIX) and key != REVERT}


def way_back_of(model: onnx.ModelProto) -> str | None:
    """The record of the way back, as it is written; None where there is none."""
    return next((str(entry.value) for entry in model.metadata_props if entry.key == REVERT), None)


@dataclass(frozen=True)
class Record:
    """What the record of a hardened model says of its sites, for finding them where other tools dropped the marks.

    Attributes:
        sites: how many the conversion wrote; 0 for a model without a record.
        jump_input: the graph input that is the jump; None where there is none.
        thresholds: what the alpha of a ThresholdedRelu of ours may be, before it is rounded; None for anything, where
            a policy set the jumps and there are as many ThresholdedRelus as sites.
        jump: the one jump of all sites; None where a policy set them.
    """

    sites: int = 0
    jump_input: str | None = None
    thresholds: tuple[float, ...] | None = ()
    jump: float | None = None


def record_of(model: onnx.ModelProto) -> Record:
    """The record of a model, read as far as it makes sense; `jr-onnx check` says what does not."""
    entries = hardened_metadata(model)
    text = entries.get(SITES, "")
    # No model has so many nodes that their number has ten digits.
    sites = int(text) if text.isdecimal() and len(text) < 10 else 0
    thresholds: tuple[float, ...] | None = ()
    jump: float | None = None
    with contextlib.suppress(KeyError, ValueError):
        jump = float(entries[JUMP])
    if entries.get(TARGET) == "standard" and jump is not None:
        thresholds = (jump,)
    if entries.get(TARGET) == "standard" and POLICY in entries:
        nodes = (node for scope in all_scopes(model) for node in scope.nodes)
        thresholds = None if sites == sum(node.op_type == "ThresholdedRelu" for node in nodes) else ()
    return Record(sites, jump_input_of(model), thresholds, jump)


def jump_input_of(model: onnx.ModelProto) -> str | None:
    """The graph input that is the jump of a hardened model."""
    return next((entry.value for entry in model.metadata_props if entry.key == JUMP_INPUT), None)
