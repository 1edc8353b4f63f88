"""`jr-onnx revert`: give back the model that a hardened one was made from."""

from __future__ import annotations

import argparse
from pathlib import Path

from jr_onnx.cli.outputs import print_report, progress_bar
from jr_onnx.conversion.report import RevertReport
from jr_onnx.conversion.revert import revert
from jr_onnx.text import bytes_text, count, printable

HELP = "give back the model that a hardened one was made from"
DESCRIPTION = (
    "Give back the model that a hardened one was made from: byte for byte where `convert` wrote the file and nothing "
    "has changed it since, else in structure, a Relu in place of each JumpReLU. It says which."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("hardened", metavar="HARDENED", type=Path, help="the hardened ONNX file")
    parser.add_argument("-o", "--output", metavar="ORIGINAL", type=Path, required=True, help="the file to write")
    parser.add_argument(
        "--force",
        action="store_true",
        help="ORIGINAL may be HARDENED itself, and its data may stand beside others of their name",
    )


def run(arguments: argparse.Namespace) -> int:
    """Revert and print the report."""
    with progress_bar(arguments.hardened, quiet=arguments.quiet) as progress:
        report = revert(arguments.hardened, output=arguments.output, force=arguments.force, progress=progress)
    print_report(arguments, report, _text)
    return 0


def _text(report: RevertReport) -> str:
    sites = count(report.sites, "JumpReLU")
    if report.exact:
        how = f"{sites} reverted: the original, byte for byte (its structure has the SHA-256 that was recorded)"
    else:
        how = f"{sites} reverted to Relu: the original in structure, not byte for byte, because {report.why_not}"
    return "\n".join(
        map(printable, (how, f"wrote {report.output} ({bytes_text(report.size)}, {report.seconds:.2f} s)"))
    )
