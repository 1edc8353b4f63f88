"""Which way of writing JumpReLU each runtime needs: one table for `convert --for`, `deploy` and docs/portability.md.

What each runtime does with each target was measured with `tools/portability.py`; `UNMEASURED` are taken to do what
onnxruntime does, which they embed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jr_onnx.conversion.forms.table import Target

#: How a runtime runs `jr_onnx::JumpReLU`: by the kernels of the custom-op library, by the function that the model
#: carries, or not at all, so that the function's body has to be written into the graph.
Way = Literal["kernels", "function", "inlined"]


@dataclass(frozen=True)
class Runtime:
    """What a model for one runtime is converted with.

    Attributes:
        name: as `convert --for` takes it.
        way: how it runs JumpReLU.
    """

    name: str
    way: Way

    @property
    def target(self) -> Target:
        """The `target` of `jr_onnx.convert`."""
        return "custom-op"

    @property
    def options(self) -> str:
        """The options of `jr-onnx convert` that this is."""
        return f"--target {self.target}" + (" --inline" if self.inline else "")

    @property
    def why(self) -> str:
        """How it runs JumpReLU."""
        return _WHY[self.way]

    @property
    def inline(self) -> bool:
        """The `inline` of `jr_onnx.convert`."""
        return self.way == "inlined"


_WHY: Mapping[Way, str] = {
    "kernels": "by the kernels of the custom-op library; without it, by the function in the model",
    "function": "by the function in the model; it loads no custom-op library",
    "inlined": "as operators of ONNX; it rejects local functions",
}

_NAMES: Mapping[Way, tuple[str, ...]] = {
    "kernels": ("onnxruntime", "triton", "mlserver", "kserve"),
    "function": ("onnxruntime-node", "onnxruntime-web", "mlflow", "onnx-reference"),
    "inlined": ("openvino", "opencv", "tract"),
}

#: Runtime -> what it needs, by name.
RUNTIMES: Mapping[str, Runtime] = {name: Runtime(name, way) for way, names in _NAMES.items() for name in names}

#: What was not run on the reference vector: they hold an onnxruntime of their own.
UNMEASURED = ("triton", "mlserver", "kserve", "mlflow")
