"""`jr-onnx deploy`: from a hardened model to a folder that a server starts from."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from jr_onnx.cli.arguments import add_seldom_group
from jr_onnx.cli.outputs import print_report, progress_bar
from jr_onnx.errors import JrOnnxError
from jr_onnx.files.external import data_files
from jr_onnx.files.source import open_file
from jr_onnx.serving.deploy import MOUNT, SERVERS, DeploymentReport, deploy
from jr_onnx.serving.folder import SUMS
from jr_onnx.serving.layouts import EXECUTION
from jr_onnx.text import printable

HELP = "write a folder that a model server starts from"
DESCRIPTION = (
    "Write a folder that a model server starts from as it is: the hardened model with its external "
    "data, the kernel library of this installation, the server's settings, and a README with the start command. "
    "The model is loaded and run here first, with the library and without. The folder appears whole or not at all."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="the hardened model")
    parser.add_argument("--server", choices=SERVERS, required=True, help="for which server")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="the folder to write")
    parser.add_argument("--name", metavar="N", help="the model's name on the server; default: MODEL without endings")
    parser.add_argument(
        "--provider",
        choices=EXECUTION,
        default="cpu",
        help="which execution provider of onnxruntime serves (default: cpu); cuda-nhwc: CUDA in the layout NHWC",
    )
    parser.add_argument("--force", action="store_true", help="replace DIR if this command wrote it")
    seldom = add_seldom_group(parser)
    seldom.add_argument(
        "--max-batch-size",
        metavar="N",
        type=int,
        default=0,
        help="triton: let the server put up to N rows of several requests together (default: 0, none)",
    )
    seldom.add_argument(
        "--mount", metavar="PATH", help=f"triton: the absolute path that DIR will have on the server (default: {MOUNT})"
    )
    seldom.add_argument(
        "--no-library",
        dest="library",
        action="store_false",
        help="leave out the kernels: the function in the model serves, slower",
    )
    seldom.add_argument(
        "--no-check",
        dest="check",
        action="store_false",
        help="do not load the model here: for one that only the server can load",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the folder and print the report."""
    with progress_bar(arguments.model, _data_size(arguments.model), quiet=arguments.quiet) as progress:
        report = deploy(
            arguments.model,
            arguments.server,
            arguments.output,
            name=arguments.name,
            provider=arguments.provider,
            library=arguments.library,
            mount=arguments.mount,
            max_batch_size=arguments.max_batch_size,
            check=arguments.check,
            force=arguments.force,
            progress=progress,
        )
    print_report(arguments, report, _text)
    return 0


def _data_size(model: Path) -> int:
    """The bytes of the external data; 0 where the model cannot be read, which `deploy` says."""
    with contextlib.suppress(JrOnnxError), open_file(model) as source:
        return sum(file.size for file in data_files(source.skeleton, model))
    return 0


def _text(report: DeploymentReport) -> str:
    signature = report.signature
    lines = [f"input   {tensor}" for tensor in signature.inputs] + [f"output  {tensor}" for tensor in signature.outputs]
    lines += [f"wrote {report.output / name}" for name in (*report.files, SUMS)]
    lines += [_chosen(report), f"start it {report.start}"]
    lines += [f"it needs {report.needs}"] if report.needs else []
    lines += [f"warning: {one}" for one in report.warnings]
    return "\n".join(map(printable, lines))


def _chosen(report: DeploymentReport) -> str:
    """By what the model runs, and why."""
    if report.library:
        return f"'{report.name}' runs by the kernels in the folder, because {report.server} can load them"
    return f"'{report.name}' runs without kernels: {report.without}"
