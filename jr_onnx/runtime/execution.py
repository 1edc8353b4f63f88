"""onnxruntime, imported when it is first needed, and a session on one model in one way."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.errors import JrOnnxError, RuntimeMissingError
from jr_onnx.runtime.library import library_path, register
from jr_onnx.text import one_line

Arrays = Mapping[str, npt.NDArray[Any]]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

DISABLED, BASIC, EXTENDED, LAYOUT, ALL = (
    "ORT_DISABLE_ALL",
    "ORT_ENABLE_BASIC",
    "ORT_ENABLE_EXTENDED",
    "ORT_ENABLE_LAYOUT",
    "ORT_ENABLE_ALL",
)


#: The execution providers that run node by node; that of Azure, which many builds list, takes no node of ONNX's.
_NODE_BY_NODE = frozenset({CPU, CUDA, "CudaPluginExecutionProvider", "AzureExecutionProvider"})


class CannotRunError(Exception):
    """Something could not be run; the message says why, in one line."""


@dataclass(frozen=True)
class Way:
    """One way to run a model."""

    provider: str
    library: bool
    level: str = ALL

    def __str__(self) -> str:
        return f"{self.provider}, {'with' if self.library else 'without'} the library"


def onnxruntime() -> Any:
    """The package.

    Raises:
        RuntimeMissingError: it is not installed.
    """
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RuntimeMissingError(
            f"onnxruntime is not installed ({one_line(error)}); pip install onnxruntime, or onnxruntime-gpu for CUDA"
        ) from error


def library_problem() -> str:
    """Why the kernel library cannot be used; empty if it can."""
    try:
        library_path()
    except RuntimeMissingError as error:
        return one_line(error)
    return ""


def has_use_for_kernels(provider: str, options: Mapping[str, Any] | None = None) -> bool:
    """Whether the kernel library makes a model faster there, with these options of the provider.

    Some providers (OpenVINO, TensorRT, CoreML, QNN, ...) compile subgraphs, and would have to stop before each
    JumpReLU; CUDA with prefer_nhwc puts two Transposes around each. Without the library, onnxruntime puts the nodes of
    the function there, and they are compiled, or kept in NHWC, with all others (docs/portability.md, docs/gpu.md).
    """
    nhwc = str((options or {}).get("prefer_nhwc", 0)).lower() not in ("0", "false")
    return provider in _NODE_BY_NODE and not nhwc


@cache
def levels() -> tuple[str, ...]:
    """The optimisation levels of this onnxruntime, from none to all."""
    known = onnxruntime().GraphOptimizationLevel
    return tuple(level for level in (DISABLED, BASIC, EXTENDED, LAYOUT, ALL) if hasattr(known, level))


def provider_name(text: str) -> str:
    """An execution provider as onnxruntime spells it, from "cuda" or from the whole name in any case.

    Raises:
        CannotRunError: this onnxruntime does not have it.
    """
    available = onnxruntime().get_available_providers()
    wanted = text.lower().removesuffix("executionprovider")
    for name in available:
        if name.lower().removesuffix("executionprovider") == wanted:
            return str(name)
    raise CannotRunError(f"onnxruntime has no {text} here; it has {', '.join(available)}")


class Session:
    """A model that runs in one way.

    Args:
        threads: with several, sums may be split otherwise, and values differ from run to run; 0: as onnxruntime likes.
        in_order: run the nodes in their order in the file, as far as they are not optimised: values are free sooner.

    Raises:
        CannotRunError: onnxruntime does not load it.
    """

    def __init__(self, path: Path, way: Way, *, threads: int = 1, in_order: bool = False) -> None:
        options = session_options(way.level, threads=threads)
        if in_order:
            options.execution_order = onnxruntime().ExecutionOrder.PRIORITY_BASED
        self._session = start(path, options, way.provider, library=way.library)
        if way.provider not in self._session.get_providers():
            raise CannotRunError(f"{way.provider} did not start")

    def inputs(self) -> Sequence[Any]:
        """onnxruntime's descriptions of the inputs that must be fed: name, shape, type.

        Raises:
            CannotRunError: a name in them is not text.
        """
        try:
            described: Sequence[Any] = self._session.get_inputs()
            for one in described:
                _ = one.name, one.shape
        except UnicodeDecodeError as error:
            raise CannotRunError(f"its inputs have names that are not UTF-8 text ({error})") from error
        return described

    def defaults(self) -> Sequence[Any]:
        """The same of the inputs that may be fed and have a default, such as a jump input."""
        described: Sequence[Any] = self._session.get_overridable_initializers()
        return described

    def run(self, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
        """All outputs by name; a feed that this model has no input for, as ORIGINAL has none for a jump, is left out.

        Raises:
            CannotRunError: onnxruntime fails on these inputs.
        """
        names = [value.name for value in self._session.get_outputs()]
        try:
            outputs = self._session.run(names, taken(self._session, feeds))
        except session_errors() as error:
            raise CannotRunError(_line(error)) from error
        kept = zip(names, outputs, strict=True)
        return {name: value for name, value in kept if isinstance(value, np.ndarray)}


def session_options(level: str = ALL, *, threads: int = 0) -> Any:
    """onnxruntime's options, with its log off: what goes wrong is reported by us, once."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = threads
    return options


def start(
    model: Path | bytes, options: Any, provider: str, *, library: bool, disabled_optimizers: Sequence[str] = ()
) -> Any:
    """onnxruntime's session on a model, with the kernel library or without.

    Raises:
        CannotRunError: onnxruntime does not load it.
    """
    source = model if isinstance(model, bytes) else str(model)
    disabled = {"disabled_optimizers": list(disabled_optimizers)} if disabled_optimizers else {}
    try:
        if library:
            register(options, cuda=provider == CUDA)
        return onnxruntime().InferenceSession(source, options, providers=[provider], **disabled)
    except session_errors() as error:
        raise CannotRunError(_line(error)) from error


def taken(session: Any, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
    """The feeds that a model has inputs for: a jump that is an input the original has not."""
    known = {one.name for one in (*session.get_inputs(), *session.get_overridable_initializers())}
    return {name: array for name, array in feeds.items() if name in known}


@cache
def session_errors() -> tuple[type[Exception], ...]:
    """onnxruntime's exceptions: each derives from Exception itself."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError, TypeError, NotImplementedError, ImportError, MemoryError, JrOnnxError)


def _line(error: Exception) -> str:
    text = one_line(error)
    return text if len(text) <= 300 else f"{text[:297]}..."
