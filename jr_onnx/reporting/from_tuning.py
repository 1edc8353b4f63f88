"""What the report of a tuning shows."""

from __future__ import annotations

from jr_onnx.reporting.contents import Bars, Chart, Contents, Line, Point, Table, Tone
from jr_onnx.reporting.from_evaluation import CAUTION, tone
from jr_onnx.statistics import Interval
from jr_onnx.text import count, eps_text, jump_text
from jr_onnx.tuning.report import Candidate, TuningReport


def contents(report: TuningReport, command: str = "") -> Contents:
    """The report: the trade-off first."""
    verdict = report.confirmation.verdict if report.confirmation is not None else None
    shown = report.chosen or max(report.candidates, key=lambda one: (one.within_budget, one.zeroed_share))
    colour: Tone = tone(verdict) if verdict is not None else "neutral"
    return Contents(
        title=f"The jump of {report.source or 'a model in memory'}",
        words=_words(report),
        tone=colour if report.chosen is not None else "neutral",
        headline=f"{report.sentence[0].upper()}{report.sentence[1:]}.",
        evidence=verdict.evidence if verdict is not None else (),
        facts=_facts(report),
        charts=(_trade_off(report),),
        bars=(
            Bars(
                "activations-zeroed",
                f"Positive activations made zero at jump {shown.choice.label}",
                tuple((site.path, site.share, f"jump {jump_text(site.jump, 'float')}") for site in shown.zeroed),
                "On clean samples.",
            ),
        ),
        tables=(_table(report),),
        command=command,
        caution=CAUTION
        if report.objective == "adaptive"
        else "No attack was run: nothing here says that the model is any more robust than it was.",
    )


def _words(report: TuningReport) -> str:
    if report.chosen is not None:
        return f"JUMP {report.chosen.choice.label}"
    verdict = report.confirmation.verdict if report.confirmation is not None else None
    gained = verdict is not None and verdict.gain == "GAIN"  # but at a price over the budget
    return "NO GAIN" if report.objective == "adaptive" and not gained else "NO JUMP"


def _facts(report: TuningReport) -> tuple[tuple[str, str], ...]:
    facts = [
        ("model", str(report.source or "in memory")),
        ("data", f"{report.data}: {report.tuned_on} samples chose, {report.tested_on} others confirmed"),
        ("labels", "given" if report.labels else "the original's answers"),
        ("objective", report.objective),
        ("budget", f"a drop of {report.max_drop:g} points in clean accuracy"),
    ]
    if report.eps is not None:
        facts += [
            ("eps", eps_text(report.eps)),
            ("attacks", ", ".join(report.attacks)),
            ("attacked", f"at most {count(report.attacked, 'sample')} of each part"),
        ]
    return (*facts, *(("note", note) for note in report.notes), ("seed", str(report.seed)))


def _trade_off(report: TuningReport) -> Chart:
    """Against the jump, where all sites have the same; else against the quantile that it comes from."""
    candidates = report.candidates
    one_jump = all(candidate.choice.jump is not None for candidate in candidates)
    ordered = sorted(candidates, key=lambda one: _x(one, one_jump))
    attacked = [one for one in ordered if one.adaptive is not None]
    lines = [Line("clean", tuple(_point(one, one_jump, one.clean) for one in ordered))]
    if attacked:
        under = f"eps {eps_text(report.eps or 0)}"
        true = ((one, one.true_gradient) for one in attacked)
        worst = ((one, one.adaptive) for one in attacked)
        for name, pairs, dashed in ((f"true gradient, {under}", true, True), (f"worst case, {under}", worst, False)):
            points = tuple(_point(one, one_jump, share) for one, share in pairs if share is not None)
            lines.append(Line(name, points, dashed))
    mark = None if report.chosen is None else (_x(report.chosen, one_jump), "chosen")
    return Chart(
        "trade-off",
        "What the jump costs, and what it buys",
        "jump" if one_jump else "quantile of the positive activations that is made zero",
        tuple(lines),
        (0, 1, 2)[: len(lines)],
        mark,
        "Bands are 95% intervals. A worst case that does not rise with the jump means that nothing is bought. "
        "Candidates over the budget were not attacked.",
    )


def _x(candidate: Candidate, one_jump: bool) -> float:
    choice = candidate.choice
    return float((choice.jump if one_jump else choice.quantile) or 0.0)


def _point(candidate: Candidate, one_jump: bool, share: Interval) -> Point:
    return Point(_x(candidate, one_jump), share.estimate, share.low, share.high)


def _table(report: TuningReport) -> Table:
    header = ("jump", "clean", "drop", "zeroed", "true gradient", "worst case", "")
    rows = []
    for one in report.candidates:
        mark = "chosen" if one is report.chosen else "" if one.within_budget else "over budget"
        drop = f"{100 * one.drop.estimate:+.2f} points"
        shares = (_share(one.true_gradient), _share(one.adaptive))
        rows.append((one.choice.label, _share(one.clean), drop, f"{one.zeroed_share:.1%}", *shares, mark))
    return Table("All candidates", header, tuple(rows), "With 95% intervals; on the samples that chose.")


def _share(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{interval.estimate:.1%} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
