"""A report as one HTML page that needs no network: the data as JSON in the page, drawn by its own script."""

from __future__ import annotations

import base64
import html
import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jr_onnx.modelfile.atomic import atomic_file
from jr_onnx.reporting.contents import Contents, Picture
from jr_onnx.version import __version__

if TYPE_CHECKING:
    from jr_onnx.evaluation.results import EvaluationReport
    from jr_onnx.tuning.report import TuningReport


def write_evaluation(report: EvaluationReport, path: Path, command: str = "") -> None:
    """Write the page of an evaluation.

    Raises:
        OutputError: the file cannot be written.
    """
    from jr_onnx.reporting.from_evaluation import contents

    _write(contents(report, command), path)


def write_tuning(report: TuningReport, path: Path, command: str = "") -> None:
    """Write the page of a tuning.

    Raises:
        OutputError: the file cannot be written.
    """
    from jr_onnx.reporting.from_tuning import contents

    _write(contents(report, command), path)


def _write(contents: Contents, path: Path) -> None:
    with atomic_file(path) as file:
        file.write(to_html(contents).encode("utf-8", "replace"))


def to_html(contents: Contents) -> str:
    """The page."""
    # Names in a model are any text: "<" must not end the script element that holds the data.
    text = json.dumps(_data(contents), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    template = resources.files("jr_onnx.reporting").joinpath("page.html").read_text(encoding="utf-8")
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
