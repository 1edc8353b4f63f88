"""Inputs to run a model on: random ones that fit it, edge values, and those of the user."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.conversion.graph.names import used_names
from jr_onnx.conversion.graph.scopes import FunctionKey, called_by, functions_of, graphs_in
from jr_onnx.conversion.graph.value_types import Dimension
from jr_onnx.errors import OptionError
from jr_onnx.runtime.data.dataset import batches_of
from jr_onnx.runtime.data.fitting import Layout, layout_of
from jr_onnx.runtime.data.loading import SAVE_SO, Data, samples_of
from jr_onnx.runtime.execution import Arrays, CannotRunError, Session

_DTYPES: Mapping[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(bool)": np.dtype(np.bool_),
    **{f"tensor({sign}int{bits})": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
}

#: Tried in turn for dimensions that the model leaves open, until it runs: first the batch, then all others.
_OPEN = ((2, 8), (1, 8), (2, 32), (1, 32), (1, 64), (1, 224), (2, 3), (1, 3), (1, 1), (1, 299))

#: Small integers: an index, a length or a number of steps that any model has room for.
_INTEGERS = 3

#: What the random inputs are multiplied by, until a value passes the jump at every site.
SCALES = (1.0, 8.0, 64.0, 512.0, 4096.0)


@dataclass(frozen=True)
class Sample:
    """One set of inputs.

    Attributes:
        name: as messages call it.
        real: whether outputs on it say something about the model; edge values say something about a site only.
    """

    name: str
    feeds: Arrays
    real: bool


@dataclass(frozen=True)
class _Input:
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]


class Sampler:
    """Makes inputs for one model."""

    def __init__(
        self,
        session: Session,
        shapes: Mapping[str, Sequence[int]],
        data: Data | None,
        *,
        small: Collection[str] = (),
        advice: str = "; give `shapes` or `data`",
    ) -> None:
        """Find shapes that the model runs on.

        Args:
            small: the inputs that are fed small whole numbers only, whatever their type.
            advice: what the user can do where none are found, for the error.

        Raises:
            OptionError: `shapes` or `data` name an input that there is not, or an array is not what the input takes.
            CannotRunError: the model takes what cannot be made up, or runs on none of the shapes tried.
        """
        described = session.inputs()
        _check_names("shapes", shapes, described)
        self._given = _feeds(data, session, shapes) if data is not None else []
        self._data = self._given[0] if self._given else {}
        self._inputs = _described([one for one in described if one.name not in self._data], shapes, advice)
        self._small = frozenset(small)
        self._sizes = _OPEN[0]
        if self._inputs:
            self._sizes = self._fitting(session, advice)

    def _fitting(self, session: Session, advice: str) -> tuple[int, int]:
        failures = []
        for sizes in _OPEN:
            self._sizes = sizes
            try:
                session.run(self.random(0, 1.0).feeds)
            except CannotRunError as error:
                failures.append(str(error))
                continue
            return sizes
        raise CannotRunError(f"the model runs on no random input ({failures[0]}){advice}")

    @property
    def makes_inputs(self) -> bool:
        """Whether there are random inputs; not where the user's data leave none to make up."""
        return bool(self._inputs) or not self._data

    def random(self, number: int, scale: float) -> Sample:
        """The number-th random sample, always the same."""
        draw = np.random.default_rng(number)
        feeds = {one.name: self._array(one, draw, scale, number) for one in self._inputs}
        return Sample(f"random input {number} times {scale:g}", {**feeds, **self._data}, real=True)

    def edges(self, values: Sequence[float]) -> Sample:
        """Every floating-point input that need not be small filled with these values, over and over."""
        draw = np.random.default_rng(0)
        feeds = {}
        for one in self._inputs:
            array = self._array(one, draw, 1.0, 0)
            if one.dtype.kind == "f" and one.name not in self._small:
                with np.errstate(over="ignore"):
                    array = np.resize(np.asarray(values).astype(one.dtype), array.shape)
            feeds[one.name] = array
        return Sample("edge values", {**feeds, **self._data}, real=False)

    def given(self) -> Iterator[Sample]:
        """The user's data, if they are all that the model needs."""
        for number, feeds in enumerate(self._given if not self._inputs else ()):
            yield Sample(f"`data`, part {number + 1}" if len(self._given) > 1 else "`data`", feeds, real=True)

    def _array(self, one: _Input, draw: np.random.Generator, scale: float, number: int) -> npt.NDArray[Any]:
        batch, other = self._sizes
        shape = [
            dim if isinstance(dim, int) else batch if not position else other for position, dim in enumerate(one.shape)
        ]
        try:
            if one.name in self._small:
                return _drawn(np.dtype(np.int64), shape, draw, scale, number).astype(one.dtype)
            return _drawn(one.dtype, shape, draw, scale, number)
        except (MemoryError, ValueError) as error:
            raise CannotRunError(f"input '{one.name}' cannot be made in the shape {shape}: {error}") from error


