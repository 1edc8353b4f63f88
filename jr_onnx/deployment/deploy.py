"""The verb: a hardened model becomes a folder that a server starts from as it is."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import onnx

from jr_onnx.checking.alone import check_body
from jr_onnx.deployment import kserve, mlserver, triton
from jr_onnx.deployment.folder import atomic_folder, recorded_sums
from jr_onnx.deployment.layout import Layout, Request, Writer
from jr_onnx.deployment.signature import Signature, read_signature
from jr_onnx.errors import ModelError, OptionError, OutputError, RuntimeMissingError
from jr_onnx.forms.function import is_jump_relu
from jr_onnx.forms.table import DOMAIN, OP_TYPE
from jr_onnx.graph.scopes import all_scopes
from jr_onnx.graph.structure import check_structure
from jr_onnx.metadata import SOURCE, hardened_metadata
from jr_onnx.modelfile.copying import Progress, copy_file
from jr_onnx.modelfile.external import DataFile, data_files
from jr_onnx.modelfile.source import Source, open_file
from jr_onnx.runtime.library import LIBRARY, build_info, library_path
from jr_onnx.text import printable

Server = Literal["triton", "mlserver", "kserve"]
SERVERS: tuple[Server, ...] = get_args(Server)

_WRITERS: Mapping[Server, Writer] = {"triton": triton.layout, "mlserver": mlserver.layout, "kserve": kserve.layout}

#: Where Triton's images expect the model repository.
MOUNT = PurePosixPath("/models")

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
        start: how the server is started.
        files: SHA-256 of each file, by its name in the folder.
    """

    server: Server
    name: str
    output: Path
    signature: Signature
    library: bool
    start: str
    files: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        tensors = {
            kind: [
                {"name": one.name, "datatype": one.datatype, "shape": list(one.shape), "default": one.default}
                for one in group
            ]
            for kind, group in (("inputs", self.signature.inputs), ("outputs", self.signature.outputs))
        }
        plain = {"server": self.server, "name": self.name, "output": str(self.output), "library": self.library}
        return {**plain, **tensors, "start": self.start, "files": dict(self.files)}


