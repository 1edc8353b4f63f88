"""An optimised model beside the hardened one that it was made from, run on random inputs before it gets its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.errors import ModelError
from jr_onnx.running.samples import Sampler
from jr_onnx.running.ways import BASIC, CannotRunError, Session, Way, library_problem

_PROVIDER = "CPUExecutionProvider"

#: Scales of the random inputs: at 1 as after normalisation; at the others more values pass the jumps.
_SCALES = (1.0, 1.0, 1.0, 8.0, 64.0)

#: The difference allowed, over the largest output: sums in another order differ by some units in the last place.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 5e-2

#: The share of an output's elements that may differ by more. Rounding carries an element now and then over its jump,
#: which then is the jump in one model and 0 in the other; among millions of elements there always is one.
_CARRIED = 1e-3

_Outputs = Mapping[str, npt.NDArray[Any]]


class NotOptimizedError(ModelError):
    """The optimised form is not what the hardened model is, or onnxruntime does not run it."""


def verify(hardened: Path, optimised: Path, *, half: bool) -> str:
    """Compare all outputs; why that could not be done, or an empty string.

    What is in the wrong place is so for every input. That an element upstream is carried over its jump, and changes all
    outputs a little, is an accident of one: the median over the inputs counts.

    Args:
        half: some JumpReLUs are of a 16-bit type.

    Raises:
        NotOptimizedError: onnxruntime does not load or run the optimised model, or its outputs are others.
    """
    library = not library_problem()
    try:
        quick = Session(optimised, Way(_PROVIDER, library, BASIC))
    except CannotRunError as error:
        raise NotOptimizedError(f"onnxruntime does not load its optimised form; {_INSTEAD}: {error}") from error
    try:
        slow = Session(hardened, Way(_PROVIDER, library))
        sampler = Sampler(slow, {}, {}, advice="")
        feeds = [sampler.random(number, scale).feeds for number, scale in enumerate(_SCALES)]
        expected = [slow.run(one) for one in feeds]
        again = slow.run(feeds[0])
    except CannotRunError as error:
        return str(error)
    if any(_distance(again[name], value) for name, value in expected[0].items()):
        return "it gives other values each time it is run"
    if not any(map(_tells, zip(*(one.values() for one in expected), strict=True))):
        return "on random inputs its outputs are always the same, infinite or not numbers"
    try:
        found = [quick.run(one) for one in feeds]
    except CannotRunError as error:
        raise NotOptimizedError(f"onnxruntime does not run its optimised form; {_INSTEAD}: {error}") from error
    _check_outputs(expected, found, _HALF_TOLERANCE if half else _TOLERANCE)
    return ""


_INSTEAD = "nothing was written; give --level extended, or run the hardened model as it is"


def _check_outputs(expected: Sequence[_Outputs], found: Sequence[_Outputs], tolerance: float) -> None:
    for name in expected[0]:
        far = median(_distance(e[name], f[name]) for e, f in zip(expected, found, strict=True))
        if not far <= tolerance:
            raise NotOptimizedError(
                f"output '{name}' of its optimised form differs by {far:.2g} of the largest value on random inputs; "
                "nothing was written; run the hardened model as it is, and report this"
            )


def _tells(values: Sequence[npt.NDArray[Any]]) -> bool:
    """Whether an output has any finite value that is not always the same: no other could betray a wrong place."""
    if values[0].dtype.kind not in "fiub":
        return len({str(value.tolist()) for value in values}) > 1
    finite = np.concatenate([value.astype(np.float64)[np.isfinite(value)] for value in values])
    return bool(finite.size) and bool((finite != finite[0]).any())


def _distance(expected: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    """The largest difference over the largest finite value, but for the elements that may be carried over a jump;
    infinite where one is not a number or infinite alone."""
    if expected.shape != found.shape:
        return float("inf")
    if expected.dtype.kind not in "fiub":
        return float("inf") if (expected != found).any() else 0.0
    a, b = expected.astype(np.float64).ravel(), found.astype(np.float64).ravel()
    finite = np.isfinite(a) & np.isfinite(b)
    difference = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.inf)
    np.subtract(a, b, out=difference, where=finite)
    difference = np.abs(difference)
    carried = int(difference.size * _CARRIED)
    far = float(np.partition(difference, -1 - carried)[-1 - carried]) if difference.size else 0.0
    largest = float(np.max(np.abs(a[finite]), initial=0.0))
    if not far:
        return 0.0
    return far / largest if largest else float("inf")
