"""The main job: file -> sites -> plan -> lowering -> file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, overload

import onnx

from jr_onnx.arguments import as_model, as_path
from jr_onnx.conversion.convertible import check_convertible
from jr_onnx.conversion.edits import ModelEdit, rewrite
from jr_onnx.conversion.forms.table import Target
from jr_onnx.conversion.lower import planned_edit
from jr_onnx.conversion.metadata import REVERT
from jr_onnx.conversion.options import Options, make_options
from jr_onnx.conversion.output import check_output
from jr_onnx.conversion.policy import Jump, JumpReluPolicy
from jr_onnx.conversion.report import ConversionReport, converted_site
from jr_onnx.conversion.revert import record_way_back
from jr_onnx.conversion.thresholds import with_thresholds
from jr_onnx.errors import OptionError
from jr_onnx.files.external import DataFile, data_files, external_mode
from jr_onnx.files.source import Source, open_file, open_proto
from jr_onnx.files.splice import Piece, Progress, join, size_of
from jr_onnx.files.writing import DataPlace, data_places, new_locations, write_model

#: What the name of an output ends with if none is given.
ENDING = ".jumprelu.onnx"


@overload
def convert(
    model: onnx.ModelProto,
    *,
    jump: Jump | None = None,
    policy: JumpReluPolicy | str | Path | None = None,
    target: Target = "custom-op",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    jump_input: str | None = None,
    clip: bool = False,
    recognise: bool = False,
    inline: bool = False,
    allow_empty: bool = False,
    dry_run: Literal[False] = False,
) -> ConversionReport[onnx.ModelProto]: ...


@overload
def convert(
    model: str | Path | onnx.ModelProto,
    *,
    jump: Jump | None = None,
    policy: JumpReluPolicy | str | Path | None = None,
    output: str | Path | None = None,
    target: Target = "custom-op",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    jump_input: str | None = None,
    clip: bool = False,
    recognise: bool = False,
    inline: bool = False,
    allow_empty: bool = False,
    dry_run: bool = False,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> ConversionReport: ...


def convert(
    model: str | Path | onnx.ModelProto,
    *,
    jump: Jump | None = None,
    policy: JumpReluPolicy | str | Path | None = None,
    output: str | Path | None = None,
    target: Target = "custom-op",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    jump_input: str | None = None,
    clip: bool = False,
    recognise: bool = False,
    inline: bool = False,
    allow_empty: bool = False,
    dry_run: bool = False,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> ConversionReport:
    """Put JumpReLU in place of every ReLU of a model, and change nothing else.

    Weights are neither parsed nor held in memory; what is not part of an edit is copied byte for byte. The output is
    written atomically.

    Args:
        model: a file, or a model in memory (which stays as it is; the hardened one is in the report).
        jump: the jump of every site, finite and >= 0; rounded once to each site's element type. One number a channel,
            as a tuple, where every site's value is [N, C, ...] with that many channels.
        policy: jumps by rules, or the YAML file that has them, instead of one jump.
        output: the file to write; by default the input's name with the ending .jumprelu.onnx. Files only. External data
            are shared within a folder, and copied into another one.
        target: "custom-op" (jr_onnx::JumpReLU with its function body), "subgraph" (Relu*Greater), "standard"
            (ThresholdedRelu) or "hard-sigmoid" (Relu*HardSigmoid); where a form does not fit a site, the report says
            which was taken instead, and why.
        include: globs on names and scope paths; if given, only what one of them matches is converted.
        exclude: globs; what one of them matches is left alone.
        jump_input: make the jump a graph input of this name, with the given jump as its default.
        recognise: instead of a jump: where the model has JumpReLU already, written out in operators of ONNX as exported
            sparse autoencoders have it, make that jr_onnx::JumpReLU with the thresholds that it has; and nothing else.
        clip: put JumpReLU behind Clip with minimum 0 (ReLU6) as well.
        inline: with the target custom-op, write the function's body into the graph instead of calling it.
        allow_empty: accept a model without a site.
        dry_run: plan only.
        force: the output may be the input itself, and its external data may stand beside other data of their name:
            they get another one, and those of a model that is replaced are removed if no model beside it names them.
        progress: called with the number of bytes written since its last call.

    Raises:
        ModelError: the input cannot be read, or is not a model that can be converted.
        OptionError: an option makes no sense, for any model or for this one.
        OutputError: the output cannot be written.

    Examples:
        >>> report = jr_onnx.convert("models/digits.onnx", jump=0.5, output="hard.onnx")
        >>> [site.op_type for site in report.sites]
        ['Relu', 'Relu', 'Relu', 'Relu']
        >>> type(jr_onnx.convert(onnx.load("models/digits.onnx"), jump=0.5).model).__name__
        'ModelProto'
    """
    started = time.perf_counter()
    model = as_model("model", model)
    goal = as_path("output", output) if output is not None else None
    options = make_options(jump, policy, target, include, exclude, jump_input, clip, inline, allow_empty, recognise)
    if isinstance(model, onnx.ModelProto):
        if goal is not None:
            raise OptionError("`output` is for files; the hardened model is in the report")
        work = _prepare(open_proto(model), options)
        hardened = None if dry_run else onnx.ModelProto.FromString(join(work.source.buffer, work.pieces))
        return replace(work.report, model=hardened, seconds=time.perf_counter() - started)
    with open_file(model) as source:
        goal = goal or model.with_name(model.name.removesuffix(".onnx") + ENDING)
        work = _prepare(source, options)
        place = goal if dry_run else check_output(goal, model, work.data, force)
        report = replace(work.report, output=goal, external_mode=external_mode(model, place) if work.data else None)
        if not dry_run:
            places = data_places(work.data, place, force)
            locations = new_locations(source, places)
            if locations:  # the way back leads to the names that the data had
                work.edit.metadata.pop(REVERT, None)
            pieces = rewrite(source, work.edit, locations)
            write_model(source, pieces, place, places, force=force, progress=progress)
            report = replace(
                report,
                written=True,
                notes=(*report.notes, *_renamed(places)),
                external_data=tuple(one.location for one in places),
                size=size_of(pieces),
            )
        return replace(report, seconds=time.perf_counter() - started)


@dataclass(frozen=True)
class _Work:
    """A conversion that only waits to be written, and the report of a dry run."""

    source: Source
    data: tuple[DataFile, ...]
    edit: ModelEdit
    pieces: list[Piece]
    report: ConversionReport


def _prepare(source: Source, options: Options) -> _Work:
    skeleton = with_thresholds(source) if options.recognise else source.skeleton
    check_convertible(skeleton)
    data = data_files(skeleton, source.path) if source.path is not None else ()
    plan, edit = planned_edit(skeleton, source.digest, options)
    record_way_back(source, edit)
    pieces = rewrite(source, edit)
    report = ConversionReport(
        source=source.path,
        output=None,
        written=False,
        model=None,
        target=options.target,
        sites=tuple(map(converted_site, plan.sites)),
        left_alone=plan.left_alone,
        notes=plan.notes,
        ir_version=edit.ir_version or skeleton.ir_version,
        ir_version_before=skeleton.ir_version,
        external_data=tuple(one.location for one in data),
        external_mode=None,
        size=size_of(pieces),
        seconds=0.0,
    )
    return _Work(source, data, edit, pieces, report)


def _renamed(places: tuple[DataPlace, ...]) -> Iterator[str]:
    """What to say of data that could not keep their name."""
    for one in places:
        if one.location != one.file.location:
            yield f"other data have the name {one.file.location} there: the model names {one.location}"
