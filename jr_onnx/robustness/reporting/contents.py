"""What a report shows, whatever it is about: the page and the plots draw these and know nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from jr_onnx.robustness.statistics import Interval

#: How a verdict is coloured: something was gained, nothing was, or there is something to beware of.
Tone = Literal["good", "neutral", "bad"]


@dataclass(frozen=True)
class Series:
    """Shares that belong together.

    Attributes:
        name: what they are of.
        color: an index into the palette.
        shares: one for each place of the chart; None where nothing was measured.
        hollow: for what is less than the whole truth.
    """

    name: str
    color: int
    shares: tuple[Interval | None, ...]
    hollow: bool = False


@dataclass(frozen=True)
class Chart:
    """Shares with their intervals at places side by side. Between these nothing was measured, and nothing is drawn.

    Attributes:
        name: for a file: lower case, with hyphens.
        title: for people.
        x: what the places are.
        places: a label for each.
        series: what was measured there.
        mark: the index of a place that is pointed out, and why; None for none.
        note: how to read it.
    """

    name: str
    title: str
    x: str
    places: tuple[str, ...]
    series: tuple[Series, ...]
    mark: tuple[int, str] | None = None
    note: str = ""


@dataclass(frozen=True)
class Bars:
    """A share for each of many things: (label, share, a word on it)."""

    name: str
    title: str
    rows: tuple[tuple[str, float, str], ...]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column is left-aligned."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """An image with what is to be read below it.

    Attributes:
        title: what it is.
        lines: what the models say to it.
        pixels: uint8 [H, W, 1 or 3].
    """

    title: str
    lines: tuple[str, ...]
    pixels: npt.NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True)
class Contents:
    """A whole report.

    Attributes:
        title: of the page.
        words: the verdict in a word or two.
        tone: of the verdict.
        headline: the verdict in one sentence.
        evidence: sentences with the numbers that it rests on.
        facts: what was run on what: (name, value).
        charts, bars, tables: in order.
        gallery: a row of pictures for each sample, with its heading.
        command: that made this report.
        caution: what the numbers do not say.
    """

    title: str
    words: str
    tone: Tone
    headline: str
    evidence: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    charts: tuple[Chart, ...] = ()
    bars: tuple[Bars, ...] = ()
    tables: tuple[Table, ...] = ()
    gallery: tuple[tuple[str, tuple[Picture, ...]], ...] = ()
    command: str = ""
    caution: str = ""
