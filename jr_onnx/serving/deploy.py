"""The verb: a hardened model becomes a folder that a server starts from as it is."""

from __future__ import annotations

import os
import platform
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, get_args

import onnx

from jr_onnx.arguments import as_integer, as_name, as_path
from jr_onnx.conversion.forms.write import foreign_bodies, is_for_cuda, is_jump_relu
from jr_onnx.conversion.graph.names import OP_TYPE, QUANTIZED_OP_TYPE, own_operator
from jr_onnx.conversion.graph.scopes import all_scopes
from jr_onnx.conversion.graph.soundness import check_structure
from jr_onnx.conversion.metadata import MADE_FOR, SOURCE, hardened_metadata
from jr_onnx.errors import ModelError, OptionError, RuntimeMissingError
from jr_onnx.files.external import DataFile, data_files, locations_of, relocate
from jr_onnx.files.source import Source, open_file
from jr_onnx.files.splice import Piece, Progress, Span, copy_file, write_pieces
from jr_onnx.runtime.execution import has_use_for_kernels
from jr_onnx.runtime.library import LIBRARY, build_info, library_path
from jr_onnx.runtime.sessions import CPU, CUDA
from jr_onnx.serving.folder import MARK, SUMS, atomic_folder, recorded_sums, write_new
from jr_onnx.serving.layouts import (
    SETTINGS,
    Deployment,
    ServerFolder,
    Writer,
    kserve_layout,
    mlserver_layout,
    triton_layout,
)
from jr_onnx.serving.signature import Signature, read_signature
from jr_onnx.serving.trial import UNCHECKED, Trial, try_model
from jr_onnx.text import printable

Server = Literal["triton", "mlserver", "kserve"]
SERVERS: tuple[Server, ...] = get_args(Server)

_WRITERS: Mapping[Server, Writer] = {"triton": triton_layout, "mlserver": mlserver_layout, "kserve": kserve_layout}

#: Where Triton's images expect the model repository.
MOUNT = PurePosixPath("/models")

README = "README.md"

#: What stands in the folder beside the one that has the model's name, on file systems without capitals too.
_TAKEN = {name.casefold() for name in (README, SUMS, MARK, SETTINGS)}

#: As long as the name of a folder may be on any common file system.
_LONGEST_NAME = 255

_FOR_THIS_MACHINE = (
    "the model was optimised for this machine's processor and onnxruntime; serve it where both are the same, or deploy "
    "the hardened model that it was made from"
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class DeploymentReport:
    """What was written.

    Attributes:
        server: for which server.
        name: the model's name on it.
        output: the folder.
        signature: what the model takes and gives.
        library: whether JumpReLU will run by the kernels in the folder; else the model serves by itself.
        without: why there are no kernels; empty if there are.
        start: where the server is started, and by which command.
        needs: what has to be installed there; nothing where that is the server alone.
        warnings: what the operator has to know.
        files: SHA-256 of each file, by its name in the folder.
    """

    server: Server
    name: str
    output: Path
    signature: Signature
    library: bool
    without: str
    start: str
    needs: str
    warnings: tuple[str, ...]
    files: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "signature"}
        values.update(output=str(self.output), warnings=list(self.warnings), files=dict(self.files))
        for kind, group in (("inputs", self.signature.inputs), ("outputs", self.signature.outputs)):
            values[kind] = [
                {"name": one.name, "datatype": one.datatype, "shape": list(one.shape), "default": one.default}
                for one in group
            ]
        return values


