"""One report, written for people and for machines; each format is one function from the report to text."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote

from jr_onnx.checking.report import CheckReport, Finding, Measurement
from jr_onnx.checking.rules import RULES, Rule
from jr_onnx.text import count, printable, table
from jr_onnx.version import __version__

#: How many findings of one rule are listed; --format json lists all.
_LISTED = 8


def to_text(reports: tuple[CheckReport, ...]) -> str:
    """All reports, one after the other."""
    return "\n\n".join(map(_one, reports))


def name_of(report: CheckReport) -> str:
    """How a report calls its model."""
    return str(report.hardened) if report.hardened is not None else "the model"


def _one(report: CheckReport) -> str:
    against = f" against {report.original}" if report.original is not None else ""
    lines = [f"{verdict(report)}: {name_of(report)}{against} ({report.seconds:.2f} s)"]
    if report.target or report.sites:
        lines.append(f"{count(len(report.sites), 'site')}, target {report.target or 'unknown'}, jump {report.jump}")
    lines += _findings(report)
    lines += [f"note: {text}" for text in report.notes]
    lines += [f"measured: {measurement_text(one)}" for one in report.measurements]
    lines += [f"checked: {what}" for what in (*report.checked, *_sites(report))]
    lines += [f"not checked: {one.what}: {one.why}" for one in report.not_checked]
    return "\n".join(map(printable, lines))


def verdict(report: CheckReport) -> str:
    """ "clean", or how many findings."""
    if not report.findings:
        return "clean"
    return f"{count(report.errors, 'error')}, {count(report.warnings, 'warning')}"


def measurement_text(one: Measurement) -> str:
    """A number with its unit."""
    return f"{one.name}: {one.value:.4g}{f' {one.unit}' if one.unit else ''}"


def _findings(report: CheckReport) -> list[str]:
    by_rule: dict[str, list[Finding]] = {}
    for one in report.findings:
        by_rule.setdefault(one.rule, []).append(one)
    listed = [one for group in by_rule.values() for one in group[:_LISTED]]
    rows = [(one.severity, one.rule, one.about.name, one.text) for one in listed]
    hidden = {rule: len(group) - _LISTED for rule, group in by_rule.items()}
    more = [f"{rule}: {number} more (--format json lists all)" for rule, number in hidden.items() if number > 0]
    fixes = [f"fix {rule}: {RULES[rule].fix}" for rule in by_rule]
    return [*(table(rows[0], rows[1:]) if rows else ()), *more, *fixes]


def _sites(report: CheckReport) -> list[str]:
    ways: dict[str, list[int]] = {}
    for site in report.sites:
        if site.how:
            ways.setdefault(site.how, []).append(site.values)
    return [
        f"{count(len(values), 'site')} {how}: {sum(values)} values compared, bit for bit"
        for how, values in ways.items()
    ]


# --- Workflow commands: GitHub shows them as annotations on the file --------------------------------------------------


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
    return f"::{one.severity} {file}title={title}::{_data(f'{one.text} ({one.about.fix})')}"


def _data(text: str) -> str:
    return printable(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# --- For programs; the schema is docs/check-report.schema.json --------------------------------------------------------

#: Goes up when a field changes its meaning or goes; new fields do not count.
SCHEMA_VERSION = 1


def to_json(reports: tuple[CheckReport, ...]) -> str:
    """One object: the tool, and a report for each model."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "jr-onnx", "version": __version__},
        "reports": [{**report.to_dict(), "clean": not report.findings} for report in reports],
    }
    return json.dumps(document, indent=2)


# --- JUnit XML: a test suite a model, a test case a rule; findings are failures, and what did not run is skipped ------

#: What XML 1.0 cannot hold; node names are any bytes.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(reports: tuple[CheckReport, ...]) -> str:
    """All reports as one document."""
    suites = ET.Element("testsuites", name="jr-onnx check")
    for report in reports:
        suites.append(_suite(report))
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True)


def _suite(report: CheckReport) -> ET.Element:
    failing = {one.rule for one in report.findings}
    skipped = {
        rule: f"{one.what}: {one.why}" for one in report.not_checked for rule in one.rules if rule not in failing
    }
    suite = ET.Element(
        "testsuite",
        name=_clean(name_of(report)),
        tests=str(len(RULES)),
        failures=str(len(failing)),
        errors="0",
        skipped=str(len(skipped)),
        time=f"{report.seconds:.3f}",
    )
    for rule in RULES.values():
        case = ET.SubElement(suite, "testcase", classname="jr-onnx check", name=f"{rule.id} {rule.name}", time="0")
        found = [one for one in report.findings if one.rule == rule.id]
        if found:
            text = "\n".join(one.text for one in found)
            failure = ET.SubElement(case, "failure", message=_clean(text.splitlines()[0]), type=found[0].severity)
            failure.text = _clean(f"{text}\n\n{rule.means}\nfix: {rule.fix}")
        elif rule.id in skipped:
            ET.SubElement(case, "skipped", message=_clean(skipped[rule.id]))
    notes = [f"note: {note}" for note in report.notes]
    notes += [f"measured: {measurement_text(one)}" for one in report.measurements]
    notes += [f"not checked: {one.what}: {one.why}" for one in report.not_checked]
    ET.SubElement(suite, "system-out").text = _clean("\n".join(notes))
    return suite


def _clean(text: str) -> str:
    return _ILLEGAL.sub("?", text)


# --- SARIF 2.1.0 (OASIS), for code scanning: the file as artifact, the ONNX node in logicalLocations ------------------

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def to_sarif(reports: tuple[CheckReport, ...]) -> str:
    """All reports as one run."""
    driver = {
        "name": "jr-onnx",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(rule) for rule in RULES.values()],
    }
    notes = [
        {"level": "note", "message": {"text": f"{name_of(report)}: {note}"}}
        for report in reports
        for note in report.notes
    ]
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
        "results": [_result(one, report) for report in reports for one in report.findings],
        "columnKind": "utf16CodeUnits",
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": rule.means},
        "fullDescription": {"text": f"{rule.means} {rule.why}"},
        "help": {"text": rule.fix},
        "defaultConfiguration": {"level": rule.severity},
    }


def _result(one: Finding, report: CheckReport) -> dict[str, Any]:
    location: dict[str, Any] = {}
    if report.hardened is not None:
        # A model has no lines; code scanning shows no result without a region.
        location["physicalLocation"] = {
            "artifactLocation": {"uri": _uri(report.hardened)},
            "region": {"startLine": 1},
        }
    if one.node:
        name = one.node.rpartition("/")[2]
        location["logicalLocations"] = [{"name": name, "fullyQualifiedName": one.node, "kind": "element"}]
    return {
        "ruleId": one.rule,
        "ruleIndex": list(RULES).index(one.rule),
        "level": one.severity,
        "message": {"text": one.text},
        "locations": [location] if location else [],
        "partialFingerprints": {"ruleAndNode/v1": f"{one.rule}:{one.node}:{one.message}"},
    }


def _uri(path: Path) -> str:
    """Relative where the path is, which code scanning takes from the root of the repository; else file://."""
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


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