def _drawn(
    dtype: np.dtype[Any], shape: Sequence[int], draw: np.random.Generator, scale: float, number: int
) -> npt.NDArray[Any]:
    if dtype.kind == "f":
        values: npt.NDArray[Any] = draw.standard_normal(shape, dtype=np.float64 if dtype.itemsize > 4 else np.float32)
        values *= scale
        return values.astype(dtype, copy=False)
    if dtype.kind == "b":
        return np.full(shape, number % 2 == 0)
    return np.asarray(draw.integers(1, _INTEGERS, shape, dtype=dtype, endpoint=True))


def _described(described: Sequence[Any], shapes: Mapping[str, Sequence[int]], advice: str) -> list[_Input]:
    inputs = []
    for one in described:
        if one.type not in _DTYPES:
            raise CannotRunError(f"input '{one.name}' is a {one.type}, which cannot be made up{advice}")
        inputs.append(_Input(one.name, _DTYPES[one.type], tuple(shapes.get(one.name, one.shape))))
    return inputs


# --- The user's data, as a model is fed them --------------------------------------------------------------------------

#: How many samples are fed at most: they are in memory at once, with what the sites give for them.
MOST_SAMPLES = 32


def by_name(data: Data, session: Session) -> dict[str, npt.NDArray[Any]]:
    """The arrays that are fed as they are, by the names of inputs; none where the data are samples of the one input.

    They are samples where no array has the name of an input, or x alone has it, and is uint8 for an input that is not,
    or has y, mean or std beside it.

    Raises:
        OptionError: they are not inputs of the model, or hold nothing.
    """
    inputs = session.inputs()
    known = {one.name: one for one in (*inputs, *session.defaults())}
    named, others = data.arrays.keys() & known.keys(), data.arrays.keys() - known.keys()
    pixels = named == {"x"} and _is_float(known["x"]) and getattr(data.arrays["x"], "dtype", None) == np.uint8
    if len(inputs) == 1 and (not named or pixels or (named == {"x"} and others)):
        return {}
    if not named and (data.folder is not None or data.dataset is not None or "x" in others):
        names = ", ".join(one.name for one in inputs) or "none"
        raise OptionError(f"{data.name}: samples are for a model of one input; this one has {names}")
    arrays = {name: array for name, array in data.arrays.items() if name in known or name != "y"}
    _check_names("data", arrays, list(known.values()))
    if not any(np.size(array) for array in arrays.values()):
        raise OptionError(f"{data.name}: holds no sample; save an array for each input of the model in it")
    return {name: _fitted(np.asarray(array), known[name]) for name, array in arrays.items()}


def _feeds(data: Data, session: Session, shapes: Mapping[str, Sequence[int]]) -> list[Arrays]:
    """What is fed: arrays by name at once, or samples in batches that the model takes."""
    named = by_name(data, session)
    if named:
        return [named]
    (only,) = session.inputs()
    takes = _OnlyInput(only.name, tuple(only.shape))
    samples = samples_of(data, takes if takes.shape else None)
    batch = (*shapes.get(only.name, only.shape), None)[0]
    size = batch if isinstance(batch, int) else None
    rows = (rows for rows, _ in batches_of(min(len(samples), max(MOST_SAMPLES, size or 0)), size, MOST_SAMPLES))
    read = (samples.normalise(samples.batch(one)) if _is_float(only) else samples.images[one] for one in rows)
    return [{only.name: _fitted(one, only)} for one in read]


