"""The model of a folder, loaded and run before the folder gets its name: by its function, and by the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jr_onnx.errors import ModelError, RuntimeMissingError
from jr_onnx.files.source import Source
from jr_onnx.runtime.agreement import compare
from jr_onnx.runtime.execution import CannotRunError, Session, Way
from jr_onnx.runtime.sessions import CPU

UNCHECKED = ("it was not loaded here (`check=False`): whether it runs shows when the server starts",)

_FUNCTION, _KERNELS = Way(CPU, False), Way(CPU, True)


@dataclass(frozen=True)
class Trial:
    """The result of the trial.

    Attributes:
        library: whether the kernels may serve the model.
        warnings: what the operator has to know.
    """

    library: bool
    warnings: tuple[str, ...] = ()


def try_model(source: Source, packaged: Path, *, library: bool) -> Trial:
    """Run a model on this machine's CPU. Where the kernels do not give what its function gives, they are left out.

    Args:
        source: the model.
        packaged: its copy, with the external data beside it.
        library: whether it is to run by the kernels.

    Raises:
        ModelError: onnxruntime does not load it in any of the ways that it may be served in.
        RuntimeMissingError: there is no onnxruntime.
    """
    try:
        if not library:
            _load(source, packaged)
            return Trial(False)
        made = compare(
            source.skeleton, (packaged, _FUNCTION), (packaged, _KERNELS), called="the model with the kernels"
        )
    except RuntimeMissingError as error:
        raise RuntimeMissingError(f"{error}; or add `check=False`") from error
    if made.differs:
        _load(source, packaged)
        said = _with_own_name(made.differs, source, packaged)
        return Trial(False, (f"the kernels are left out, and the function in the model serves: {said}; report this",))
    if made.unknown:
        said = _with_own_name(made.unknown, source, packaged)
        return Trial(True, (f"what the kernels give was not compared with what the function gives: {said}",))
    return Trial(True)


def _load(source: Source, packaged: Path) -> None:
    try:
        Session(packaged, _FUNCTION)
    except CannotRunError as error:
        said = _with_own_name(str(error), source, packaged)
        raise ModelError(
            f"onnxruntime does not load it: {said}; correct it, or add `check=False` if the server's onnxruntime does"
        ) from error


def _with_own_name(text: str, source: Source, packaged: Path) -> str:
    """What onnxruntime says of the copy, as if said of the model itself."""
    return text.replace(str(packaged), str(source.path))
