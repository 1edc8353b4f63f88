"""Text for people: tables, numbers, sizes."""

from __future__ import annotations

from collections.abc import Iterable

#: As many as tell any two float apart.
_DIGITS = 9


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Lines with aligned columns. Never cut or wrapped, so that a pipe gets whole names."""
    lines = [header, *(tuple(map(printable, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def printable(text: str) -> str:
    """One line that shows what a terminal would obey: names come from models, and may hold control characters."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def one_line(error: Exception) -> str:
    """What an error of another library says, which may be long and of many lines, in one."""
    return " ".join(str(error).split())


def count(number: int, noun: str) -> str:
    """ "1 file", "2 files"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def points_text(points: float) -> str:
    """ "1 point", "0.5 points": of percentages."""
    return f"{points:g} point" if points == 1 else f"{points:g} points"


def eps_text(eps: float) -> str:
    """A short decimal, or "8/255" where it is that many levels of an 8-bit image."""
    levels = round(eps * 255)
    return f"{levels}/255" if float(f"{eps:.3g}") != eps and levels / 255 == eps else f"{eps:.4g}"


def bytes_text(size: int) -> str:
    """A size in decimal units."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
