"""`jr-onnx check`: prove a conversion, by hand and in CI."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jr_onnx.checking.check import check, unreadable
from jr_onnx.checking.formats import FORMATS, WRITERS
from jr_onnx.checking.pairs import Pair, pairs_of
from jr_onnx.checking.report import FAIL_ON, CheckReport
from jr_onnx.cli.arguments import (
    add_data_argument,
    add_filters,
    add_seldom_group,
    add_shape_argument,
    named,
    number,
    shapes,
)
from jr_onnx.cli.outputs import check_output, in_options
from jr_onnx.conversion.policy import read_policy
from jr_onnx.errors import JrOnnxError, ModelError, OptionError
from jr_onnx.files.atomic import atomic_file
from jr_onnx.runtime.sessions import CPU

CLEAN, FINDINGS, INTERNAL_ERROR = 0, 1, 3

_RANDOM_INPUTS = 2

HELP = "prove that a hardened model is the original with JumpReLU in place of Relu, and runs so"
DESCRIPTION = (
    "Is HARDENED exactly ORIGINAL with JumpReLU in place of Relu, and does it run so? With one model: "
    "what can be said without the original. Exit code: 0 clean, 1 findings, 2 usage or unreadable input, 3 "
    "internal error. The rules are in docs/rules.md."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("models", metavar="MODEL", type=Path, nargs="+", help="ORIGINAL HARDENED, or HARDENED alone")
    parser.add_argument(
        "--each",
        action="store_true",
        help="each MODEL by itself, any number: a hardened one is checked, against its original if NAME.onnx stands "
        "beside NAME.jumprelu.onnx, and that one if only NAME.onnx is given; others are left out (for pre-commit)",
    )
    conversion = parser.add_argument_group("the conversion to check for (default: the file's record)")
    jump = conversion.add_mutually_exclusive_group()
    jump.add_argument("--jump", metavar="K", help="the jump")
    jump.add_argument("--policy", metavar="FILE", type=Path, help="YAML file with a jump for each site, by name")
    add_filters(conversion)
    parser.set_defaults(clip=None)
    add_data_argument(parser)
    parser.add_argument("--no-run", dest="run", action="store_false", help="structure only: run nothing")
    parser.add_argument("--latency", action="store_true", help="measure the time of both models, in turn")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        action="append",
        help="text (default), json, junit, sarif or github; several, each with an --output of its own but one",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=named, action="append", default=[], help="where the formats go, in order"
    )
    parser.add_argument(
        "--fail-on", choices=FAIL_ON, default="warning", help="from which severity on the exit code is 1"
    )
    _add_run_arguments(add_seldom_group(parser))


def _add_run_arguments(seldom: argparse._ArgumentGroup) -> None:
    seldom.add_argument(
        "--random-inputs",
        metavar="N",
        type=int,
        help=f"runs on random inputs (default: {_RANDOM_INPUTS})",
    )
    add_shape_argument(seldom)
    seldom.add_argument(
        "--provider",
        dest="providers",
        metavar="P",
        action="append",
        help=f"check on this execution provider (default: {CPU})",
    )
    seldom.add_argument("--no-library", dest="library", action="store_false", help="do not run with the kernel library")
    seldom.add_argument("--keep-going", action="store_true", help="run the model even if its structure has errors")


def run(arguments: argparse.Namespace) -> int:
    """Check, write the reports, and return the exit code."""
    formats = [*(arguments.format or ()), *(["json"] if arguments.json else ())] or ["text"]
    outputs: list[Path | None] = [*arguments.output, *(None,) * (len(formats) - len(arguments.output))]
    if len(outputs) > len(formats):
        raise OptionError(f"{len(arguments.output)} --output for {len(formats)} --format; give one --format for each")
    if outputs.count(None) > 1:
        raise OptionError(f"{len(formats)} formats need {len(formats) - 1} --output; one format goes to stdout")
    _check_no_run(arguments)
    try:
        pairs = _pairs(arguments)
        _check_outputs(arguments, pairs)
        reports = _reports(arguments, pairs)
    except (JrOnnxError, KeyboardInterrupt):
        raise
    except Exception:  # noqa: BLE001  (a bug must not look like a finding: exit code 3, with its traceback)
        traceback.print_exc()
        print("jr-onnx check: internal error; please report it with the lines above", file=sys.stderr)
        return INTERNAL_ERROR
    for name, output in zip(formats, outputs, strict=True):
        text = WRITERS[name](reports)
        text = text if name == "json" else in_options(text, arguments.parser)
        if output is not None or not arguments.quiet or name == "json":
            _write(text, output, coloured=name == "text")
    return FINDINGS if any(report.fails(arguments.fail_on) for report in reports) else CLEAN


def _pairs(arguments: argparse.Namespace) -> Sequence[Pair]:
    models = arguments.models
    if arguments.each:
        return pairs_of(models)
    if len(models) > 2:
        raise OptionError(f"{len(models)} models; give ORIGINAL HARDENED, or HARDENED, or --each before many")
    return [(models[0], models[1])] if len(models) == 2 else [(None, models[0])]


def _check_outputs(arguments: argparse.Namespace, pairs: Sequence[Pair]) -> None:
    read = (*arguments.models, *(path for pair in pairs for path in pair), arguments.policy, arguments.data)
    inputs = [path for path in read if path is not None]
    seen: set[str] = set()
    for output in arguments.output:
        check_output(output, "--output", inputs)
        place = os.path.realpath(output)
        if place in seen:
            raise OptionError(f"--output {output}: is given twice; give each format a file of its own")
        seen.add(place)


def _check_no_run(arguments: argparse.Namespace) -> None:
    """What only a run heeds is a mistake where nothing is run."""
    if arguments.run:
        return
    for name in ("data", "random_inputs", "shapes", "providers", "latency", "keep_going"):
        if getattr(arguments, name):
            raise OptionError(f"`{name}` is for running the model; leave it out, or --no-run")


def _reports(arguments: argparse.Namespace, pairs: Sequence[Pair]) -> tuple[CheckReport, ...]:
    options: dict[str, Any] = {
        "jump": None if arguments.jump is None else number("--jump", arguments.jump),
        "policy": None if arguments.policy is None else read_policy(arguments.policy),
        "include": arguments.include,
        "exclude": arguments.exclude,
        "clip": arguments.clip,
        "jump_input": arguments.jump_input,
        "data": arguments.data,
        "random_inputs": _RANDOM_INPUTS if arguments.random_inputs is None else arguments.random_inputs,
        "shapes": shapes("--shape", arguments.shapes),
        "providers": tuple(arguments.providers or [CPU]),
        "library": arguments.library,
        "run": arguments.run,
        "latency": arguments.latency,
        "keep_going": arguments.keep_going,
    }
    one = _one_of_many if arguments.each else check
    return tuple(one(original, hardened, **options) for original, hardened in pairs)


def _one_of_many(original: Path | None, hardened: Path, **options: Any) -> CheckReport:
    """A file that cannot be read is a finding here, not the end: the others are still checked, and reported."""
    try:
        return check(original, hardened, **options)
    except ModelError as error:
        return unreadable(hardened, error)


def _write(text: str, output: Path | None, *, coloured: bool) -> None:
    if output is None:
        if coloured and sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
            _print_coloured(text)
        else:
            print(text)
        return
    with atomic_file(output) as file:
        file.write(f"{text}\n".encode("utf-8", "replace"))


#: What begins a line of the report -> its colour.
_STYLES = {
    r"(?m)^clean(?=:)": "bold green",
    r"(?m)^[1-9]\d* errors?, \d+ warnings?(?=:)": "bold red",
    r"(?m)^0 errors, \d+ warnings?(?=:)": "bold yellow",
    r"(?m)^error\b": "red",
    r"(?m)^warning\b": "yellow",
    r"(?m)^not checked(?=:)": "yellow",
    r"(?m)^fix JR\d+(?=:)": "cyan",
    r"(?m)^(note|measured|checked)(?=:)": "dim",
}


def _print_coloured(text: str) -> None:
    from rich.console import Console  # a fifth of a run's time to import, and most runs are in CI
    from rich.text import Text

    coloured = Text(text)
    for start, style in _STYLES.items():
        coloured.highlight_regex(start, style)
    Console(highlight=False).print(coloured, soft_wrap=True)
