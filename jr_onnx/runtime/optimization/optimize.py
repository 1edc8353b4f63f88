"""`jr-onnx optimize`: the fastest exact form of a hardened model, for this machine's CPU or for CUDA."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from jr_onnx.arguments import as_path
from jr_onnx.conversion.edits import ModelEdit, rewrite
from jr_onnx.conversion.element_types import FLOAT, FLOAT16, type_name
from jr_onnx.conversion.forms.table import JUMP_RELU
from jr_onnx.conversion.forms.write import body_for_all, is_for_cuda
from jr_onnx.conversion.graph.names import QUANTIZED_OP_TYPE, taken_names
from jr_onnx.conversion.graph.scopes import all_scopes
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.conversion.metadata import MADE_FOR, OPTIMIZED_SITES, hardened_metadata
from jr_onnx.conversion.output import check_output
from jr_onnx.conversion.sites.survey import survey
from jr_onnx.conversion.sites.surveyed import jump_relus, read_side
from jr_onnx.errors import ModelError, OptionError, OutputError
from jr_onnx.files.external import data_files
from jr_onnx.files.source import Source, open_bytes, open_file, open_unnamed
from jr_onnx.files.splice import Progress, write_pieces
from jr_onnx.files.writing import data_places, new_locations, write_model
from jr_onnx.runtime.agreement import compare
from jr_onnx.runtime.data.dataset import Dataset
from jr_onnx.runtime.data.loading import Data, DataSource, read_data
from jr_onnx.runtime.execution import BASIC, CPU, Way, library_problem
from jr_onnx.runtime.optimization.jump_back import Place, add_jump_relus, fuse_adds, places
from jr_onnx.runtime.optimization.machine import made_for, this_machine
from jr_onnx.runtime.optimization.relu_form import (
    LEVELS,
    Recovered,
    lay_out,
    make_sound,
    original_of,
    recoverable,
    ways_to_sites,
)

Level = Literal["basic", "extended", "all"]
Provider = Literal["cpu", "cuda"]
PROVIDERS: tuple[Provider, ...] = get_args(Provider)

#: What the name of an output ends with if none is given.
ENDING = ".optimized.onnx"


@dataclass(frozen=True)
class OptimizationReport:
    """The result of `jr_onnx.optimize`.

    Attributes:
        sites: how many JumpReLUs there are.
        behind: how many stand behind what onnxruntime fused with their Relu.
        below: how many of those passed below a MaxPool.
        in_place_of: how many stand in the place of a Relu that was not fused.
        with_add: how many took in the Add in front of them, for CUDA.
        left: path -> why a JumpReLU stays as it was.
        unverified: why the file was not run beside the hardened model before it was written; empty if it was.
        seconds: what all that took.
    """

    source: Path
    output: Path
    provider: str
    level: str
    sites: int
    behind: int
    below: int
    in_place_of: int
    with_add: int
    left: dict[str, str]
    unverified: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {**asdict(self), "source": str(self.source), "output": str(self.output)}


def optimize(
    model: str | Path,
    *,
    output: str | Path | None = None,
    provider: Provider = "cpu",
    level: Level = "all",
    data: Dataset | DataSource | None = None,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> OptimizationReport:
    """Write the fastest exact form of a hardened model for this machine's CPU and its onnxruntime, or for CUDA.

    On the CPU, onnxruntime lays out and fuses the original form of the model; JumpReLU then goes behind what was
    fused. The file is for machines with the same vector instructions and version of onnxruntime only, which it records;
    load it with `jr_onnx.session`, which refuses it elsewhere. For CUDA, jr_onnx::AddJumpReLU takes the place of Add
    and the JumpReLU behind it; that file is for any machine, but its kernels for 16-bit types are for CUDA alone.

    Args:
        model: a file that jr-onnx wrote, with any target.
        provider: what the file is for.
        output: the file to write; by default the input's name with the ending .optimized.onnx.
        level: how far onnxruntime optimises for the CPU; below "all" there is no blocked layout.
        data: for the CPU, real inputs, all that `jr_onnx.load_data` takes or gives, to compare the file with the
            hardened model on; of samples (x), the first 32. What is missing is random.
        force: the output may be the input itself, and its external data may stand beside other data of their name, as
            in `jr_onnx.convert`.
        progress: called with the number of bytes written since its last call.

    Raises:
        ModelError: the input cannot be read, is not a hardened model or an optimised one, onnxruntime does not load
            it, or its optimised form does not load or computes something else: then nothing is written.
        OptionError: there is no such provider, a level or data were given for CUDA, or the data are not what the
            model takes.
        OutputError: the output cannot be written.

    Examples:
        >>> _ = jr_onnx.convert("models/digits.onnx", jump=0.5, output="hard.onnx")
        >>> jr_onnx.optimize("hard.onnx", output="fast.onnx").sites
        4
    """
    path = as_path("model", model)
    beside = path.with_name(path.name.removesuffix(".onnx") + ENDING)
    goal = beside if output is None else as_path("output", output)
    started = time.perf_counter()
    if provider not in PROVIDERS or level not in tuple(LEVELS) or (provider == "cuda" and level != "all"):
        raise OptionError(
            f"`provider` cpu takes a `level` of {', '.join(LEVELS)}, and cuda none; given are {provider!r}, {level!r}"
        )
    if provider == "cuda" and data is not None:
        raise OptionError("`data`: a file for CUDA is not run; leave the data out")
    given = None if data is None else read_data(data)
    with open_file(path) as source:
        check_structure(source.skeleton)
        if made_for(source.skeleton) is not None:
            raise ModelError("is optimised already; optimise the hardened model that it was made from")
        if is_for_cuda(source.skeleton):
            raise ModelError("is optimised for CUDA; optimise the hardened model that it was made from")
        if provider == "cpu" and level == "all" and not this_machine(level).cpu_flags:
            raise ModelError(
                "the blocked layout depends on vector instructions, and this system does not list them; give "
                "`level='extended'`"
            )
        place = check_output(goal, path, data_files(source.skeleton, path), force)
        if isinstance(data, str | Path) and Path(data).exists() and place.exists() and place.samefile(data):
            raise OutputError(f"{goal}: is what is read as data; choose another `output`")
        if provider == "cuda":
            made = _for_cuda(source, path, place, force, progress)
        else:
            made = _for_cpu(source, path, place, level, given, force, progress)
    return replace(made, output=goal, seconds=time.perf_counter() - started)


def _nothing(source: Source) -> ModelError:
    """What is wrong with a model that has no JumpReLU: of a hardened one, not that it is to be hardened."""
    if hardened_metadata(source.skeleton):
        return ModelError("has no JumpReLU outside of RNN, GRU and LSTM, so nothing to optimise; use it as it is")
    return ModelError("has no JumpReLU; harden it first with jr-onnx convert")


def _for_cuda(source: Source, path: Path, goal: Path, force: bool, progress: Progress) -> OptimizationReport:
    edit, fused, left = fuse_adds(source)
    if not fused and not left:
        raise _nothing(source)
    edit.metadata = hardened_metadata(source.skeleton)
    _save(source, path, edit, goal, force, progress)
    return OptimizationReport(path, goal, "cuda", "all", fused + len(left), 0, 0, 0, fused, left, "it is for CUDA", 0.0)


def _for_cpu(
    source: Source, path: Path, goal: Path, level: str, data: Data | None, force: bool, progress: Progress
) -> OptimizationReport:
    sites, left = recoverable(source)
    if not sites and not left:
        raise _nothing(source)
    with tempfile.TemporaryDirectory(prefix="jr-onnx-optimize-") as folder:
        graph = _lay_out(source, sites, level, Path(folder) / "model.onnx", f"{goal.name}.data")
        left |= graph.left
        unverified = _write(graph, source, path, level, goal, data, force, progress)
    behind = [place for place in graph.places.values() if place.kind.stays]
    return OptimizationReport(
        source=path,
        output=goal,
        provider="cpu",
        level=level,
        sites=len(graph.sites) + len(left),
        behind=len(behind),
        below=sum(place.pool is not None for place in behind),
        in_place_of=len(graph.places) - len(behind),
        with_add=0,
        left=left,
        unverified=unverified,
        seconds=0.0,
    )


@dataclass(frozen=True)
class _LaidOut:
    """The graph as onnxruntime laid it out, and where the sites are in it."""

    path: Path
    sites: tuple[Recovered, ...]
    places: dict[str, Place]
    left: dict[str, str]


def _lay_out(source: Source, sites: tuple[Recovered, ...], level: str, path: Path, data_name: str) -> _LaidOut:
    """Lay out the original form. Where onnxruntime makes a Relu vanish, or two one, JumpReLU stays: try without."""
    not_served = _not_served(source, sites)
    kernels, left = not_served is None, dict(not_served or {})
    sites = tuple(one for one in sites if one.site.path not in left)
    while True:
        original = original_of(source, sites)
        recovered = open_bytes(original)
        ways = ways_to_sites(recovered)
        lay_out(original, source, level, path, data_name, kernels=kernels)
        make_sound(path, taken_names(all_scopes(recovered.skeleton)))
        with open_unnamed(path) as laid_out:
            found = places(laid_out.skeleton, ways)
        reasons = {one.tag: _why_not(one, found.get(one.tag)) for one in sites}
        left |= {one.site.path: reasons[one.tag] for one in sites if reasons[one.tag]}
        kept = tuple(one for one in sites if not reasons[one.tag])
        if len(kept) == len(sites):
            return _LaidOut(path, kept, found, left)
        sites = kept


def _why_not(one: Recovered, place: Place | None) -> str:
    if place is None:
        return "onnxruntime leaves no Relu of its own there"
    return "onnxruntime computes in another type there" if place.element_types - {one.site.element_type} else ""


def _not_served(source: Source, sites: tuple[Recovered, ...]) -> dict[str, str] | None:
    """Why sites (by path) stay as they are: one body of the function would have to serve all element types.

    None where one does. Where none does, no other node jr_onnx::JumpReLU may be in the optimised graph.
    """
    opset = next(all_scopes(source.skeleton)).opset
    times = Counter(one.site.element_type for one in sites)
    types = _called_with(source) | times.keys()
    # What is float16, onnxruntime may compute in float.
    if body_for_all(types | ({FLOAT} if FLOAT16 in types else set()), opset) is not None:
        return None
    most = max(times, key=lambda one: (times[one], -one), default=FLOAT)
    why = f"at opset {opset} the function of JumpReLU serves one element type, and most sites are {type_name(most)}"
    return {one.site.path: why for one in sites if one.site.element_type != most}


def _called_with(hardened: Source) -> set[int]:
    """The element types of the nodes jr_onnx::JumpReLU."""
    sites = survey(hardened.skeleton, tuple(all_scopes(hardened.skeleton)), clip=False).sites
    return {site.element_type for site in sites if site.hardened is not None and site.hardened.form is JUMP_RELU}


def _write(
    graph: _LaidOut,
    hardened: Source,
    path: Path,
    level: str,
    goal: Path,
    data: Data | None,
    force: bool,
    progress: Progress,
) -> str:
    """Write the file, after it was compared with the hardened one; why it could not be compared."""
    with open_unnamed(graph.path) as laid_out:
        edit = add_jump_relus(laid_out.skeleton, graph.sites, graph.places, _called_with(hardened))
        if any(node.op_type == QUANTIZED_OP_TYPE for scope in all_scopes(laid_out.skeleton) for node in scope.nodes):
            edit.dropped_functions |= {QUANTIZED_OP_TYPE}  # not every onnxruntime keeps it
            edit.functions += [one for one in hardened.skeleton.functions if one.name == QUANTIZED_OP_TYPE]
        record = {MADE_FOR: this_machine(level).to_json()}
        edit.metadata = {**hardened_metadata(hardened.skeleton), **record}
        tried = graph.path.with_name("optimised.onnx")  # where its external data are, if it has any
        with tried.open("wb") as file:
            write_pieces(file, rewrite(laid_out, edit), laid_out.opened, lambda _: None)
        with open_unnamed(tried) as made:
            edit.metadata[OPTIMIZED_SITES] = str(len(jump_relus(read_side(made.skeleton))))
        unverified = verify(hardened, path, tried, data)
        _save(laid_out, graph.path, edit, goal, force, progress)
    return unverified


def _save(source: Source, path: Path, edit: ModelEdit, goal: Path, force: bool, progress: Progress) -> None:
    """Write an edited model, with its external data."""
    data = data_places(data_files(source.skeleton, path), goal, force)
    pieces = rewrite(source, edit, new_locations(source, data))
    write_model(source, pieces, goal, data, force=force, progress=progress)


# --- An optimised model beside the hardened one that it was made from, run before it gets its name --------------------

#: `session(optimize=True)` says it too.
_ADVICE = "; give real ones to `optimize` as `data`"


class NotOptimizedError(ModelError):
    """The optimised form is not what the hardened model is, or onnxruntime does not run it."""


def verify(hardened: Source, path: Path, optimised: Path, data: Data | None) -> str:
    """Compare all outputs; why that could not be done, or an empty string.

    The hardened model runs by its function, the optimised one by the kernels: a fault of theirs is one of both else.

    Raises:
        OptionError: `data` are not what the model takes.
        NotOptimizedError: onnxruntime does not load or run the optimised model, or its outputs are others.
    """
    first = path, Way(CPU, False)
    second = optimised, Way(CPU, not library_problem(), BASIC)
    made = compare(hardened.skeleton, first, second, called="its optimised form", data=data, advice=_ADVICE)
    if made.differs:
        raise NotOptimizedError(
            f"{made.differs}; nothing was written; give `level='extended'`, or run the hardened model as it is, and "
            "report this"
        )
    return made.unknown
