"""JUnit XML: a test suite a model, a test case a rule; findings are failures, and what did not run is skipped.

There is no standard; this is what Jenkins, GitLab and the GitHub actions for test reports read:
testsuites/testsuite/testcase with failure or skipped.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from jr_onnx.checking.findings import CheckReport
from jr_onnx.checking.formats.text import measurement_text, name_of
from jr_onnx.checking.rules import RULES

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
            text = "\n".join(f"{one.node}: {one.message}" if one.node else one.message for one in found)
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
