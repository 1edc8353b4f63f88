"""A folder for MLServer, which serves it with `jr_onnx.serving.mlserver.JumpReluRuntime`.

Source: https://mlserver.readthedocs.io, "Settings".
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

from jr_onnx.deployment.layout import Layout, Request, installed
from jr_onnx.errors import OptionError
from jr_onnx.runtime.library import LIBRARY

#: The file with the server's own settings.
SETTINGS = "settings.json"

#: MLServer's limit is gRPC's default of 4 MB, less than eight images of 224 x 224 pixels.
_LARGEST_MESSAGE = 256 << 20


def layout(request: Request) -> Layout:
    """settings.json, NAME/model-settings.json, NAME/model.onnx and NAME/jr_onnx_ops.so."""
    if request.max_batch_size:
        # Seen: it joins the tensors of one name as they are, before the model could refuse one of them. A request with
        # too many columns or too few rows shifts the answers of others.
        raise OptionError(
            "--max-batch-size: MLServer joins requests before they are checked, so that a bad one gets the rows of "
            "others; leave it out"
        )
    folder = PurePosixPath(request.name)
    # onnxruntime has threads of its own: a pool of processes would only multiply the memory and copy the tensors.
    settings = {"debug": False, "parallel_workers": 0, "grpc_max_message_length": _LARGEST_MESSAGE}
    return Layout(
        model=folder / "model.onnx",
        library=folder / LIBRARY,
        where="in this folder",
        command="mlserver start .",
        needs=installed("mlserver", gpu=request.gpu),
        texts={
            SETTINGS: _json(settings),
            str(folder / "model-settings.json"): _json(_model_settings(request)),
        },
    )


def _model_settings(request: Request) -> dict[str, Any]:
    gpu = {"gpu": request.gpu, **({"prefer_nhwc": True} if request.prefer_nhwc else {})}
    extra = {"library": LIBRARY if request.library else None, **gpu}
    return {
        "name": request.name,
        "implementation": "jr_onnx.serving.mlserver.JumpReluRuntime",
        "platform": "onnxruntime_onnx",
        "parameters": {"uri": "model.onnx", "extra": extra},
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
