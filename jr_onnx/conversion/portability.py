"""Which way of writing JumpReLU each runtime needs: one table for `convert --for` and docs/portability.md.

What each runtime does with each target was measured with `tools/portability.py`; `UNMEASURED` are taken to do what
onnxruntime does, which they embed. `PROVIDERS` are execution providers of onnxruntime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jr_onnx.conversion.forms.table import Target

#: How a runtime runs `jr_onnx::JumpReLU`: by the kernels of the custom-op library, by the function that the model
#: carries, or by ONNX's operators, so that the function's body has to be written into the graph: because it rejects
#: local functions, because it compiles subgraphs, or because it keeps them in the layout NHWC.
Way = Literal["kernels", "function", "inlined", "compiled", "nhwc"]


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
        return self.way in ("inlined", "compiled", "nhwc")


_WHY: Mapping[Way, str] = {
    "kernels": "by the kernels of the custom-op library; without it, by the function in the model",
    "function": "by the function in the model; it loads no custom-op library",
    "inlined": "as operators of ONNX; it rejects local functions",
    "compiled": "as operators of ONNX, which it compiles with all others; the kernels would cut its subgraph",
    "nhwc": "as operators of ONNX, which stay in NHWC; the kernels would stand between two Transposes",
}

_NAMES: Mapping[Way, tuple[str, ...]] = {
    "kernels": ("onnxruntime", "triton", "mlserver", "kserve", "cuda"),
    "function": ("onnxruntime-node", "onnxruntime-web", "mlflow", "onnx-reference"),
    "inlined": ("openvino", "opencv", "tract"),
    "compiled": ("tensorrt", "coreml", "directml", "migraphx", "qnn"),
    "nhwc": ("cuda-nhwc",),
}

#: Runtime -> what it needs, by name.
RUNTIMES: Mapping[str, Runtime] = {name: Runtime(name, way) for way, names in _NAMES.items() for name in names}

#: What was not run on the reference vector: they hold an onnxruntime of their own.
UNMEASURED = ("triton", "mlserver", "kserve", "mlflow")

#: Execution providers of onnxruntime; what they take is in a table of its own there.
PROVIDERS = ("cuda", "cuda-nhwc", "tensorrt", "coreml", "directml", "migraphx", "qnn")
