"""The charts of a report as PNG and SVG files, for papers and slides. matplotlib is imported when it is needed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jr_onnx.errors import OutputError, RuntimeMissingError
from jr_onnx.modelfile.atomic import atomic_file
from jr_onnx.reporting.contents import Bars, Chart, Contents

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    for line, color in zip(chart.lines, chart.colors, strict=True):
        xs = [point.x for point in line.points]
        style: dict[str, Any] = {"color": _COLORS[color % len(_COLORS)]}
        axes.plot(
            xs,
            [100 * point.y for point in line.points],
            marker="o",
            markersize=4,
            linestyle="--" if line.dashed else "-",
            label=line.name,
            **style,
        )
        low, high = ([100 * getattr(point, key) for point in line.points] for key in ("low", "high"))
        axes.fill_between(xs, low, high, alpha=0.12, linewidth=0, **style)
    if chart.mark is not None:
        axes.axvline(chart.mark[0], color="#98a2b3", linestyle=":", label=chart.mark[1])
    axes.set(title=chart.title, xlabel=chart.x, ylabel="%", ylim=(-2, 102))
    axes.grid(color="#e9ecf0")
    axes.legend(fontsize="small")


def _draw_bars(figure: Figure, bars: Bars) -> None:
    axes = figure.add_subplot()
    names = [name for name, _, _ in bars.rows]
    axes.barh(range(len(names)), [100 * share for _, share, _ in bars.rows], color=_COLORS[2])
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.invert_yaxis()
    axes.set(title=bars.title, xlabel="%")
