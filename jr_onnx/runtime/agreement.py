"""Two models, or one run in two ways: are they the same on random inputs or real ones, but for rounding?"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.conversion.element_types import BFLOAT16, FLOAT16
from jr_onnx.conversion.graph.scopes import Scope, all_scopes, own_domain
from jr_onnx.conversion.sites.survey import survey
from jr_onnx.conversion.sites.surveyed import wiring_of
from jr_onnx.runtime.data.loading import Data
from jr_onnx.runtime.execution import Arrays, CannotRunError, Session, Way
from jr_onnx.runtime.inputs import Sampler

#: Scales of the random inputs: at 1 as after normalisation; at the others more values pass the jumps.
_SCALES = (1.0, 1.0, 1.0, 8.0, 64.0)

#: The difference allowed, over the largest output, and with JumpReLUs of 16-bit types: sums in another order differ by
#: some units in the last place.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 5e-2

#: The share of an output's elements that may differ by more. Rounding carries an element now and then over its jump,
#: which then is the jump in one model and 0 in the other; among millions of elements there always is one.
_CARRIED = 1e-3

_Outputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Agreement:
    """The result of a comparison.

    Attributes:
        differs: how the second differs from the first, or that it does not load or run; empty if it does not.
        unknown: why they could not be compared; empty if they were.
    """

    differs: str = ""
    unknown: str = ""


def compare(
    hardened: onnx.ModelProto,
    first: tuple[Path, Way],
    second: tuple[Path, Way],
    *,
    called: str,
    data: Data | None = None,
    advice: str = "",
) -> Agreement:
    """Compare all outputs of what should be the same; one of them is in memory at a time.

    Outputs that are random are not compared: then the second is loaded, and nothing is run.

    What is wrong is so for every input. That an element upstream is carried over its jump, and changes all outputs a
    little, is an accident of one: the median over the inputs counts.

    Args:
        hardened: the first, or its skeleton.
        first: the one that is right.
        called: how messages call the second.
        data: real inputs; what is missing is made up, and where nothing is, they alone are run.
        advice: what the user can do where inputs cannot be made up, for the message.

    Raises:
        OptionError: `data` names an input that there is not, or an array is not what the input takes.
        RuntimeMissingError: there is no onnxruntime.
    """
    feeds: list[Arrays] = []
    expected: list[_Outputs] = []
    unknown = why_random(hardened)
    if not unknown:
        try:
            feeds, expected = _run(*first, data, advice)
        except CannotRunError as error:
            unknown = str(error)
    if not unknown and not any(map(_tells, zip(*(one.values() for one in expected), strict=True))):
        unknown = "its outputs are always the same, infinite or not numbers"
    try:
        session = Session(*second)
    except CannotRunError as error:
        return Agreement(f"onnxruntime does not load {called}: {error}")
    try:
        found = [session.run(one) for one in feeds]
    except CannotRunError as error:
        return Agreement(f"onnxruntime does not run {called}: {error}")
    if unknown:
        return Agreement(unknown=unknown)
    return Agreement(_difference(expected, found, _tolerance(hardened), called))


def _tolerance(hardened: onnx.ModelProto) -> float:
    sites = survey(hardened, tuple(all_scopes(hardened)), clip=False).sites
    half = any(site.element_type in (FLOAT16, BFLOAT16) for site in sites if site.hardened is not None)
    return _HALF_TOLERANCE if half else _TOLERANCE


def _run(path: Path, way: Way, data: Data | None, advice: str) -> tuple[list[Arrays], list[_Outputs]]:
    """The inputs that a model runs on, and its outputs."""
    session = Session(path, way)
    sampler = Sampler(session, {}, data, advice=advice)
    feeds: list[Arrays] = []
    outputs: list[_Outputs] = []
    random = [sampler.random(*one) for one in enumerate(_SCALES)] if sampler.makes_inputs else []
    for one in (sample.feeds for sample in (*sampler.given(), *random)):
        # An index in floating point is out of range at a large scale; the sampler has seen that the model runs on one.
        with contextlib.suppress(CannotRunError):
            outputs.append(session.run(one))
            feeds.append(one)
    return feeds, outputs


def _difference(expected: Sequence[_Outputs], found: Sequence[_Outputs], tolerance: float, called: str) -> str:
    for name in expected[0]:
        far = median(distance(e[name], f[name]) for e, f in zip(expected, found, strict=True))
        if not far <= tolerance:
            return f"output '{name}' of {called} differs by {far:.2g} of the largest value"
    return ""


def _tells(values: Sequence[npt.NDArray[Any]]) -> bool:
    """Whether an output has any finite value that is not always the same: no other could betray a wrong place."""
    if values[0].dtype.kind not in "fiub":
        return len({str(value.tolist()) for value in values}) > 1
    finite = np.concatenate([value.astype(np.float64)[np.isfinite(value)] for value in values])
    return bool(finite.size) and bool((finite != finite[0]).any())


def distance(expected: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    """The largest difference over the largest finite value, but for the elements that may be carried over a jump;
    infinite where the shapes or types differ, or where one is not a number or infinite alone."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
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


# --- Does a model draw random numbers? Two runs of such a model differ, and cannot be compared ------------------------

#: (domain, op_type). A seed does not help: it fixes what the first run of a session draws, not the second.
_DRAWING = {
    *(("", f"Random{kind}") for kind in ("Normal", "NormalLike", "Uniform", "UniformLike")),
    ("", "Bernoulli"),
    ("", "Multinomial"),
    ("com.microsoft", "Sampling"),
}

#: Which input of a Dropout says whether it trains, and so draws.
_TRAINING_MODE = 2


def why_random(model: onnx.ModelProto) -> str:
    """Why the outputs of a model are random, with the node that draws; empty if nothing draws.

    A Dropout draws where its training mode is true or not known, as one that is an input of the model.
    """
    for scope in all_scopes(model):
        for index, node in enumerate(scope.nodes):
            if _draws(scope, node):
                return f"its outputs are random: node '{scope.path_of(index)}' ({node.op_type}) draws numbers"
    return ""


def _draws(scope: Scope, node: onnx.NodeProto) -> bool:
    operator = own_domain(node.domain), node.op_type
    if operator != ("", "Dropout"):
        return operator in _DRAWING
    name = node.input[_TRAINING_MODE] if len(node.input) > _TRAINING_MODE else ""
    if not name:
        return False
    training = wiring_of(scope).constant(name)
    return training is None or bool(training.any())
