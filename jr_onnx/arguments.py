"""Arguments of the Python interface that are easily given as something else: one clear error each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.errors import OptionError


def as_list(name: str, given: object) -> tuple[Any, ...]:
    """What an argument holds that takes several values. A string would be taken apart into its characters.

    Raises:
        OptionError: it is one value.
    """
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise OptionError(f"{name}: {given!r} is one value, and a list of them is needed: {name}=[{given!r}]")
    return tuple(given)


def as_lists(name: str, given: object) -> dict[str, tuple[Any, ...]]:
    """What an argument holds that takes several values for each name.

    Raises:
        OptionError: it has no names, or one value for one of them.
    """
    if not isinstance(given, Mapping):
        raise OptionError(f"{name}: {given!r} has no names; give {name}={{'NAME': [...]}}")
    return {key: as_list(f"{name}[{key!r}]", value) for key, value in given.items()}


def as_arrays(name: str, given: object) -> dict[str, npt.NDArray[Any]]:
    """What an argument holds that takes an array for each name; nothing where it is None.

    Raises:
        OptionError: it has no names: a bare array, for example.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise OptionError(f"{name}: {type(given).__name__} has no names; give {name}={{'NAME': array}}, or an NPZ file")
    return {key: np.asarray(value) for key, value in given.items()}


def as_name(name: str, given: object) -> str | None:
    """A name, or None where none is wanted.

    Raises:
        OptionError: it is something else, such as True.
    """
    if given is not None and not isinstance(given, str):
        raise OptionError(f"{name}: {given!r} is no name; give one as a string")
    return given
