"""Numbers from the command line."""

from __future__ import annotations

from collections.abc import Sequence

from jr_onnx.errors import OptionError


def fraction(option: str, text: str) -> float:
    """The number that an option was given, as "8/255" too.

    Raises:
        OptionError: it is none.
    """
    above, slash, below = text.partition("/")
    divisor = number(option, below) if slash else 1.0
    if not divisor:
        raise OptionError(f"{option}: {text!r} divides by 0")
    return number(option, above) / divisor


def numbers(option: str, text: str) -> tuple[float, ...]:
    """The numbers that an option was given, between commas, each as `fraction` reads it.

    Raises:
        OptionError: one of them is none.
    """
    return tuple(fraction(option, word) for word in text.split(","))


def number(option: str, text: str) -> float:
    """The number that an option was given.

    Raises:
        OptionError: it is none.
    """
    try:
        return float(text)
    except ValueError as error:
        raise OptionError(f"{option}: {text!r} is not a number; give a finite number >= 0") from error


def counts(option: str, text: str) -> tuple[int, ...]:
    """The whole numbers of an option like "1,8", each once.

    Raises:
        OptionError: one is none, or is below 1.
    """
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise OptionError(f"{option} {text}: write it as 1,8")
    return tuple(dict.fromkeys(map(int, parts)))


def shapes(option: str, texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of inputs, by name, each written as "x=1,3,224,224".

    Raises:
        OptionError: one is written otherwise.
    """
    found = {}
    for text in texts:
        name, separator, dims = text.rpartition("=")
        try:
            found[name] = tuple(int(dim) for dim in dims.split(",") if dim)
        except ValueError as error:
            raise OptionError(f"{option} {text}: write it as x=1,3,224,224") from error
        if not separator or any(dim < 0 for dim in found[name]):
            raise OptionError(f"{option} {text}: write it as x=1,3,224,224")
    return found
