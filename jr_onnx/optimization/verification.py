"""An optimised model beside the hardened one that it was made from, run before it gets its name."""

from __future__ import annotations

from pathlib import Path

from jr_onnx.errors import ModelError
from jr_onnx.modelfile.source import Source
from jr_onnx.running.agreement import compare
from jr_onnx.running.ways import BASIC, Arrays, Way, library_problem

_PROVIDER = "CPUExecutionProvider"

#: `session(optimize=True)` says it too.
_ADVICE = "; give real ones to jr-onnx optimize with --data NPZ"


class NotOptimizedError(ModelError):
    """The optimised form is not what the hardened model is, or onnxruntime does not run it."""


def verify(hardened: Source, path: Path, optimised: Path, data: Arrays) -> str:
    """Compare all outputs; why that could not be done, or an empty string.

    The hardened model runs by its function, the optimised one by the kernels: a fault of theirs is one of both else.

    Args:
        path: of the hardened model.
        data: real inputs by name; others are made up.

    Raises:
        OptionError: `data` are not what the model takes.
        NotOptimizedError: onnxruntime does not load or run the optimised model, or its outputs are others.
    """
    first = path, Way(_PROVIDER, False)
    second = optimised, Way(_PROVIDER, not library_problem(), BASIC)
    made = compare(hardened.skeleton, first, second, called="its optimised form", data=data, advice=_ADVICE)
    if made.differs:
        raise NotOptimizedError(
            f"{made.differs}; nothing was written; give --level extended, or run the hardened model as it is, and "
            "report this"
        )
    return made.unknown