def deploy(
    model: str | Path,
    server: Server,
    output: str | Path,
    *,
    name: str | None = None,
    gpu: bool = False,
    prefer_nhwc: bool = False,
    library: bool = True,
    mount: str | PurePosixPath | None = None,
    max_batch_size: int = 0,
    check: bool = True,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> DeploymentReport:
    """Write a folder that a server starts from: the model with its external data, the kernel library, the settings.

    Args:
        model: a hardened model's file.
        server: "triton", "mlserver" or "kserve".
        output: the folder; it appears whole or not at all.
        name: the model's name on the server; by default the file's, without its endings.
        gpu: serve on CUDA.
        prefer_nhwc: with `gpu`, let onnxruntime keep images in the layout NHWC there. No kernels are put in then: it
            would transpose every value before and behind them, so the function is faster.
        library: put the kernel library of this installation in; else the function that the model carries serves.
        mount: Triton only: where the folder will lie on the server, absolute; /models by default.
        max_batch_size: Triton only: how many rows the server may put together from several requests; 0: it does not.
        check: load the model in the folder on this machine's CPU, by its function and by the kernels, and run it on
            random inputs. Where the two differ, the kernels are left out, and a warning says so.
        force: replace a folder that was written by this function.
        progress: called with the number of bytes written since its last call.

    Raises:
        ModelError: the model cannot be read, is not hardened, takes or gives what the servers do not carry, or is not
            loaded by onnxruntime.
        OptionError: an option makes no sense, for the server or for this model.
        OutputError: the folder cannot be written.
        RuntimeMissingError: this installation has no kernel library, or there is no onnxruntime to check with.

    Example:
        >>> _ = jr_onnx.convert("models/digits.onnx", jump=0.5, output="hard.onnx")
        >>> jr_onnx.deploy("hard.onnx", "mlserver", "served", library=False).start
        'in this folder: mlserver start .'
    """
    path, folder = as_path("model", model), as_path("output", output)
    if server not in SERVERS:
        raise OptionError(f"unknown server {server!r}; it is one of {', '.join(SERVERS)}")
    if prefer_nhwc and not gpu:
        raise OptionError("`prefer_nhwc`: is an option of CUDA; add `gpu=True`")
    with open_file(path) as source:
        check_structure(source.skeleton)
        data = data_files(source.skeleton, path)
        without = _why_without(source.skeleton, library, gpu, prefer_nhwc)
        deployment = Deployment(
            name=_name(path, as_name("name", name)),
            signature=read_signature(source.skeleton),
            without=without,
            gpu=gpu,
            prefer_nhwc=prefer_nhwc,
            mount=_mount(mount, server),
            max_batch_size=_batch_size(as_integer("max_batch_size", max_batch_size)),
        )
        _WRITERS[server](deployment)  # refuses what the server cannot do, before anything is written
        with atomic_folder(folder, force=force) as inside:
            deployment, layout = _write(inside, source, data, server, deployment, check, progress)
    return DeploymentReport(
        server=server,
        name=deployment.name,
        output=folder,
        signature=deployment.signature,
        library=deployment.library,
        without=deployment.without,
        start=f"{layout.where}: {layout.command}",
        needs=layout.needs,
        warnings=layout.warnings,
        files=recorded_sums(folder),
    )


def _write(
    inside: Path,
    source: Source,
    data: tuple[DataFile, ...],
    server: Server,
    deployment: Deployment,
    check: bool,
    progress: Progress,
) -> tuple[Deployment, ServerFolder]:
    """Fill the folder; where the kernels fail on this machine, without them."""
    packaged = _place_model(inside / _WRITERS[server](deployment).model, source, data, progress)
    trial = Trial(deployment.library, UNCHECKED)
    if check:
        trial = try_model(source, packaged, library=deployment.library)
    if deployment.library and not trial.library:
        deployment = replace(deployment, without="it fails with them on this machine (the warning says how)")
    layout = _WRITERS[server](deployment)
    here = (_FOR_THIS_MACHINE,) if MADE_FOR in hardened_metadata(source.skeleton) else ()
    layout = replace(layout, warnings=(*layout.warnings, *trial.warnings, *here))
    if deployment.library:
        _copy(library_path(), inside / layout.library, progress)
    for name, text in layout.texts.items():
        write_new(inside / name, text)
    write_new(inside / README, _readme(layout, deployment, server, source))
    return deployment, layout


def _why_without(model: onnx.ModelProto, asked: bool, gpu: bool, prefer_nhwc: bool) -> str:
    """Why the library does not go in; empty where it does: it is asked for, and of use for a JumpReLU in the model."""
    calls = any(
        own_operator(node.domain, node.op_type) in (OP_TYPE, QUANTIZED_OP_TYPE)
        for scope in all_scopes(model)
        for node in scope.nodes
    )
    if not calls:
        if not hardened_metadata(model):
            raise ModelError("is not hardened; run jr-onnx convert first")
        return "it has no node jr_onnx::JumpReLU"
    without = "" if asked else "none was asked for"
    if asked and not has_use_for_kernels(CUDA if gpu else CPU, {"prefer_nhwc": prefer_nhwc}):
        without = "its function is faster in the layout NHWC"
    if any(map(is_jump_relu, model.functions)):
        # With the kernels nobody would notice it, and without them the model would be another one.
        for fault in foreign_bodies(model):
            raise ModelError(f"{fault}; convert the original again")
    elif without:
        option = "`prefer_nhwc=True`" if asked else "`library=False`"
        raise ModelError(f"has no function jr_onnx::JumpReLU, so it needs the library; leave out {option}")
    try:
        cuda = bool(without) or bool(build_info().cuda)
    except RuntimeMissingError as error:
        raise RuntimeMissingError(
            "this installation of jr-onnx has no kernels; install it where there is a C++ compiler, or add "
            "`library=False`"
        ) from error
    if gpu and not cuda:
        raise OptionError(
            "`gpu`: the kernel library of this installation was built without CUDA; install jr-onnx again with "
            "JR_CUDA=ON in the environment, or add `library=False`"
        )
    return without


def _name(path: Path, name: str | None) -> str:
    if name is None:
        stem = path.name.removesuffix(".onnx").removesuffix(".jumprelu")
        name = re.sub(r"[^A-Za-z0-9._-]", "_", stem).lstrip("._-")
    if not _NAME.fullmatch(name):
        raise OptionError(f"`name` {name!r}: use letters, digits, '.', '_' and '-', and begin with a letter or digit")
    if name.casefold() in _TAKEN:
        raise OptionError(f"`name` {name!r}: the folder has a file of that name; choose another one")
    if len(name) > _LONGEST_NAME:
        raise OptionError(f"`name` {name!r}: is {len(name)} characters long; use at most {_LONGEST_NAME}")
    return name


def _mount(mount: str | PurePosixPath | None, server: Server) -> PurePosixPath:
    if mount is None:
        return MOUNT
    if server != "triton":
        raise OptionError(f"`mount` is for triton; {server} finds the library beside the model")
    path = PurePosixPath(as_path("mount", mount))
    if not path.is_absolute() or ".." in path.parts or not str(path).isprintable():
        raise OptionError(
            f"`mount` {str(mount)!r}: give the absolute path that the folder will have on the server, "
            "without '..' and control characters"
        )
    return path


def _batch_size(size: int) -> int:
    if not 0 <= size < 2**31:
        raise OptionError(f"`max_batch_size` {size}: give a number from 0 (no batching) up")
    return size


def _place_model(place: Path, source: Source, data: tuple[DataFile, ...], progress: Progress) -> Path:
    """The model and its external data. No name in the folder comes from it: a server runs what has certain names."""
    names = {file.path: "model.data" if not number else f"model.{number}.data" for number, file in enumerate(data)}
    for path, name in names.items():
        _copy(path, place.with_name(name), progress)
    with _created(place, source.opened) as copy:
        write_pieces(copy, _pieces(source, names), source.opened, progress)
    return place


def _copy(origin: Path, target: Path, progress: Progress) -> None:
    with origin.open("rb", buffering=0) as opened, _created(target, opened) as copy:
        copy_file(opened, copy, origin.stat().st_size, progress)


def _pieces(source: Source, names: Mapping[Path, str]) -> list[Piece]:
    """The model, with the names that its external data have in the folder."""
    if not names or source.path is None:
        return [Span(0, len(source.buffer))]
    places = {location: source.path.parent / location for location in locations_of(source.skeleton)}
    return relocate(source, {location: names[path] for location, path in places.items() if path in names})


@contextmanager
def _created(target: Path, origin: FileIO) -> Iterator[BinaryIO]:
    """A new file that nobody may read, write or execute who may not do so with the one it is copied from."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode & os.fstat(origin.fileno()).st_mode))
        yield file


def _readme(layout: ServerFolder, deployment: Deployment, server: Server, source: Source) -> str:
    signature = deployment.signature
    takes, gives = (", ".join(map(str, group)) for group in (signature.inputs, signature.outputs))
    kernels = (
        f"`{LIBRARY}` holds the kernels for {platform.system()} on {platform.machine()}, onnxruntime 1.17 and newer."
        if deployment.library
        else f"There is no kernel library, because {deployment.without}: the model runs on onnxruntime alone."
    )
    record = hardened_metadata(source.skeleton)
    alone = MADE_FOR in record or is_for_cuda(source.skeleton)  # an optimised model is checked by itself
    models = str(layout.model) if alone else f"ORIGINAL {layout.model}"
    lines = (
        f"# {deployment.name}, hardened with JumpReLU, for {server}",
        f"- Start it {layout.where}: `{layout.command}`" + (f"; it needs {layout.needs}" if layout.needs else ""),
        f"- It takes {takes}, and gives {gives}." + "".join(f" **Warning**: {one}." for one in layout.warnings),
        f"- {kernels}",
        f"- Verify it with `sha256sum -c SHA256SUMS` and `jr-onnx check {models}`; the structure of "
        f"ORIGINAL has the SHA-256 {record.get(SOURCE, 'not recorded')}.",
    )
    return "\n".join(map(printable, lines)) + "\n"
