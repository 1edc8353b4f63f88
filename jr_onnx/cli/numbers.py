"""Numbers from the command line."""

from __future__ import annotations

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
