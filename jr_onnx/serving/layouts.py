"""The folder of each server: what its writer is asked, and the files that it answers with."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from jr_onnx.errors import ModelError, OptionError
from jr_onnx.runtime.library import LIBRARY
from jr_onnx.runtime.sessions import CPU, CUDA
from jr_onnx.runtime.sessions import Provider as SessionProvider
from jr_onnx.serving.signature import FREE, Signature, Tensor

#: Which execution provider of onnxruntime serves.
Provider = Literal["cpu", "cuda", "cuda-nhwc", "tensorrt", "openvino"]

#: Provider -> what `jr_onnx.session` gets for it.
EXECUTION: Mapping[Provider, tuple[SessionProvider, ...]] = {
    "cpu": (CPU,),
    "cuda": (CUDA, CPU),
    "cuda-nhwc": ((CUDA, {"prefer_nhwc": "1"}), CPU),
    "tensorrt": ("TensorrtExecutionProvider", CUDA, CPU),
    "openvino": ("OpenVINOExecutionProvider", CPU),
}

#: The providers that the kernels make a model faster with.
BY_KERNELS: tuple[Provider, ...] = ("cpu", "cuda")

#: Provider -> the package that has it, where that is not onnxruntime.
_PACKAGES: Mapping[Provider, str] = {
    "cuda": "onnxruntime-gpu",
    "cuda-nhwc": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu (with TensorRT)",
    "openvino": "onnxruntime-openvino",
}

#: Provider -> where Triton runs the model, and its accelerator there, whose parameters onnxruntime gets as they are.
_ACCELERATORS: Mapping[Provider, tuple[str, str]] = {
    "cpu": ("cpu", ""),
    "cuda": ("gpu", 'name: "cuda"'),
    "cuda-nhwc": ("gpu", 'name: "cuda" parameters { key: "prefer_nhwc" value: "1" }'),
    "tensorrt": ("gpu", 'name: "tensorrt"'),
    "openvino": ("cpu", 'name: "openvino"'),
}


@dataclass(frozen=True)
class Deployment:
    """What is to be served, and how.

    Attributes:
        name: the model's name on the server.
        signature: its inputs and outputs.
        without: why the kernel library does not go into the folder; empty if it does.
        provider: which execution provider of onnxruntime serves.
        mount: where the folder will lie on the server.
        max_batch_size: how many requests' rows the server may put together; 0: none.
    """

    name: str
    signature: Signature
    without: str
    provider: Provider
    mount: PurePosixPath
    max_batch_size: int

    @property
    def library(self) -> bool:
        """Whether the kernel library goes into the folder."""
        return not self.without


@dataclass(frozen=True)
class ServerFolder:
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


def installed(extra: str, provider: Provider) -> str:
    """What a server in Python needs: this package with its extra, which is on no index yet."""
    package = _PACKAGES.get(provider)
    runtime = f", and {package} in the place of onnxruntime" if package else ""
    return f"jr-onnx with its extra {extra} (in a clone of jr-onnx: pip install '.[{extra}]'){runtime}"


#: Raises OptionError for what the server cannot do.
Writer = Callable[[Deployment], ServerFolder]


def check_batching(deployment: Deployment) -> None:
    """Can Triton put requests for this model together?

    Raises:
        OptionError: it cannot: an input is optional, or the first dimension of a tensor is not free.
    """
    signature = deployment.signature
    for tensor in (*signature.inputs, *signature.outputs):
        if tensor.default is not None:
            raise OptionError(
                f"`max_batch_size`: Triton cannot put requests together that may differ in '{tensor.name}'; leave "
                "it out, or convert without `jump_input`"
            )
        if not tensor.shape or tensor.shape[0] != FREE:
            raise OptionError(
                f"`max_batch_size`: the first dimension of '{tensor.name}' ({list(tensor.shape)}) is not free; leave "
                "it out, or export the model with a dynamic batch"
            )


# --- A model repository for NVIDIA Triton Inference Server, for its ONNX Runtime backend ------------------------------


def triton_layout(deployment: Deployment) -> ServerFolder:
    """NAME/config.pbtxt, NAME/1/model.onnx and NAME/jr_onnx_ops.so."""
    if deployment.max_batch_size:
        check_batching(deployment)
    for tensor in (*deployment.signature.inputs, *deployment.signature.outputs):
        if 0 in tensor.shape:
            raise ModelError(f"'{tensor.name}' has the shape {list(tensor.shape)}; Triton takes no size of 0")
    folder = PurePosixPath(deployment.name)
    return ServerFolder(
        model=folder / "1" / "model.onnx",
        library=folder / LIBRARY,
        where="where this folder is mounted",
        command=f"tritonserver {shlex.quote(f'--model-repository={deployment.mount}')}",
        texts={str(folder / "config.pbtxt"): "\n".join(_config(deployment)) + "\n"},
        warnings=tuple(map(_warning, (one for one in deployment.signature.inputs if one.default is not None))),
    )


def _warning(jump: Tensor) -> str:
    return (
        f"any client can set '{jump.name}', also so low that the defence is off, because Triton has no limits for "
        "values; filter requests in front of it, or convert without `jump_input`"
    )


def _config(deployment: Deployment) -> Iterator[str]:
    yield f"name: {_quoted(deployment.name)}"
    yield 'backend: "onnxruntime"'
    # Complete input and output sections keep Triton from taking a free first dimension for a batch by itself.
    yield f"max_batch_size: {deployment.max_batch_size}"
    if deployment.max_batch_size:
        yield "dynamic_batching { }"
    for tensor in deployment.signature.inputs:
        yield from _tensor("input", tensor, bool(deployment.max_batch_size))
    for tensor in deployment.signature.outputs:
        yield from _tensor("output", tensor, bool(deployment.max_batch_size))
    kind, accelerator = _ACCELERATORS[deployment.provider]
    yield f"instance_group [ {{ kind: KIND_{kind.upper()} }} ]"
    if accelerator:
        yield f"optimization {{ execution_accelerators {{ {kind}_execution_accelerator: [ {{ {accelerator} }} ] }} }}"
    if deployment.library:
        # The path goes to dlopen as it is: it must be absolute, for the place where the folder will lie.
        path = deployment.mount / deployment.name / LIBRARY
        yield f"model_operations {{ op_library_filename: [ {_quoted(str(path))} ] }}"


def _tensor(section: str, tensor: Tensor, batched: bool) -> Iterator[str]:
    yield f"{section} ["
    yield "  {"
    yield f"    name: {_quoted(tensor.name)}"
    yield f"    data_type: TYPE_{tensor.datatype.replace('BYTES', 'STRING')}"
    dims = tensor.shape[1:] if batched else tensor.shape
    # A scalar is written, and sent, as one element; the backend makes it a scalar again, by the model.
    yield f"    dims: {list(dims) or [1]}"
    if batched and not dims:
        yield "    reshape { shape: [ ] }"
    if tensor.default is not None:
        yield f"    optional: true  # default: {tensor.default!r}"
    yield "  }"
    yield "]"


def _quoted(text: str) -> str:
    """A string of protobuf's text format: what is not plain ASCII is escaped, byte for byte."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'


