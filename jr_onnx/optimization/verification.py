"""An optimised model beside the hardened one that it was made from, run on random inputs before it gets its name."""

from __future__ import annotations

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

#: The difference allowed, over the largest output. Sums in another order differ by some units in the last place; the
#: rest is for an element that rounding carries over its jump, which then is the jump in one model and 0 in the other.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 5e-2


def verify(hardened: Path, optimised: Path, *, half: bool) -> str:
    """Compare all outputs; why that could not be done, or an empty string.

    What is in the wrong place is so for every input. An element carried over its jump is an accident of one: the median
    over the inputs counts.

    Args:
        half: some JumpReLUs are of a 16-bit type.

    Raises:
        ModelError: onnxruntime does not load or run the optimised model, or its outputs are others.
    """
    library = not library_problem()
    try:
        quick = Session(optimised, Way(_PROVIDER, library, BASIC))
    except CannotRunError as error:
        raise ModelError(f"onnxruntime does not load its optimised form, and nothing was written: {error}") from error
    try:
        slow = Session(hardened, Way(_PROVIDER, library))
        sampler = Sampler(slow, {}, {})
        feeds = [sampler.random(number, scale).feeds for number, scale in enumerate(_SCALES)]
        expected = [slow.run(one) for one in feeds]
    except CannotRunError as error:
        return str(error)
    try:
        found = [quick.run(one) for one in feeds]
    except CannotRunError as error:
        raise ModelError(f"onnxruntime does not run its optimised form, and nothing was written: {error}") from error
    for name in expected[0]:
        far = median(_distance(e[name], f[name]) for e, f in zip(expected, found, strict=True))
        if not far <= (_HALF_TOLERANCE if half else _TOLERANCE):
            raise ModelError(
                f"output '{name}' of its optimised form differs by {far:.2g} of the largest value on random inputs; "
                "nothing was written; run the hardened model as it is, and report this"
            )
    return ""


def _distance(expected: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    """The largest difference over the largest finite value; infinite where one is not a number or infinite alone."""
    if expected.shape != found.shape:
        return float("inf")
    if expected.dtype.kind not in "fiub":
        return float("inf") if (expected != found).any() else 0.0
    a, b = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(a)
    if (finite != np.isfinite(b)).any():
        return float("inf")
    largest = float(np.max(np.abs(a[finite]), initial=0.0))
    difference = float(np.max(np.abs(a[finite] - b[finite]), initial=0.0))
    if not difference:
        return 0.0
    return difference / largest if largest else float("inf")
