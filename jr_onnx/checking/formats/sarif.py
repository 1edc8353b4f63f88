"""SARIF 2.1.0 (OASIS), for code scanning: the file as artifact, the ONNX node in logicalLocations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jr_onnx.checking.findings import CheckReport, Finding
from jr_onnx.checking.formats.text import name_of
from jr_onnx.checking.rules import RULES, Rule
from jr_onnx.version import __version__

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
        "message": {"text": f"{one.node}: {one.message}" if one.node else one.message},
        "locations": [location] if location else [],
        "partialFingerprints": {"ruleAndNode/v1": f"{one.rule}:{one.node}:{one.message}"},
    }


def _uri(path: Path) -> str:
    """Relative where the path is, which code scanning takes from the root of the repository; else file://."""
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
