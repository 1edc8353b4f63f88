"""`jr-onnx evaluate`: what a hardened model withstands, against its original, and whether that is real."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jr_onnx.cli.arguments import (
    EPS,
    add_data_arguments,
    add_max_drop_argument,
    add_report_arguments,
    add_scale_arguments,
    add_seldom_group,
    check_plots,
    command_line,
    drawn,
    number,
    numbers,
    read_data,
    run_for_hours,
)
from jr_onnx.cli.outputs import check_output, print_report
from jr_onnx.robustness.attacks.target import ATTACKS, Effort
from jr_onnx.robustness.dataset import read_classifier
from jr_onnx.robustness.evaluation.campaign import DEFAULT_ATTACKS
from jr_onnx.robustness.evaluation.evaluate import evaluate
from jr_onnx.robustness.evaluation.report import EvaluationReport
from jr_onnx.robustness.reporting.from_reports import evaluation_contents
from jr_onnx.robustness.reporting.page import write_page, write_plots
from jr_onnx.text import eps_text, printable, table

#: What `--attacks` takes in place of names.
_ALL = "all"

#: What the bar calls the work.
_STAGE = "attack"

HELP = "attack a hardened model and its original, and say whether the jump bought anything"
DESCRIPTION = (
    "Attack ORIGINAL and HARDENED at equal effort, with attacks that follow the gradient and attacks "
    "that adapt to JumpReLU, and say whether what the jump seems to buy is real. Every success is confirmed by "
    "onnxruntime on the file. Exit code: 0 whatever the verdict. docs/robustness.md says how to read it."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("original", metavar="ORIGINAL", type=Path, help="the model that was hardened")
    parser.add_argument("hardened", metavar="HARDENED", type=Path, help="what `jr-onnx convert` made of it")
    seldom = add_seldom_group(parser)
    add_data_arguments(parser, seldom)
    parser.add_argument(
        "--eps",
        metavar="E,E",
        default=EPS,
        help=f"radii in the maximum norm, in pixels from 0 to 1: 8/255 or 0.1,0.2 (default: {EPS})",
    )
    parser.add_argument("--samples", metavar="N", type=int, help="attack at most N samples (default: all)")
    add_max_drop_argument(parser)
    add_scale_arguments(parser, seldom)
    add_report_arguments(parser, seldom)
    _add_attack_arguments(seldom)


def _add_attack_arguments(group: argparse._ArgumentGroup) -> None:
    effort = Effort()
    group.add_argument(
        "--attacks",
        metavar="A,A",
        default=",".join(DEFAULT_ATTACKS),
        help=f"of {', '.join(ATTACKS)}, or {_ALL} (default: {', '.join(DEFAULT_ATTACKS)})",
    )
    for name, meaning in (
        ("steps", "gradient steps from each start"),
        ("restarts", "the most starts of each attack; they double until that breaks hardly anything more"),
        ("queries", "of each black-box attack"),
    ):
        default = getattr(effort, name)
        group.add_argument(f"--{name}", metavar="N", type=int, default=default, help=f"{meaning} (default: {default})")
    group.add_argument("--seed", metavar="N", type=int, default=0, help="of all random numbers (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print, and write the report and the plots if they are asked for."""
    check_output(arguments.report, "--report", (arguments.original, arguments.hardened, arguments.data))
    check_plots(arguments.plots)
    dataset = drawn(read_data(arguments, read_classifier(arguments.original)), arguments.samples, arguments.seed)
    effort = Effort(steps=arguments.steps, restarts=arguments.restarts, queries=arguments.queries)
    report = run_for_hours(
        arguments,
        (_STAGE,),
        lambda executor, progress: evaluate(
            arguments.original,
            arguments.hardened,
            dataset,
            eps=numbers("--eps", arguments.eps),
            attacks=_attacks(arguments.attacks),
            effort=effort,
            max_drop=number("--max-drop", arguments.max_drop),
            seed=arguments.seed,
            workers=arguments.workers,
            executor=executor,
            journal=arguments.journal,
            progress=lambda done, total: progress(_STAGE, done, total),
        ),
    )
    if isinstance(report, int):
        return report
    print_report(arguments, report, _text)
    _write(report, arguments)
    return 0


def _attacks(text: str) -> tuple[str, ...]:
    names = tuple(word.strip() for word in text.split(","))
    return tuple(ATTACKS) if _ALL in names else names


def _write(report: EvaluationReport, arguments: argparse.Namespace) -> None:
    written: list[Path] = []
    if arguments.report is not None:
        write_page(evaluation_contents(report, command_line()), arguments.report)
        written.append(arguments.report)
    if arguments.plots is not None:
        written += write_plots(evaluation_contents(report), arguments.plots)
    for path in () if arguments.quiet else written:
        print(printable(f"wrote {path}"), file=sys.stderr if arguments.json else sys.stdout)


def _text(report: EvaluationReport) -> str:
    reference, hardened = report.models.values()
    verdict = report.verdicts[hardened.name]
    rows = [("0", "clean", f"{reference.clean_accuracy:.1%}", f"{hardened.clean_accuracy:.1%}", "")]
    for one, other in zip(reference.rows, hardened.rows, strict=True):
        failed = f"gradient failed on {other.failed}" if other.failed else ""
        rows.append((eps_text(one.eps), one.attack, f"{one.accuracy:.1%}", f"{other.accuracy:.1%}", failed))
    lines = table(("eps", "after", reference.name, hardened.name, ""), rows)
    if reference.noise:
        noise = [
            (one.attack, *(f"{row.mean:.2%}" if row.mean is not None else "-" for row in (one, other)))
            for one, other in zip(reference.noise, hardened.noise, strict=True)
        ]
        lines += ["", *table(("smallest noise, mean", reference.name, hardened.name), noise)]
    lines += ["", *verdict.evidence, "", f"{verdict.words}: {verdict.headline}"]
    return "\n".join(map(printable, lines))
