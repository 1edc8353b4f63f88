"""KServe's model server with one hardened model: `python -m jr_onnx.serving.kserve --model_name N MODEL`.

Options of KServe's own, such as --http_port and --grpc_port, go beside these. Source: https://kserve.github.io/website,
"Custom predictor".
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import uuid
from pathlib import Path
from typing import Any

from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelServer, model_server
from kserve.errors import InvalidInput

from jr_onnx.errors import JrOnnxError, RequestError
from jr_onnx.serving.layouts import EXECUTION, Provider
from jr_onnx.serving.served import Array, ServedModel, by_name, check_sizes, decoded
from jr_onnx.serving.signature import Tensor


class JumpReluModel(Model):  # type: ignore[misc]  # kserve has no type hints where these are checked
    """One hardened model. Requests run in threads, so that one that computes holds up no other."""

    def __init__(self, name: str, model: Path, library: Path | None, provider: Provider) -> None:
        """Load the model.

        Raises:
            JrOnnxError: as `ServedModel`. Errors of onnxruntime come through.
        """
        super().__init__(name)
        self._served = ServedModel(model, library, provider)
        self.ready = True

    async def predict(self, payload: InferRequest, *_: Any) -> InferResponse:
        """Run one request of the Open Inference Protocol, KServe's v2."""
        if not isinstance(payload, InferRequest):
            raise InvalidInput("this model speaks the Open Inference Protocol (v2) only")
        try:
            feeds = by_name((one.name, _decoded(one, payload.from_grpc)) for one in payload.inputs)
            wanted = [one.name for one in payload.request_outputs or ()]
            results = await asyncio.to_thread(self._served.run, feeds, wanted)
        except RequestError as error:
            raise InvalidInput(str(error)) from error
        datatypes = {tensor.name: tensor.datatype for tensor in self._served.signature.outputs}
        outputs = [InferOutput(name, list(array.shape), datatypes[name], array) for name, array in results.items()]
        for output in outputs if payload.from_grpc else ():
            output.set_data_from_numpy(output.data, binary_data=True)
        return InferResponse(
            payload.id or str(uuid.uuid4()),  # KServe itself makes none, and fails without one
            self.name,
            outputs,
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )

    def get_input_types(self) -> list[dict[str, Any]]:
        """The metadata of the inputs."""
        return [_metadata(tensor) for tensor in self._served.signature.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        """The metadata of the outputs."""
        return [_metadata(tensor) for tensor in self._served.signature.outputs]


def _decoded(one: InferInput, from_grpc: bool) -> Array:
    if not from_grpc:
        return decoded(one.name, one.datatype, one.shape, one.data)
    check_sizes(one.name, one.shape)
    try:
        array: Array = one.as_numpy()
    except (ValueError, OverflowError) as error:
        raise RequestError(f"input '{one.name}' is not {one.datatype} of shape {one.shape}: {error}") from error
    return array


def _metadata(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def main() -> None:
    """Load the model and start KServe's server; where the model cannot be loaded, the process ends with an error."""
    parser = argparse.ArgumentParser(prog="python -m jr_onnx.serving.kserve", parents=[model_server.parser])
    parser.add_argument("model", metavar="MODEL", type=Path, help="the hardened model")
    parser.add_argument("--library", type=Path, help="the kernel library; default: the function in the model serves")
    parser.add_argument("--provider", choices=EXECUTION, default="cpu", help="onnxruntime's, default: cpu")
    arguments = parser.parse_args()
    try:
        model = JumpReluModel(arguments.model_name, arguments.model, arguments.library, arguments.provider)
    except JrOnnxError as error:
        sys.exit(f"{parser.prog}: {error}")
    ModelServer().start([model])


if __name__ == "__main__":
    main()
