"""The way back: from a hardened model to the one that it was made from.

A file that `convert` wrote records what it took out of the original, so that that comes back byte for byte. Where there
is no such record, or another tool has written the file since, each JumpReLU becomes a Relu again by the tables by which
it was written, and what was added goes.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import overload

import onnx

from jr_onnx.arguments import as_model, as_path
from jr_onnx.conversion.convertible import why_optimized
from jr_onnx.conversion.edits import ModelEdit, rewrite
from jr_onnx.conversion.forms.table import RELU
from jr_onnx.conversion.graph.scopes import all_scopes
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.conversion.lower import Lowering
from jr_onnx.conversion.metadata import (
    RECOGNISE,
    REVERT,
    SITES,
    hardened_metadata,
    origin_digest,
    record_of,
    way_back_of,
)
from jr_onnx.conversion.options import Options
from jr_onnx.conversion.output import check_output
from jr_onnx.conversion.plan import Plan, PlannedSite, lost_sites
from jr_onnx.conversion.policy import JumpReluPolicy
from jr_onnx.conversion.report import RevertReport
from jr_onnx.conversion.sites.survey import survey
from jr_onnx.conversion.sites.surveyed import jump_of
from jr_onnx.errors import ModelError, OptionError
from jr_onnx.files.external import data_files, locations_of, relocate
from jr_onnx.files.source import Source, open_bytes, open_file, open_proto
from jr_onnx.files.splice import Piece, Progress, Span, join, size_of
from jr_onnx.files.spliced import Spliced
from jr_onnx.files.undo import chained, packed, unpacked, way_back
from jr_onnx.files.wire import MODEL_METADATA
from jr_onnx.files.writing import data_places, new_locations, write_model


@overload
def revert(hardened: onnx.ModelProto) -> RevertReport[onnx.ModelProto]: ...


@overload
def revert(
    hardened: str | Path | onnx.ModelProto,
    *,
    output: str | Path | None = None,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> RevertReport: ...


def revert(
    hardened: str | Path | onnx.ModelProto,
    *,
    output: str | Path | None = None,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> RevertReport:
    """Give back the model that a hardened one was made from; of one hardened several times, the first.

    Byte for byte, where `convert` wrote the file and nothing has changed it since. Else in structure: a Relu in place
    of each JumpReLU, whatever Relu was written as; the IR version stays. The report says which.

    Args:
        hardened: a file, or a model in memory (which stays as it is; the original is in the report).
        output: the file to write. Files only. External data are shared in the same folder, and copied into another one.
        force: the output may be the hardened file itself, and external data may stand beside other data of their name.
        progress: called with the number of bytes written since its last call.

    Raises:
        ModelError: it cannot be read, is not hardened, was optimised, or not all its JumpReLUs are found.
        OptionError: there is no `output` for a file, or one for a model in memory.
        OutputError: the output cannot be written.

    Example:
        >>> _ = jr_onnx.convert("models/digits.onnx", jump=0.5, output="hard.onnx")
        >>> jr_onnx.revert("hard.onnx", output="original.onnx").exact
        True
        >>> pathlib.Path("original.onnx").read_bytes() == pathlib.Path("models/digits.onnx").read_bytes()
        True
    """
    started = time.perf_counter()
    hardened = as_model("hardened", hardened)
    if isinstance(hardened, onnx.ModelProto):
        if output is not None:
            raise OptionError("`output` is for files; the original is in the report")
        source = open_proto(hardened)
        pieces, report = _prepare(source)
        original = onnx.ModelProto.FromString(join(source.buffer, pieces))
        return replace(report, model=original, seconds=time.perf_counter() - started)
    if output is None:
        raise OptionError("name the file to write as `output`")
    goal = as_path("output", output)
    with open_file(hardened) as source:
        data = data_files(source.skeleton, hardened)
        place = check_output(goal, hardened, data, force)
        pieces, report = _prepare(source)
        original_source = open_bytes(Spliced(source, pieces))
        places = data_places(data, place, force)
        moved = relocate(original_source, new_locations(original_source, places))
        write_model(source, chained(moved, pieces), place, places, force=force, progress=progress)
    locations = tuple(one.location for one in places)
    return replace(report, output=goal, external_data=locations, seconds=time.perf_counter() - started)


def record_way_back(source: Source, edit: ModelEdit) -> None:
    """Let the edit record how its result leads back to the model, as pieces of the result without this very record.

    Of a model that was hardened before, the way back is that to its own original. There is none where it has no such
    record, or the record would be too large to be read.
    """
    back = way_back(source.buffer, rewrite(source, edit))
    if hardened_metadata(source.skeleton):
        before = _recorded_way(source)
        back = [] if before is None else chained(before, back)
    text = packed(back)
    if back and text is not None:
        edit.metadata[REVERT] = text


def _prepare(source: Source) -> tuple[list[Piece], RevertReport]:
    model = source.skeleton
    optimized = why_optimized(model)
    if optimized:
        raise ModelError(f"{optimized}; revert the model that it was made from")
    pieces, sites, why_not = _recorded_way(source), record_of(model).sites, ""
    if pieces is None:
        edit, sites = _undoing(model)
        pieces = rewrite(source, edit)
        if not _is_original(source, pieces):
            lost = way_back_of(model) is None
            why_not = "it has no record of the way back" if lost else "it was changed since it was hardened"
    report = RevertReport(source.path, None, None, not why_not, why_not, sites, (), size_of(pieces), 0.0)
    return pieces, report


def _recorded_way(source: Source) -> list[Piece] | None:
    """The original as pieces of the hardened model, by its record; None where that does not give the original."""
    for field in source.root().fields(MODEL_METADATA):
        entry = onnx.StringStringEntryProto.FromString(source.buffer[field.value : field.end])
        if entry.key != REVERT:
            continue
        others: list[Piece] = [Span(0, field.start), Span(field.end, len(source.buffer))]
        back = unpacked(entry.value, size_of(others))
        if back is not None and _is_original(source, pieces := chained(back, others)):
            return pieces
    return None


def _is_original(source: Source, pieces: list[Piece]) -> bool:
    """Whether pieces of a hardened model are the original that it records, and name no other external data."""
    try:
        found = open_bytes(Spliced(source, pieces))
    except ModelError:
        return False
    same = found.digest == origin_digest(source.skeleton, "")
    return same and locations_of(found.skeleton) <= locations_of(source.skeleton)


def _undoing(model: onnx.ModelProto) -> tuple[ModelEdit, int]:
    """The edits that put a Relu in place of every JumpReLU, and how many there are."""
    check_structure(model)
    if RECOGNISE in hardened_metadata(model):
        raise ModelError("its JumpReLUs are its own, and how they were written is not recorded; use the original")
    scopes = tuple(all_scopes(model))
    found = survey(model, scopes, clip=True)
    lost = lost_sites(model, found)
    if lost:
        raise ModelError(lost)
    sites = [site for site in found.sites if site.hardened is not None or jump_of(site) is not None]
    if not sites and SITES not in hardened_metadata(model):
        raise ModelError("is not hardened: it has no JumpReLU")
    options = Options(JumpReluPolicy(0.0), allow_empty=True)
    plan = Plan(scopes, tuple(PlannedSite(site, 0.0, 0.0, RELU, "", None) for site in sites), (), None, ())
    return Lowering(model, plan, options).edit(), len(sites)
