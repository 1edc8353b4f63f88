"""`jr-onnx optimize`: the fastest exact form of a hardened model."""

from __future__ import annotations

import argparse
from pathlib import Path

from jr_onnx.cli.arguments import add_data_argument, add_model_output, add_seldom_group
from jr_onnx.cli.outputs import print_report, progress_bar
from jr_onnx.runtime.optimization.optimize import ENDING, PROVIDERS, OptimizationReport, optimize
from jr_onnx.runtime.optimization.relu_form import LEVELS
from jr_onnx.text import count, printable

HELP = "write the fastest exact form of a hardened model, for this machine's CPU or for CUDA"
DESCRIPTION = (
    "For the CPU: let onnxruntime lay out and fuse the original form of a hardened model, and put "
    "JumpReLU behind what it fused. The file is for machines with the same vector instructions and version of "
    "onnxruntime: jr_onnx.session refuses it elsewhere. For CUDA: put each Add and its JumpReLU into one node."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="a file that jr-onnx convert wrote")
    parser.add_argument("--provider", choices=PROVIDERS, default="cpu", help="what for (default: cpu)")
    add_data_argument(parser)
    add_model_output(parser, ENDING)
    add_seldom_group(parser).add_argument(
        "--level", choices=tuple(LEVELS), default="all", help="how far onnxruntime optimises for the CPU (default: all)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Optimise and print the report."""
    with progress_bar(arguments.model, quiet=arguments.quiet) as progress:
        report = optimize(
            arguments.model,
            output=arguments.output,
            provider=arguments.provider,
            level=arguments.level,
            data=arguments.data,
            force=arguments.force,
            progress=progress,
        )
    print_report(arguments, report, _text)
    return 0


def _text(report: OptimizationReport) -> str:
    sites, cuda = count(report.sites, "JumpReLU"), report.provider == "cuda"
    placed = (
        f"{report.with_add} with the Add in front"
        if cuda
        else f"{report.behind} behind fused nodes ({report.below} of them below a MaxPool), {report.in_place_of} in "
        "place of a Relu"
    )
    lines = [f"{sites}: {placed}, {len(report.left)} left as they were"]
    lines += [f"left: {path}: {why}" for path, why in report.left.items()]
    if report.unverified:
        lines.append(f"not compared with the hardened model: {report.unverified}")
    wrote = f"wrote {report.output}"
    lines.append(
        f"{wrote} ({report.seconds:.2f} s)"
        if cuda
        else f"{wrote} for this machine ({report.seconds:.2f} s); load it with jr_onnx.session"
    )
    return "\n".join(map(printable, lines))
