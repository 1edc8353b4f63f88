"""What the writer of a server's folder is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from jr_onnx.deployment.signature import FREE, Signature
from jr_onnx.errors import OptionError


@dataclass(frozen=True)
class Request:
    """What is to be served, and how.

    Attributes:
        name: the model's name on the server.
        signature: its inputs and outputs.
        library: whether the kernel library goes into the folder.
        gpu: serve on CUDA.
        prefer_nhwc: the option of that name of onnxruntime's CUDA provider.
        mount: where the folder will lie on the server.
        max_batch_size: how many requests' rows the server may put together; 0: none.
    """

    name: str
    signature: Signature
    library: bool
    gpu: bool
    prefer_nhwc: bool
    mount: PurePosixPath
    max_batch_size: int


@dataclass(frozen=True)
class Layout:
    """A server's folder.

    Attributes:
        model: where the model goes, relative to the folder.
        library: where the library goes, if there is one.
        where: where the command is run.
        command: what starts the server, for a POSIX shell.
        needs: what has to be installed there.
        texts: the files that are written for the server, by name.
        warnings: what the operator has to know.
    """

    model: PurePosixPath
    library: PurePosixPath
    where: str
    command: str
    needs: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def installed(extra: str, *, gpu: bool) -> str:
    """What a server in Python needs: this package with its extra, which is on no index yet."""
    runtime = ", and onnxruntime-gpu in the place of onnxruntime" if gpu else ""
    return f"jr-onnx with its extra {extra} (in a clone of jr-onnx: pip install '.[{extra}]'){runtime}"


#: Raises OptionError for what the server cannot do.
Writer = Callable[[Request], Layout]


def check_batching(request: Request) -> None:
    """Can Triton put requests for this model together?

    Raises:
        OptionError: it cannot: an input is optional, or the first dimension of a tensor is not free.
    """
    signature = request.signature
    for tensor in (*signature.inputs, *signature.outputs):
        if tensor.default is not None:
            raise OptionError(
                f"--max-batch-size: Triton cannot put requests together that may differ in '{tensor.name}'; leave "
                "it out, or convert without --jump-input"
            )
        if not tensor.shape or tensor.shape[0] != FREE:
            raise OptionError(
                f"--max-batch-size: the first dimension of '{tensor.name}' ({list(tensor.shape)}) is not free; leave "
                "it out, or export the model with a dynamic batch"
            )
