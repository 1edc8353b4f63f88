"""A hardened model as a server runs it: tensors by name in and out, and one clear line for what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

from jr_onnx.errors import RequestError
from jr_onnx.files.source import open_file
from jr_onnx.runtime.sessions import session
from jr_onnx.serving.layouts import EXECUTION, Provider
from jr_onnx.serving.signature import DATATYPES, FREE, Tensor, read_signature
from jr_onnx.text import one_line

Array = npt.NDArray[Any]

#: What onnxruntime raises where the tensors do not fit the model.
_REFUSALS = (onnxruntime_errors.Fail, onnxruntime_errors.InvalidArgument, onnxruntime_errors.RuntimeException)


class ServedModel:
    """A session and the signature that requests are checked against. `run` may be called by many threads at once."""

    def __init__(self, model: Path, library: Path | None, provider: Provider = "cpu") -> None:
        """Load a model.

        Args:
            model: the hardened model's file.
            library: the kernel library; None runs the function that the model carries.
            provider: which execution provider of onnxruntime serves.

        Raises:
            JrOnnxError: the model cannot be read, or the provider does not start. Errors of onnxruntime come through.
        """
        with open_file(model) as source:
            self.signature = read_signature(source.skeleton)
        self._session = session(model, providers=EXECUTION[provider], kernels=library is not None, library=library)
        self._inputs = {tensor.name: tensor for tensor in self.signature.inputs}
        self._outputs = {tensor.name: tensor for tensor in self.signature.outputs}

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] = ()) -> dict[str, Array]:
        """Run one request.

        Args:
            feeds: the input tensors by name.
            outputs: the names of those that are wanted; all where none is named.

        Raises:
            RequestError: a name, type, or shape does not fit, onnxruntime cannot run it, or the jump is lower than the
                model's own.
        """
        for names, known, kind in ((feeds, self._inputs, "input"), (outputs, self._outputs, "output")):
            for name in names:
                if name not in known:
                    raise RequestError(f"there is no {kind} '{name}'; the model has {_listed(known.values())}")
        for tensor in self._inputs.values():
            if tensor.name not in feeds and tensor.default is None:
                raise RequestError(
                    f"input '{tensor.name}' is missing; the model takes {_listed(self._inputs.values())}"
                )
        fitted = {name: _fitted(self._inputs[name], feeds[name]) for name in feeds}
        for name, array in fitted.items():
            _check_jump(self._inputs[name], array)
        wanted = list(outputs) or list(self._outputs)
        try:
            results = self._session.run(wanted, fitted)
        except _REFUSALS as error:  # sizes that do not fit together, an index out of range
            raise RequestError(f"the model cannot run this request: {one_line(error)[:500]}") from error
        return dict(zip(wanted, results, strict=True))


def by_name(tensors: Iterable[tuple[str, Array]]) -> dict[str, Array]:
    """The input tensors of a request, by name.

    Raises:
        RequestError: two have the same name.
    """
    feeds: dict[str, Array] = {}
    for name, array in tensors:
        if name in feeds:
            raise RequestError(f"input '{name}' is there twice; send it once")
        feeds[name] = array
    return feeds


def decoded(name: str, datatype: str, shape: Sequence[int], data: Iterable[Any]) -> Array:
    """A tensor from numbers, flat or nested, that came as JSON or were unpacked from a message.

    Raises:
        RequestError: they are not of that datatype, or not as many as the shape says.
    """
    where = f"input '{name}'"
    dtype = _DTYPES.get(datatype)
    if dtype is None:
        raise RequestError(f"{where} has the datatype {datatype}; there are {', '.join(_DTYPES)}")
    check_sizes(name, shape)
    try:
        items = list(data)
        # NumPy guesses well for floating-point numbers alone: of 0 and 2**64 - 1 it would make two float64.
        values = np.asarray(items, dtype=None if dtype.kind == "f" else object)
        if not (_types(items) <= _FLOATS if dtype.kind == "f" else _holds(values, dtype)):
            raise RequestError(f"{where} holds what is not {datatype}")
        with np.errstate(over="ignore"):  # what is too large for a floating-point type is infinite
            return values.astype(dtype).reshape(tuple(shape))
    except (ValueError, TypeError, OverflowError) as error:
        raise RequestError(f"{where} is not {datatype} of shape {list(shape)}: {error}") from error


def check_sizes(name: str, shape: Sequence[int]) -> None:
    """Refuse a shape with a negative size, which NumPy would fill in.

    Raises:
        RequestError: there is one.
    """
    if any(size < 0 for size in shape):
        raise RequestError(f"input '{name}' has the shape {list(shape)}; sizes are 0 or more")


#: What stands for a floating-point number: JSON has null for NaN, and integers.
_FLOATS = {float, int, type(None)}


def _types(items: list[Any]) -> set[type]:
    """The types of the items in lists, however deep."""
    found = set(map(type, items))
    if list not in found:
        return found
    return (found - {list}) | _types(list(chain.from_iterable(item for item in items if type(item) is list)))


def _holds(values: Array, dtype: np.dtype[Any]) -> bool:
    """Whether values that came as Python's are of a dtype, without being cut or changed in kind."""
    items = values.reshape(-1).tolist()
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return all(type(item) is int and limits.min <= item <= limits.max for item in items)
    return all(isinstance(item, bool if dtype.kind == "b" else (str, bytes)) for item in items)


def _dtype(element_type: int) -> np.dtype[Any]:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element_type))


#: The protocol's name of a datatype -> NumPy's.
_DTYPES: Mapping[str, np.dtype[Any]] = {name: _dtype(element_type) for element_type, name in DATATYPES.items()}


def _fitted(tensor: Tensor, array: Array) -> Array:
    """The tensor as onnxruntime takes it: text as str, and a scalar also from one element."""
    expected = _dtype(tensor.element_type)
    if array.dtype != expected:
        got = next((name for name, dtype in _DTYPES.items() if dtype == array.dtype), str(array.dtype))
        raise RequestError(f"input '{tensor.name}' is {got}; the model takes {tensor}")
    if not tensor.shape and array.shape == (1,):
        array = array.reshape(())
    fits = len(array.shape) == len(tensor.shape) and all(
        want in (FREE, size) for want, size in zip(tensor.shape, array.shape, strict=True)
    )
    if not fits:
        raise RequestError(f"input '{tensor.name}' has the shape {list(array.shape)}; the model takes {tensor}")
    return _texts(tensor.name, array) if array.dtype.kind == "O" else array


def _check_jump(tensor: Tensor, array: Array) -> None:
    """A client may raise the jump. A lower one, or NaN, would switch the defence off for what he sends."""
    if tensor.default is not None and not (np.isfinite(array).all() and (array >= tensor.default).all()):
        raise RequestError(f"input '{tensor.name}' is lower than {tensor.default!r}, the model's own, or not finite")


def _texts(name: str, array: Array) -> Array:
    try:
        texts = [item.decode() if isinstance(item, bytes) else item for item in array.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise RequestError(f"input '{name}' is not UTF-8 text: {error}") from error
    if not all(isinstance(text, str) for text in texts):
        raise RequestError(f"input '{name}' holds what is not text")
    return np.array(texts, object).reshape(array.shape)


def _listed(tensors: Iterable[Tensor]) -> str:
    return ", ".join(map(str, tensors))
