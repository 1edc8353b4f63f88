"""Workflow commands: GitHub shows them as annotations on the file.

Source: GitHub, "Workflow commands for GitHub Actions": data escape % and line ends, properties also : and comma. Names
come from models: what a log would obey, or show in another order than it stands, is shown as an escape instead.
"""

from __future__ import annotations

from jr_onnx.checking.findings import CheckReport, Finding
from jr_onnx.checking.formats.text import name_of, verdict
from jr_onnx.text import printable


def to_github(reports: tuple[CheckReport, ...]) -> str:
    """One command a finding, and a notice for each model."""
    lines = []
    for report in reports:
        lines += [_command(one, report) for one in report.findings]
        name = name_of(report)
        lines += [f"::notice title=jr-onnx check::{_data(f'{name}: {note}')}" for note in report.notes]
        lines.append(f"::notice title=jr-onnx check::{_data(f'{name}: {verdict(report)}')}")
    return "\n".join(lines)


def _command(one: Finding, report: CheckReport) -> str:
    file = f"file={_property(str(report.hardened))}," if report.hardened is not None else ""
    title = _property(f"{one.rule} {one.about.name}")
    where = f"{one.node}: " if one.node else ""
    return f"::{one.severity} {file}title={title}::{_data(f'{where}{one.message} ({one.about.fix})')}"


def _data(text: str) -> str:
    return printable(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