# --- A folder for MLServer, which serves it with `jr_onnx.serving.mlserver.JumpReluRuntime` ---------------------------

#: The file with the server's own settings.
SETTINGS = "settings.json"

#: MLServer's limit is gRPC's default of 4 MB, less than eight images of 224 x 224 pixels.
_LARGEST_MESSAGE = 256 << 20


def mlserver_layout(deployment: Deployment) -> ServerFolder:
    """settings.json, NAME/model-settings.json, NAME/model.onnx and NAME/jr_onnx_ops.so."""
    if deployment.max_batch_size:
        # Seen: it joins the tensors of one name as they are, before the model could refuse one of them. A request with
        # too many columns or too few rows shifts the answers of others.
        raise OptionError(
            "`max_batch_size`: MLServer joins requests before they are checked, so that a bad one gets the rows of "
            "others; leave it out"
        )
    folder = PurePosixPath(deployment.name)
    # onnxruntime has threads of its own: a pool of processes would only multiply the memory and copy the tensors.
    settings = {"debug": False, "parallel_workers": 0, "grpc_max_message_length": _LARGEST_MESSAGE}
    return ServerFolder(
        model=folder / "model.onnx",
        library=folder / LIBRARY,
        where="in this folder",
        command="mlserver start .",
        needs=installed("mlserver", deployment.provider),
        texts={
            SETTINGS: _json(settings),
            str(folder / "model-settings.json"): _json(_model_settings(deployment)),
        },
    )


def _model_settings(deployment: Deployment) -> dict[str, Any]:
    extra = {"library": LIBRARY if deployment.library else None, "provider": deployment.provider}
    return {
        "name": deployment.name,
        "implementation": "jr_onnx.serving.mlserver.JumpReluRuntime",
        "platform": "onnxruntime_onnx",
        "parameters": {"uri": "model.onnx", "extra": extra},
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


# --- A folder for KServe, which serves it with `jr_onnx.serving.kserve` -----------------------------------------------


def kserve_layout(deployment: Deployment) -> ServerFolder:
    """model.onnx and jr_onnx_ops.so."""
    if deployment.max_batch_size:
        raise OptionError("`max_batch_size`: KServe batches outside of the model's server; set its batcher instead")
    library = f" --library={LIBRARY}" if deployment.library else ""
    options = f"--model_name={deployment.name}{library} --provider={deployment.provider}"
    command = f"python -m jr_onnx.serving.kserve {options} model.onnx"
    return ServerFolder(
        model=PurePosixPath("model.onnx"),
        library=PurePosixPath(LIBRARY),
        where="in this folder",
        command=command,
        needs=installed("kserve", deployment.provider),
    )
