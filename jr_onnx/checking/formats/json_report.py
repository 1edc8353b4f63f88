"""For programs; the schema is docs/check-report.schema.json."""

from __future__ import annotations

import json

from jr_onnx.checking.findings import CheckReport
from jr_onnx.version import __version__

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
