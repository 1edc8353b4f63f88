"""A model repository for NVIDIA Triton Inference Server, for its ONNX Runtime backend.

Sources: Triton's model_config.proto and docs/user_guide/model_configuration.md; the backend's onnxruntime.cc, for what
it compares with the model when it is loaded.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath

from jr_onnx.deployment.layout import Layout, Request, check_batching
from jr_onnx.deployment.signature import Tensor
from jr_onnx.errors import ModelError
from jr_onnx.runtime.library import LIBRARY


def layout(request: Request) -> Layout:
    """NAME/config.pbtxt, NAME/1/model.onnx and NAME/jr_onnx_ops.so."""
    if request.max_batch_size:
        check_batching(request)
    for tensor in (*request.signature.inputs, *request.signature.outputs):
        if 0 in tensor.shape:
            raise ModelError(f"'{tensor.name}' has the shape {list(tensor.shape)}; Triton takes no size of 0")
    folder = PurePosixPath(request.name)
    return Layout(
        model=folder / "1" / "model.onnx",
        library=folder / LIBRARY,
        where="where this folder is mounted",
        command=f"tritonserver {shlex.quote(f'--model-repository={request.mount}')}",
        texts={str(folder / "config.pbtxt"): "\n".join(_config(request)) + "\n"},
        warnings=tuple(map(_warning, (one for one in request.signature.inputs if one.default is not None))),
    )


def _warning(jump: Tensor) -> str:
    return (
        f"any client can set '{jump.name}', also so low that the defence is off, because Triton has no limits for "
        "values; filter requests in front of it, or convert without --jump-input"
    )


def _config(request: Request) -> Iterator[str]:
    yield f"name: {_quoted(request.name)}"
    yield 'backend: "onnxruntime"'
    # Complete input and output sections keep Triton from taking a free first dimension for a batch by itself.
    yield f"max_batch_size: {request.max_batch_size}"
    if request.max_batch_size:
        yield "dynamic_batching { }"
    for tensor in request.signature.inputs:
        yield from _tensor("input", tensor, bool(request.max_batch_size))
    for tensor in request.signature.outputs:
        yield from _tensor("output", tensor, bool(request.max_batch_size))
    yield f"instance_group [ {{ kind: KIND_{'GPU' if request.gpu else 'CPU'} }} ]"
    if request.gpu:
        # The backend hands the parameters to onnxruntime's CUDA provider as they are.
        nhwc = ' parameters { key: "prefer_nhwc" value: "1" }' if request.prefer_nhwc else ""
        yield f'optimization {{ execution_accelerators {{ gpu_execution_accelerator: [ {{ name: "cuda"{nhwc} }} ] }} }}'
    if request.library:
        # The path goes to dlopen as it is: it must be absolute, for the place where the folder will lie.
        path = request.mount / request.name / LIBRARY
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