def deploy(
    model: str | Path,
    server: Server,
    output: str | Path,
    *,
    name: str | None = None,
    gpu: bool = False,
    library: bool = True,
    mount: str | PurePosixPath | None = None,
    max_batch_size: int = 0,
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
        library: put the kernel library of this installation in; else the function that the model carries serves.
        mount: Triton only: where the folder will lie on the server, absolute; /models by default.
        max_batch_size: how many rows the server may put together from several requests; 0: it does not.
        force: replace a folder that was written by this function.
        progress: called with the number of bytes written since its last call.

    Raises:
        ModelError: the model cannot be read, is not hardened, or takes or gives what the servers do not carry.
        OptionError: an option makes no sense, for the server or for this model.
        OutputError: the folder cannot be written.
        RuntimeMissingError: this installation has no kernel library.
    """
    path, folder = Path(model), Path(output)
    if server not in SERVERS:
        raise OptionError(f"unknown server {server!r}; it is one of {', '.join(SERVERS)}")
    with open_file(path) as source:
        check_structure(source.skeleton)
        data = data_files(source.skeleton, path.parent)
        library = _wants_library(source.skeleton, library, gpu)
        request = Request(
            name=_name(path, name),
            signature=read_signature(source.skeleton),
            library=library,
            gpu=gpu,
            mount=_mount(mount, server),
            max_batch_size=_batch_size(max_batch_size),
        )
        layout = _WRITERS[server](request)
        with atomic_folder(folder, force=force) as inside:
            _fill(inside, layout, request, source, data, progress)
            (inside / "README.md").write_text(_readme(layout, request, server, source), encoding="utf-8")
    sums = recorded_sums(folder)
    return DeploymentReport(server, request.name, folder, request.signature, library, layout.start, sums)


def _wants_library(model: onnx.ModelProto, asked: bool, gpu: bool) -> bool:
    """Whether the library goes in: where it is asked for and there is a JumpReLU that it has kernels for."""
    calls = any(
        node.domain == DOMAIN and node.op_type == OP_TYPE for scope in all_scopes(model) for node in scope.nodes
    )
    if not calls:
        if not hardened_metadata(model):
            raise ModelError("is not hardened; run jr-onnx convert first")
        return False
    if any(map(is_jump_relu, model.functions)):
        # With the kernels nobody would notice it, and without them the model would be another one.
        for fault in check_body(model):
            raise ModelError(f"{fault.message}; convert the original again")
    elif not asked:
        raise ModelError("has no function jr_onnx::JumpReLU, so it needs the library; leave out --no-library")
    try:
        cuda = not asked or bool(build_info().cuda)
    except RuntimeMissingError as error:
        raise RuntimeMissingError(
            "this installation of jr-onnx has no kernels; install it where there is a C++ compiler, or add --no-library"
        ) from error
    if gpu and not cuda:
        raise OptionError(
            "--gpu: the kernel library of this installation was built without CUDA; install jr-onnx again with "
            "JR_CUDA=ON in the environment, or add --no-library"
        )
    return asked


def _name(path: Path, name: str | None) -> str:
    if name is None:
        stem = path.name.removesuffix(".onnx").removesuffix(".jumprelu")
        name = re.sub(r"[^A-Za-z0-9._-]", "_", stem).lstrip("._-")
    if not _NAME.fullmatch(name):
        raise OptionError(f"--name {name!r}: use letters, digits, '.', '_' and '-', and begin with a letter or digit")
    return name


def _mount(mount: str | PurePosixPath | None, server: Server) -> PurePosixPath:
    if mount is None:
        return MOUNT
    if server != "triton":
        raise OptionError(f"--mount is for triton; {server} finds the library beside the model")
    path = PurePosixPath(mount)
    if not path.is_absolute() or ".." in path.parts or not str(path).isprintable():
        raise OptionError(f"--mount {str(mount)!r}: give the absolute path that the folder will have on the server")
    return path


def _batch_size(size: int) -> int:
    if not 0 <= size < 2**31:
        raise OptionError(f"--max-batch-size {size}: give a number from 0 (no batching) up")
    return size


def _fill(
    inside: Path, layout: Layout, request: Request, source: Source, data: tuple[DataFile, ...], progress: Progress
) -> None:
    origins: dict[PurePosixPath, Path | None] = {layout.model: source.path}
    origins |= {layout.model.parent / file.location: file.path for file in data}
    if request.library:
        origins[layout.library] = library_path()
    if len(origins) != len(data) + 1 + request.library or any(str(place) in layout.texts for place in origins):
        raise ModelError("its external data have the name of another file of the folder; save it under other names")
    for place, origin in origins.items():
        if origin is not None:
            _copy(origin, inside / place, progress)
    for name, text in layout.texts.items():
        (inside / name).write_text(text, encoding="utf-8")


def _copy(origin: Path, target: Path, progress: Progress) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with origin.open("rb", buffering=0) as data, target.open("xb") as copy:
            copy_file(data, copy, origin.stat().st_size, progress)
    except FileExistsError as error:  # a name that differs in case only, where that is none
        raise OutputError(f"{target.name}: two files of this name; save the external data under another one") from error


def _readme(layout: Layout, request: Request, server: Server, source: Source) -> str:
    signature = request.signature
    takes, gives = (", ".join(map(str, group)) for group in (signature.inputs, signature.outputs))
    kernels = (
        f"`{LIBRARY}` holds the kernels for {platform.system()} on {platform.machine()}, onnxruntime 1.17 and newer."
        if request.library
        else "There is no kernel library: the model runs on onnxruntime alone."
    )
    origin = hardened_metadata(source.skeleton).get(SOURCE, "not recorded")
    lines = (
        f"# {request.name}, hardened with JumpReLU, for {server}",
        f"- Start it {layout.start.replace(': ', ': `', 1)}`",
        f"- It takes {takes}, and gives {gives}.",
        f"- {kernels}",
        f"- Verify it with `sha256sum -c SHA256SUMS` and `jr-onnx check ORIGINAL {layout.model}`; the structure of "
        f"ORIGINAL has the SHA-256 {origin}.",
    )
    return "\n".join(map(printable, lines)) + "\n"
