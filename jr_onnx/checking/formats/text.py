"""For people: what was found, what was looked at, what was not."""

from __future__ import annotations

from jr_onnx.checking.findings import CheckReport, Measurement
from jr_onnx.text import count, printable, table

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
    lines = [f"{name_of(report)}{against}"]
    if report.target or report.sites:
        lines.append(f"{count(len(report.sites), 'site')}, target {report.target or 'unknown'}, jump {report.jump}")
    lines += _findings(report)
    lines += [f"note: {text}" for text in report.notes]
    lines += [f"measured: {measurement_text(one)}" for one in report.measurements]
    lines += [f"checked: {what}" for what in (*report.checked, *_sites(report))]
    lines += [f"not checked: {one.what}: {one.why}" for one in report.not_checked]
    lines.append(f"{verdict(report)} ({report.seconds:.2f} s)")
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
    by_rule: dict[str, int] = {}
    rows: list[tuple[str, ...]] = []
    hidden: list[str] = []
    fixes: dict[str, None] = {}
    for one in report.findings:
        by_rule[one.rule] = by_rule.get(one.rule, 0) + 1
        if by_rule[one.rule] <= _LISTED:
            where = f"{one.node}: " if one.node else ""
            rows.append((one.severity, one.rule, one.about.name, f"{where}{one.message}"))
            fixes[f"fix {one.rule}: {one.about.fix}"] = None
    for rule, number in by_rule.items():
        if number > _LISTED:
            hidden.append(f"{rule}: {number - _LISTED} more (--format json lists all)")
    listed = table(rows[0], rows[1:]) if rows else []
    return [*listed, *hidden, *fixes]


def _sites(report: CheckReport) -> list[str]:
    ways: dict[str, list[int]] = {}
    for site in report.sites:
        if site.how:
            ways.setdefault(site.how, []).append(site.values)
    return [
        f"{count(len(values), 'site')} {how}: {sum(values)} values compared, bit for bit"
        for how, values in ways.items()
    ]
