"""A folder for KServe, which serves it with `jr_onnx.serving.kserve`.

Source: https://kserve.github.io/website, "Custom predictor".
"""

from __future__ import annotations

from pathlib import PurePosixPath

from jr_onnx.deployment.layout import Layout, Request, installed
from jr_onnx.errors import OptionError
from jr_onnx.runtime.library import LIBRARY


def layout(request: Request) -> Layout:
    """model.onnx and jr_onnx_ops.so."""
    if request.max_batch_size:
        raise OptionError("--max-batch-size: KServe batches outside of the model's server; set its batcher instead")
    library = f" --library={LIBRARY}" if request.library else ""
    gpu = (" --gpu" if request.gpu else "") + (" --prefer-nhwc" if request.prefer_nhwc else "")
    command = f"python -m jr_onnx.serving.kserve --model_name={request.name}{library}{gpu} model.onnx"
    return Layout(
        model=PurePosixPath("model.onnx"),
        library=PurePosixPath(LIBRARY),
        where="in this folder",
        command=command,
        needs=installed("kserve", gpu=request.gpu),
    )
