"""One report, written for people and for machines; each format is one function from the report to text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

from jr_onnx.checking.findings import CheckReport
from jr_onnx.checking.formats.github import to_github
from jr_onnx.checking.formats.json_report import to_json
from jr_onnx.checking.formats.junit import to_junit
from jr_onnx.checking.formats.sarif import to_sarif
from jr_onnx.checking.formats.text import to_text

Format = Literal["text", "json", "junit", "sarif", "github"]
FORMATS: tuple[Format, ...] = get_args(Format)

#: Several reports, one for each hardened model, in one text.
WRITERS: Mapping[Format, Callable[[tuple[CheckReport, ...]], str]] = {
    "text": to_text,
    "json": to_json,
    "junit": to_junit,
    "sarif": to_sarif,
    "github": to_github,
}
