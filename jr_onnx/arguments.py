"""Arguments of the Python interface that are easily given as something else: one clear error each.

Each `as_...` returns the argument of that name as what it has to be, and raises OptionError where it is something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import onnx

from jr_onnx.errors import OptionError


def unfit(name: str, given: object, wanted: str) -> OptionError:
    """The error of an argument of another type than what is wanted."""
    return OptionError(f"`{name}`: {wanted} is needed, and this is of type {type(given).__name__}")


def as_list(name: str, given: object) -> tuple[Any, ...]:
    """Several values. A string would be taken apart into its characters."""
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise OptionError(f"`{name}`: {given!r} is one value, and a list of them is needed: {name}=[{given!r}]")
    return tuple(given)


def as_names(name: str, given: object) -> tuple[str, ...]:
    """Several strings."""
    return tuple(as_text(name, one) for one in as_list(name, given))


def as_text(name: str, given: object) -> str:
    """A string."""
    if not isinstance(given, str):
        raise unfit(name, given, "a string")
    return given


def as_lists(name: str, given: object) -> dict[str, tuple[Any, ...]]:
    """Several values for each name."""
    if not isinstance(given, Mapping):
        raise OptionError(f"`{name}`: {given!r} has no names; give {name}={{'NAME': [...]}}")
    return {key: as_list(f"{name}[{key!r}]", value) for key, value in given.items()}


def as_name(name: str, given: object) -> str | None:
    """A name, or None where none is wanted."""
    if given is not None and not isinstance(given, str):
        raise OptionError(f"`{name}`: {given!r} is not a name; give one as a string")
    return given


def as_path(name: str, given: object) -> Path:
    """The name of a file."""
    if not isinstance(given, str | PathLike):
        raise unfit(name, given, "the name of a file (a string or a pathlib.Path)")
    return Path(given)


def as_model(name: str, given: object) -> Path | onnx.ModelProto:
    """A model, or the name of its file."""
    if isinstance(given, onnx.ModelProto):
        return given
    if not isinstance(given, str | PathLike):
        raise unfit(name, given, "an onnx.ModelProto or the name of a file")
    return Path(given)


def as_integer(name: str, given: object) -> int:
    """An integer, NumPy's too, but no bool."""
    if not isinstance(given, Integral) or isinstance(given, bool):
        raise unfit(name, given, "an integer")
    return int(given)


def as_number(name: str, given: object) -> float:
    """A number, NumPy's too, but no bool."""
    if not isinstance(given, Real) or isinstance(given, bool):
        raise unfit(name, given, "a number")
    return float(given)
