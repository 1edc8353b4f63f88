"""MLServer's runtime for hardened models: `"implementation": "jr_onnx.serving.mlserver.JumpReluRuntime"`.

`jr-onnx deploy --server mlserver` writes the settings. Source: https://mlserver.readthedocs.io, "Custom runtimes".
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from mlserver import MLModel
from mlserver.errors import InferenceError
from mlserver.registry import MultiModelRegistry
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor, Parameters, RequestInput, ResponseOutput
from mlserver.utils import get_model_uri

from jr_onnx.errors import RequestError
from jr_onnx.serving.served import Array, ServedModel, by_name, decoded
from jr_onnx.serving.signature import Tensor


class JumpReluRuntime(MLModel):  # type: ignore[misc]  # mlserver has no type hints where these are checked
    """One hardened model.

    Requests run in threads, so that one that computes holds up no other. A model that is loaded again takes the place
    of this one, which finishes the requests it has.
    """

    async def load(self) -> bool:
        """Load the model; where that fails while MLServer starts, the process ends with exit code 1."""
        try:
            self._served = await self._open()
        except Exception as error:
            if not _server_starts():
                raise
            # MLServer would log the error, stop, and exit with 0, as if it had been asked to.
            raise SystemExit(f"model '{self.name}' cannot be loaded: {error}") from error
        self.inputs = [_metadata(tensor) for tensor in self._served.signature.inputs]
        self.outputs = [_metadata(tensor) for tensor in self._served.signature.outputs]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run one request."""
        try:
            feeds = by_name((one.name, _decoded(one)) for one in payload.inputs)
            wanted = [one.name for one in payload.outputs or ()]
            results = await asyncio.to_thread(self._served.run, feeds, wanted)
        except RequestError as error:
            raise InferenceError(str(error)) from error
        datatypes = {tensor.name: tensor.datatype for tensor in self._served.signature.outputs}
        outputs = [_encoded(name, datatypes[name], array) for name, array in results.items()]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)

    async def _open(self) -> ServedModel:
        model = Path(await get_model_uri(self.settings))
        extra: dict[str, Any] = self.settings.parameters.extra or {}
        library = model.parent / extra["library"] if extra.get("library") else None
        return await asyncio.to_thread(ServedModel, model, library, extra.get("provider", "cpu"))


def _server_starts() -> bool:
    """Whether MLServer loads a model because it starts: then the registry's `load` is a task of its own.

    It is part of another one, the request's, where a running server is asked to load a model.
    """
    task = asyncio.current_task()
    return task is not None and getattr(task.get_coro(), "__qualname__", "") == MultiModelRegistry.load.__qualname__


def _metadata(tensor: Tensor) -> MetadataTensor:
    optional = None if tensor.default is None else Parameters(optional=True, default=repr(tensor.default))
    return MetadataTensor(name=tensor.name, datatype=tensor.datatype, shape=list(tensor.shape), parameters=optional)


def _decoded(one: RequestInput) -> Array:
    return decoded(one.name, getattr(one.datatype, "value", one.datatype), one.shape, one.data)


def _encoded(name: str, datatype: str, array: Array) -> ResponseOutput:
    # MLServer's own codec would make [N] of it [N, 1].
    return ResponseOutput(name=name, datatype=datatype, shape=list(array.shape), data=array.reshape(-1).tolist())
