"""`jr-onnx bench`: the time and the memory of models, side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from jr_onnx.cli.arguments import add_data_argument, add_seldom_group, add_shape_argument, counts, shapes
from jr_onnx.cli.outputs import print_report, steps_bar
from jr_onnx.runtime.bench import bench, steps
from jr_onnx.runtime.measure import BenchReport, Ratio
from jr_onnx.text import bytes_text, table

#: How many op_types of a file are listed; --json has all.
_LISTED = 4

HELP = "measure the time and the memory of models, side by side"
DESCRIPTION = (
    "Run every model in turn in one process, on the same inputs, and compare each with the "
    "first: the median over the rounds of the ratio within a round, and the middle half of these ratios."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("models", metavar="MODEL", type=Path, nargs="+", help="ORIGINAL, then HARDENED and others")
    parser.add_argument("--provider", metavar="P", default="cpu", help="the execution provider (default: cpu)")
    parser.add_argument("--batch", dest="batches", metavar="N,N", help="batch sizes (default: 1, or the model's)")
    parser.add_argument("--threads", metavar="N,N", default="1", help="numbers of threads (default: 1)")
    parser.add_argument("--rounds", metavar="N", type=int, default=15, help="runs of each model (default: 15)")
    add_data_argument(parser)
    add_shape_argument(add_seldom_group(parser))


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    batches = () if arguments.batches is None else counts("--batch", arguments.batches)
    threads = counts("--threads", arguments.threads)
    total = steps(len(arguments.models), max(len(batches), 1), len(threads), arguments.rounds)
    with steps_bar("measure", total, quiet=arguments.quiet) as progress:
        report = bench(
            arguments.models,
            provider=arguments.provider,
            batches=batches,
            threads=threads,
            rounds=arguments.rounds,
            shapes=shapes("--shape", arguments.shapes),
            data=arguments.data,
            progress=progress,
        )
    print_report(arguments, report, _text)
    return 0


def _text(report: BenchReport) -> str:
    runs = [
        (Path(one.file).name, str(one.batch), str(one.threads), f"{one.seconds * 1e3:.2f}", _ratio(one.ratio))
        for one in report.timings
    ]
    files = [
        (
            Path(one.file).name,
            f"{one.creation * 1e3:.0f}",
            _ratio(one.creation_ratio),
            bytes_text(one.peak_bytes),
            ", ".join(f"{row.op_type} {row.seconds * 1e3:.2f}" for row in one.op_types[:_LISTED]),
        )
        for one in report.files
    ]
    lines = table(("model", "batch", "threads", "run, ms", "ratio (middle half)"), runs)
    lines += ["", *table(("model", "session, ms", "ratio (middle half)", "peak memory", "ms by op_type"), files)]
    lines += ["", f"onnxruntime {report.onnxruntime}, {report.provider}, medians of {report.rounds} rounds"]
    return "\n".join(lines)


def _ratio(one: Ratio) -> str:
    return f"{one.median:.3f} ({one.low:.3f} to {one.high:.3f})"
