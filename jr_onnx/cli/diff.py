"""`jr-onnx diff`: what differs between two models, for people."""

from __future__ import annotations

import argparse
from pathlib import Path

from jr_onnx.checking.diff import DiffReport, OtherChange, diff
from jr_onnx.cli.outputs import check_output, print_report
from jr_onnx.files.atomic import atomic_file
from jr_onnx.text import count, printable, table

#: How many rows of each table are shown; --json and --html have all.
_LISTED = 40

HELP = "show what differs between two models"
DESCRIPTION = (
    "Show what differs between two models: the sites that changed with their jumps, and everything "
    "else but the bytes of the weights, which `jr-onnx check` compares. Exit code: 0 whether they differ or not."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("original", metavar="ORIGINAL", type=Path, help="the first model")
    parser.add_argument("hardened", metavar="HARDENED", type=Path, help="the second model")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page: the graph around each changed site")


def run(arguments: argparse.Namespace) -> int:
    """Compare, write the page if it is asked for, and print."""
    check_output(arguments.html, "--html", (arguments.original, arguments.hardened))
    report = diff(arguments.original, arguments.hardened)
    print_report(arguments, report, _text)
    if arguments.html is not None:
        from jr_onnx.checking.diff import to_html

        with atomic_file(arguments.html) as file:
            file.write(to_html(report).encode("utf-8", "replace"))
        if not (arguments.json or arguments.quiet):
            print(printable(f"wrote {arguments.html}"))
    return 0


def _text(report: DiffReport) -> str:
    lines = []
    if report.sites:
        rows = [
            (site.path, site.element_type, site.before, site.jump_before or "-", site.after, site.jump_after or "-")
            for site in report.sites[:_LISTED]
        ]
        lines += table(("site", "type", "was", "jump", "is now", "jump"), rows)
        lines += _more(len(report.sites))
    if report.others:
        lines += ["", *table(("also changed", "", "was", "is now"), [_row(one) for one in report.others[:_LISTED]])]
        lines += _more(len(report.others))
    same = f"; {count(report.sites_unchanged, 'site')} did not" if report.sites_unchanged else ""
    changed, others = count(len(report.sites), "site"), count(len(report.others), "other difference")
    summary = f"{changed} changed{same}; {others} (weights over 4 KiB are not compared: jr-onnx check does that)"
    return "\n".join([*lines, summary])


def _more(number: int) -> list[str]:
    return [f"... {number - _LISTED} more (--json and --html have all)"] if number > _LISTED else []


def _row(one: OtherChange) -> tuple[str, str, str, str]:
    subject = f"{one.node}: {one.subject}" if one.node else one.subject
    before, after = ("nothing" if text is None else text or "(differs)" for text in (one.before, one.after))
    if one.before is None or one.after is None:
        before, after = ("-" if text is None else text or "there" for text in (one.before, one.after))
    return one.kind, subject, before[:60], after[:60]
