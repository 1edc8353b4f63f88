"""`jr-onnx convert`: put JumpReLU in place of every ReLU of a model."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from jr_onnx.cli.arguments import add_filters, add_model_output, add_seldom_group, number
from jr_onnx.cli.outputs import print_report, progress_bar
from jr_onnx.conversion.convert import ENDING, convert
from jr_onnx.conversion.forms.table import TARGETS, Target
from jr_onnx.conversion.policy import jump_text, read_policy
from jr_onnx.conversion.portability import RUNTIMES
from jr_onnx.conversion.report import ConversionReport
from jr_onnx.errors import OptionError
from jr_onnx.text import bytes_text, count, printable, table

#: How many nodes that are left alone are listed; --json lists all.
_LISTED = 12

_ADVICE = (
    "measure what it buys with jr-onnx evaluate: on the networks measured so far nothing was left under attacks that "
    "adapt to JumpReLU"
)

HELP = "put JumpReLU in place of every ReLU of a model"
DESCRIPTION = (
    "Put JumpReLU in place of every ReLU of a model and change nothing else. The model's weights are "
    "not read, and the output appears whole or not at all."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="the ONNX file")
    jump = parser.add_mutually_exclusive_group(required=True)
    jump.add_argument("--jump", metavar="K", help="the jump: 0 where x <= K, x elsewhere; finite and >= 0")
    jump.add_argument(
        "--recognise",
        action="store_true",
        help="no new jump: make the JumpReLU that a sparse autoencoder has written out jr_onnx::JumpReLU",
    )
    jump.add_argument("--policy", metavar="FILE", type=Path, help="YAML file with a jump for each site, by name")
    add_model_output(parser, ENDING)
    add_filters(parser)
    parser.add_argument(
        "--for",
        dest="runtime",
        choices=RUNTIMES,
        metavar="RUNTIME",
        help=f"choose --target and --inline for {', '.join(RUNTIMES)} (docs/portability.md)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")
    seldom = add_seldom_group(parser)
    seldom.add_argument(
        "--target",
        choices=TARGETS,
        help="custom-op: jr_onnx::JumpReLU, which runs with and without the custom-op library (default); "
        "subgraph: Relu*Greater; standard: ThresholdedRelu; hard-sigmoid: Relu*HardSigmoid, the fastest on a CPU "
        "without the library",
    )
    seldom.add_argument(
        "--inline",
        action="store_true",
        help="the function's body in the graph: some runtimes reject local functions",
    )
    seldom.add_argument("--allow-empty", action="store_true", help="accept a model without a ReLU")


def run(arguments: argparse.Namespace) -> int:
    """Convert and print the report."""
    policy = read_policy(arguments.policy) if arguments.policy is not None else None
    target, inline = _target(arguments)
    with progress_bar(arguments.model, quiet=arguments.quiet) as progress:
        report = convert(
            arguments.model,
            jump=None if arguments.jump is None else number("--jump", arguments.jump),
            policy=policy,
            output=arguments.output,
            target=target,
            include=arguments.include or (),
            exclude=arguments.exclude or (),
            jump_input=arguments.jump_input,
            clip=arguments.clip,
            recognise=arguments.recognise,
            inline=inline,
            allow_empty=arguments.allow_empty,
            dry_run=arguments.dry_run,
            force=arguments.force,
            progress=progress,
        )
    print_report(arguments, report, partial(_text, advice=not arguments.recognise))
    if arguments.runtime is not None and not (arguments.json or arguments.quiet):
        runtime = RUNTIMES[arguments.runtime]
        print(f"for {runtime.name}: {runtime.options}; it runs JumpReLU {runtime.why}")
    return 0


def _target(arguments: argparse.Namespace) -> tuple[Target, bool]:
    """What JumpReLU is written as: what was asked for, or what the runtime needs that was named."""
    if arguments.runtime is None:
        return arguments.target or "custom-op", arguments.inline
    runtime = RUNTIMES[arguments.runtime]
    if arguments.target is not None or arguments.inline:
        raise OptionError(f"--for {runtime.name} stands for {runtime.options}; leave out --target and --inline")
    return runtime.target, runtime.inline


def _text(report: ConversionReport, *, advice: bool) -> str:
    lines = []
    if report.sites:
        groups: dict[tuple[str, ...], int] = {}
        for site in report.sites:
            jump = jump_text(site.jump, site.element_type if site.quantized is None else "float")
            key = (site.scope or "(main graph)", site.op_type, site.element_type, site.lowering, jump)
            groups[key] = groups.get(key, 0) + 1
        rows = [(key[0], str(number), *key[1:]) for key, number in groups.items()]
        lines += table(("scope", "sites", "was", "type", "is now", "jump"), rows)
    lines += [f"left alone: {left.path} ({left.op_type}): {left.reason}" for left in report.left_alone[:_LISTED]]
    if len(report.left_alone) > _LISTED:
        lines.append(f"left alone: {len(report.left_alone) - _LISTED} more (--json lists all)")
    why = {f"{site.lowering} is written instead, because {site.reason}": None for site in report.sites if site.reason}
    differs = {
        f"{site.lowering} differs from the definition: {site.differs}": None for site in report.sites if site.differs
    }
    lines += [f"note: {text}" for text in (*why, *differs, *report.notes)]
    if report.ir_version != report.ir_version_before:
        lines.append(f"note: IR version {report.ir_version_before} -> {report.ir_version}")
    if report.external_mode is not None:
        lines.append(f"external data: {count(len(report.external_data), 'file')}, {report.external_mode}")
    done = "wrote" if report.written else "dry run, would write"
    lines.append(f"{done} {report.output} ({bytes_text(report.size)}, {report.seconds:.2f} s)")
    if report.written and report.sites and advice:
        lines.append(_ADVICE)
    return "\n".join(map(printable, lines))
