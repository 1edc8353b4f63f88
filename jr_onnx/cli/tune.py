"""`jr-onnx tune`: choose the jump on validation data, and say what it buys."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jr_onnx.cli.arguments import (
    EPS,
    add_data_arguments,
    add_max_drop_argument,
    add_report_arguments,
    add_scale_arguments,
    add_seldom_group,
    check_plots,
    command_line,
    fraction,
    named,
    number,
    numbers,
    read_data,
    run_for_hours,
)
from jr_onnx.cli.outputs import check_output, print_report
from jr_onnx.conversion.convert import convert
from jr_onnx.conversion.policy import policy_text
from jr_onnx.files.atomic import atomic_file
from jr_onnx.robustness.attacks.target import Effort
from jr_onnx.robustness.dataset import read_classifier
from jr_onnx.robustness.reporting.from_reports import candidates_table, tuning_contents
from jr_onnx.robustness.reporting.page import write_page, write_plots
from jr_onnx.robustness.tuning.grid import QUANTILES
from jr_onnx.robustness.tuning.report import OBJECTIVES, TuningReport
from jr_onnx.robustness.tuning.robustness import AttackSettings
from jr_onnx.robustness.tuning.stages import ATTACKING
from jr_onnx.robustness.tuning.tune import tune
from jr_onnx.text import count, printable, table

HELP = "choose the jump on validation data, within a budget of clean accuracy"
DESCRIPTION = (
    "Choose the jump on validation data: within a budget of clean accuracy, by what is left under "
    "attacks that adapt to JumpReLU, and only if that is more than at jump 0 on samples that had no say in the "
    "choice. Where nothing is gained it says so, writes nothing, and the exit code is 0."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="the ONNX file: one float input, one score a class")
    seldom = add_seldom_group(parser)
    add_data_arguments(parser, seldom)
    add_max_drop_argument(parser)
    grid = parser.add_mutually_exclusive_group()
    grid.add_argument("--grid", metavar="K,K", help="the jumps to try, the same at all sites")
    grid.add_argument(
        "--quantiles",
        metavar="Q,Q",
        help=f"the jumps to try, as quantiles of the positive activations (default: {','.join(map(str, QUANTILES))})",
    )
    seldom.add_argument("--per-layer", action="store_true", help="quantiles of each site's own activations")
    seldom.add_argument(
        "--objective",
        choices=OBJECTIVES,
        default="adaptive",
        help="adaptive: the best in the worst case over attacks, which needs onnx-ad (default); "
        "clean: the largest jump within the budget, without a word on robustness",
    )
    parser.add_argument("--clip", action="store_true", help="tune Clip(0, c), such as ReLU6, too")
    seldom.add_argument(
        "--test-share", metavar="S", default="0.5", help="share of the samples that confirm the choice (default: 0.5)"
    )
    seldom.add_argument("--seed", metavar="N", type=int, default=0, help="of the split and the attacks (default: 0)")
    parser.add_argument(
        "--eps", metavar="E", default=EPS, help=f"radius in the maximum norm, in pixels from 0 to 1 (default: {EPS})"
    )
    parser.add_argument(
        "--samples",
        metavar="N",
        type=int,
        default=AttackSettings.samples,
        help=f"attack at most N samples of each part of the data (default: {AttackSettings.samples})",
    )
    add_scale_arguments(parser, seldom)
    _add_attack_arguments(seldom)
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=named, help="write the hardened model, if a jump is chosen"
    )
    parser.add_argument("--policy-out", metavar="FILE", type=named, help="write the jumps, for convert --policy")
    add_report_arguments(parser, seldom)


def _add_attack_arguments(group: argparse._ArgumentGroup) -> None:
    for name, meaning in (
        ("steps", "gradient steps from each start"),
        ("restarts", "the most starts of each attack; they double until that breaks hardly anything more"),
    ):
        default, usual = getattr(AttackSettings, name), getattr(Effort, name)
        note = f"{meaning} (default: {default}; evaluate takes {usual})"
        group.add_argument(f"--{name}", metavar="N", type=int, default=default, help=note)


def run(arguments: argparse.Namespace) -> int:
    """Tune, write what was asked for, and print the report."""
    for option in ("output", "policy_out", "report"):
        name = f"--{option.replace('_', '-')}"
        check_output(getattr(arguments, option), name, (arguments.model, arguments.data))
    check_plots(arguments.plots)
    dataset = read_data(arguments, read_classifier(arguments.model))
    attacks = AttackSettings(
        eps=fraction("--eps", arguments.eps),
        steps=arguments.steps,
        restarts=arguments.restarts,
        samples=arguments.samples,
    )
    report = run_for_hours(
        arguments,
        ATTACKING,
        lambda executor, progress: tune(
            arguments.model,
            dataset,
            attacks=attacks,
            workers=arguments.workers,
            executor=executor,
            journal=arguments.journal,
            progress=progress,
            **_options(arguments),
        ),
    )
    if isinstance(report, int):
        return report
    # Printed before anything is written: should that fail, hours of work are not lost.
    print_report(arguments, report, _text)
    for line in _written(report, arguments):
        if not arguments.quiet:
            print(line, file=sys.stderr if arguments.json else sys.stdout)
    return 0


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "max_drop": number("--max-drop", arguments.max_drop),
        "grid": None if arguments.grid is None else numbers("--grid", arguments.grid),
        "quantiles": None if arguments.quantiles is None else numbers("--quantiles", arguments.quantiles),
        "per_layer": arguments.per_layer,
        "objective": arguments.objective,
        "clip": arguments.clip,
        "test_share": number("--test-share", arguments.test_share),
        "seed": arguments.seed,
    }


def _written(report: TuningReport, arguments: argparse.Namespace) -> Iterator[str]:
    """Write the files that were asked for; a line for each."""
    if arguments.report is not None:
        write_page(tuning_contents(report, command_line()), arguments.report)
        yield f"wrote {arguments.report}"
    if arguments.plots is not None:
        yield from (f"wrote {path}" for path in write_plots(tuning_contents(report), arguments.plots))
    if report.policy is None:
        wanted = (path for path in (arguments.policy_out, arguments.output) if path is not None)
        yield from (f"did not write {path}: no jump was chosen" for path in wanted)
        return
    if arguments.policy_out is not None:
        with atomic_file(arguments.policy_out) as file:
            file.write(policy_text(report.policy, _comment(report, arguments.clip)).encode())
        yield f"wrote {arguments.policy_out}"
    if arguments.output is not None:
        done = convert(arguments.model, policy=report.policy, output=arguments.output, clip=arguments.clip)
        yield f"wrote {done.output} ({count(len(done.sites), 'site')})"


def _comment(report: TuningReport, clip: bool) -> str:
    lines = [printable(report.sentence), *(["for jr-onnx convert --clip"] if clip else [])]
    return "\n".join(lines)


def _text(report: TuningReport) -> str:
    shown = candidates_table(report)
    lines = table(shown.header, shown.rows)
    lines.append(f"on {report.tuned_on} samples; {report.tested_on} others confirm; 95% intervals; seed {report.seed}")
    if report.eps is not None:
        lines.append(f"under attack: {report.attacked} samples, eps {report.eps:.4g}, {', '.join(report.attacks)}")
    lines += [f"note: {note}" for note in report.notes]
    lines.append(report.sentence)
    return "\n".join(map(printable, lines))
