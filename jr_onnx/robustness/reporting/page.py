"""A report as one HTML page that needs no network, and its charts as PNG and SVG files."""

from __future__ import annotations

import base64
import html
import io
import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jr_onnx.errors import OutputError, RuntimeMissingError
from jr_onnx.files.atomic import atomic_file
from jr_onnx.robustness.reporting.contents import Bars, Chart, Contents, Picture
from jr_onnx.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_page(contents: Contents, path: Path) -> None:
    """Write the page.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_file(path) as file:
        file.write(to_html(contents).encode("utf-8", "replace"))


def to_html(contents: Contents) -> str:
    """The page."""
    # Names in a model are any text: "<" must not end the script element that holds the data.
    text = json.dumps(_data(contents), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    template = resources.files("jr_onnx.robustness.reporting").joinpath("page.html").read_text(encoding="utf-8")
    for place, value in (("@TITLE@", contents.title), ("@HEADLINE@", f"{contents.words}. {contents.headline}")):
        template = template.replace(place, html.escape(value).replace("@DATA@", "@ DATA@"))
    # The data last: nothing in them is taken for a placeholder.
    return template.replace("@DATA@", text)


def _data(contents: Contents) -> dict[str, Any]:
    plain = {name: value for name, value in vars(contents).items() if name not in ("charts", "bars", "tables")}
    plain["gallery"] = [
        {"title": title, "pictures": [_picture(picture) for picture in row]} for title, row in contents.gallery
    ]
    for name in ("charts", "bars", "tables"):
        plain[name] = [asdict(one) for one in getattr(contents, name)]
    return {**plain, "version": __version__}


def _picture(picture: Picture) -> dict[str, Any]:
    height, width, channels = picture.pixels.shape
    return {
        "title": picture.title,
        "lines": picture.lines,
        "size": [height, width, channels],
        "pixels": base64.b64encode(picture.pixels.tobytes()).decode("ascii"),
    }


# --- The charts of a report as PNG and SVG files, for papers and slides. matplotlib is imported when it is needed -----

FORMATS = ("png", "svg")

#: The page's palette, in its light form.
_COLORS = ("#475467", "#175cd3", "#c4320a", "#067647")


def write_plots(contents: Contents, folder: Path) -> tuple[Path, ...]:
    """Write every chart and every set of bars in each format; the files, in order.

    Raises:
        RuntimeMissingError: matplotlib is not installed.
        OutputError: the folder cannot be made, or a file not be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RuntimeMissingError("matplotlib is not installed; pip install matplotlib") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror or error}") from error
    written = []
    # Text stays text in an SVG file, and the same numbers give the same file.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "jr-onnx"}):
        shown: tuple[Chart | Bars, ...] = (*contents.charts, *contents.bars)
        for one in shown:
            figure = Figure(figsize=(6.4, 4.0), layout="constrained")
            _draw_chart(figure, one) if isinstance(one, Chart) else _draw_bars(figure, one)
            for suffix in FORMATS:
                path = folder / f"{one.name}.{suffix}"
                with atomic_file(path) as file:
                    file.write(_encoded(figure, suffix))
                written.append(path)
    return tuple(written)


def _encoded(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if suffix == "svg" else {}
    figure.savefig(buffer, format=suffix, dpi=200, metadata=metadata)
    return buffer.getvalue()


def _draw_chart(figure: Figure, chart: Chart) -> None:
    axes = figure.add_subplot()
    for number, series in enumerate(chart.series):
        beside = 0.12 * (number - (len(chart.series) - 1) / 2)
        found = [(at + beside, share) for at, share in enumerate(series.shares) if share is not None]
        axes.errorbar(
            [at for at, _ in found],
            [100 * share.estimate for _, share in found],
            [
                [100 * (share.estimate - share.low) for _, share in found],
                [100 * (share.high - share.estimate) for _, share in found],
            ],
            fmt="o",
            color=_COLORS[series.color],
            markerfacecolor="white" if series.hollow else _COLORS[series.color],
            label=series.name,
        )
    if chart.mark is not None:
        axes.axvspan(chart.mark[0] - 0.5, chart.mark[0] + 0.5, color="#e9ecf0", label=chart.mark[1])
    crowded: dict[str, Any] = {"rotation": 30, "ha": "right"} if len(chart.places) > 6 else {}
    axes.set_xticks(range(len(chart.places)), chart.places, fontsize="small", **crowded)
    axes.set(title=chart.title, xlabel=chart.x, ylabel="%", ylim=(-2, 102))
    axes.grid(color="#e9ecf0", axis="y")
    axes.legend(fontsize="small")


def _draw_bars(figure: Figure, bars: Bars) -> None:
    axes = figure.add_subplot()
    names = [name for name, _, _ in bars.rows]
    axes.barh(range(len(names)), [100 * share for _, share, _ in bars.rows], color=_COLORS[2])
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.invert_yaxis()
    axes.set(title=bars.title, xlabel="%")