@dataclass(frozen=True)
class _OnlyInput:
    """The one input of a model of any kind."""

    input: str
    shape: tuple[Dimension, ...]
    classes: None = None

    @property
    def layout(self) -> Layout:
        return layout_of(self.shape)


def _is_float(one: Any) -> bool:
    return _DTYPES.get(one.type, np.dtype(np.float32)).kind == "f"  # NumPy has no bfloat16


def _fitted(array: npt.NDArray[Any], taken: Any) -> npt.NDArray[Any]:
    """The user's array in the type of the input, if that only rounds its values: NumPy's own type is float64."""
    shape = list(taken.shape)  # empty for an unknown rank too
    fixed = [isinstance(size, int) for size in shape]
    if shape and (
        len(shape) != array.ndim or any(f and a != b for f, a, b in zip(fixed, shape, array.shape, strict=True))
    ):
        wanted = ", ".join(str(size if size is not None else "?") for size in shape)
        raise OptionError(f"`data`: '{taken.name}' has the shape {list(array.shape)}, the model takes [{wanted}]")
    dtype = _DTYPES.get(taken.type)
    if dtype is None or dtype == array.dtype:
        return array
    with np.errstate(over="ignore"):
        cast = array.astype(dtype) if _kind(array.dtype) == _kind(dtype) else None
    same = cast is not None and (np.isfinite(cast) == np.isfinite(array) if dtype.kind == "f" else cast == array)
    if cast is None or not np.all(same):
        what = f"is {array.dtype}" if cast is None else f"has values that {dtype} has not"
        advice = SAVE_SO if array.dtype == np.uint8 and dtype.kind == "f" else "save it so"
        raise OptionError(f"`data`: '{taken.name}' {what}, the model takes {dtype}; {advice}")
    return cast


def _kind(dtype: np.dtype[Any]) -> str:
    return "i" if dtype.kind == "u" else dtype.kind


def _check_names(parameter: str, given: Mapping[str, object], described: Sequence[Any]) -> None:
    known = [one.name for one in described]
    for name in given:
        if name not in known:
            raise OptionError(f"`{parameter}`: the model has no input '{name}'; it has {', '.join(known) or 'none'}")


# --- Which inputs of a model become integers on their way: an index, a size, a number of steps ------------------------

_INTEGER_POSITIONS = frozenset(
    onnx.TensorProto.DataType.Value(f"{sign}INT{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)
)

#: What these give is within bounds, whatever they take: places in a tensor, its shape, true or false.
_BOUNDED = frozenset({"Shape", "Size", "ArgMax", "ArgMin", "NonZero", "NonMaxSuppression"}) | frozenset(
    {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsNaN", "IsInf", "Not", "And", "Or", "Xor"}
)


def becoming_integers(model: onnx.ModelProto) -> frozenset[str]:
    """The names of the graph inputs, of any type, from which a Cast to integers can be reached."""
    functions = functions_of(model)
    takers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in used_names(node):
            takers[name].append(node)
    return frozenset(value.name for value in model.graph.input if _reaches_cast(value.name, takers, functions))


_Functions = Mapping[FunctionKey, onnx.FunctionProto]


def _reaches_cast(name: str, takers: dict[str, list[onnx.NodeProto]], functions: _Functions) -> bool:
    seen, waiting = {name}, [name]
    while waiting:
        for node in takers.get(waiting.pop(), ()):
            if _casts([node], functions, set()):
                return True
            given = node.output[:1] if node.op_type == "TopK" else () if node.op_type in _BOUNDED else node.output
            waiting += (one for one in given if one not in seen)
            seen.update(given)
    return False


def _casts(nodes: Iterable[onnx.NodeProto], functions: _Functions, entered: set[FunctionKey]) -> bool:
    """Whether one of the nodes, or of those in their bodies and functions, casts to integers."""
    for node in nodes:
        if node.op_type == "Cast" and any(one.name == "to" and one.i in _INTEGER_POSITIONS for one in node.attribute):
            return True
        if any(_casts(graph.node, functions, entered) for graph in graphs_in(node)):
            return True
        key = called_by(node)
        if key in functions and key not in entered:
            entered.add(key)
            if _casts(functions[key].node, functions, entered):
                return True
    return False
