"""What several commands take alike: numbers, shapes, data, and where long work is kept."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Container, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

from jr_onnx.cli.dask import dask_executor
from jr_onnx.cli.outputs import stages_bar, try_to_write
from jr_onnx.errors import OptionError, OutputError, RuntimeMissingError
from jr_onnx.files.atomic import cache_folder
from jr_onnx.robustness.dataset import Classifier, Dataset, load_data
from jr_onnx.robustness.statistics import MAX_DROP
from jr_onnx.text import count, printable

# Each takes the option's name for the OptionError that it raises where the text is written otherwise.


def number(option: str, text: str) -> float:
    """The number that an option was given."""
    try:
        return float(text)
    except ValueError as error:
        raise OptionError(f"{option}: {text!r} is not a number; give a finite number >= 0") from error


def fraction(option: str, text: str) -> float:
    """The number that an option was given, as "8/255" too."""
    above, slash, below = text.partition("/")
    if "," in text:
        raise OptionError(f"{option}: {text!r} is several numbers; give one")
    divisor = number(option, below) if slash else 1.0
    if not divisor:
        raise OptionError(f"{option}: {text!r} divides by 0")
    return number(option, above) / divisor


def numbers(option: str, text: str) -> tuple[float, ...]:
    """The numbers of an option like "8/255,0.1"."""
    return tuple(fraction(option, word) for word in text.split(","))


def counts(option: str, text: str) -> tuple[int, ...]:
    """The whole numbers, from 1, of an option like "1,8", each once."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise OptionError(f"{option} {text}: write it as 1,8")
    return tuple(dict.fromkeys(map(int, parts)))


def shapes(option: str, texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of inputs, by name, each written as "x=1,3,224,224"."""
    found = {}
    for text in texts:
        name, separator, dims = text.rpartition("=")
        try:
            found[name] = tuple(int(dim) for dim in dims.split(",") if dim)
        except ValueError as error:
            raise OptionError(f"{option} {text}: write it as x=1,3,224,224") from error
        if not separator or any(dim < 0 for dim in found[name]):
            raise OptionError(f"{option} {text}: write it as x=1,3,224,224")
    return found


# --- The samples of `tune` and `evaluate`, from the command line ------------------------------------------------------

#: The numbers of channels that images have.
_CHANNELS = (1, 3, 4)


def add_data_argument(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Real inputs to run a model on: the same in all commands."""
    parser.add_argument(
        "--data",
        metavar="DATA",
        type=named,
        required=required,
        help="an NPZ file (x, and y, mean, std; or arrays by the names of the model's inputs), an NPY file, a folder "
        "with one folder of images a class, or a Python MODULE:FUNCTION that returns (x, y); x are pixels, uint8 or "
        "float from 0 to 1",
    )


def add_shape_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The shapes of random inputs."""
    parser.add_argument(
        "--shape",
        dest="shapes",
        metavar="NAME=D,D",
        action="append",
        default=[],
        help="the shape of an input: x=1,3,224,224",
    )


def add_model_output(parser: argparse.ArgumentParser, ending: str) -> None:
    """Where a model is written."""
    parser.add_argument("-o", "--output", metavar="OUT", type=named, help=f"default: MODEL with the ending {ending}")
    parser.add_argument(
        "--force",
        action="store_true",
        help="OUT may be MODEL itself, and its data may stand beside others of their name",
    )


def add_filters(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Which nodes are converted, and whether the jump is an input."""
    parser.add_argument(
        "--include", metavar="GLOB", action="append", help="convert only nodes with such a name or scope path"
    )
    parser.add_argument(
        "--exclude", metavar="GLOB", action="append", help="leave nodes with such a name or scope path alone"
    )
    parser.add_argument("--clip", action="store_true", help="convert Clip(0, c), such as ReLU6, too")
    parser.add_argument(
        "--jump-input",
        metavar="NAME",
        nargs="?",
        const="jump",
        help="make the jump an optional graph input (default name: jump), with K as its default",
    )


#: The radius of attacks, where none is given.
EPS = "8/255"


def add_seldom_group(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The group of the options that few need, after all others in --help."""
    return parser.add_argument_group("seldom needed")


def add_data_arguments(parser: argparse.ArgumentParser, seldom: argparse._ArgumentGroup) -> None:
    """Where samples come from, and how they become the model's input."""
    add_data_argument(parser, required=True)
    seldom.add_argument("--mean", metavar="M,M", help="of each channel, in pixels from 0 to 1 (default: DATA's, or 0)")
    seldom.add_argument("--std", metavar="S,S", help="the model takes (pixels - mean) / std (default: DATA's, or 1)")
    seldom.add_argument("--size", metavar="H,W", help="of images from a folder (default: the model's)")
    seldom.add_argument("--layout", choices=("NCHW", "NHWC"), help="default: as the model's input shape tells")


def add_max_drop_argument(parser: argparse.ArgumentParser) -> None:
    """What may be lost in clean accuracy."""
    parser.add_argument(
        "--max-drop",
        metavar="POINTS",
        default=f"{MAX_DROP:g}",
        help=f"clean accuracy that may be lost, in percentage points (default: {MAX_DROP:g})",
    )


def read_data(arguments: argparse.Namespace, classifier: Classifier) -> Dataset:
    """The samples that the arguments name, checked against the model.

    Raises:
        OptionError: they are unfit; the message says why.
    """
    dataset = load_data(
        arguments.data,
        classifier=classifier,
        mean=None if arguments.mean is None else numbers("--mean", arguments.mean),
        std=None if arguments.std is None else numbers("--std", arguments.std),
        size=None if arguments.size is None else _size(arguments.size),
        layout=arguments.layout,
    )
    _warn_of_layout(arguments.layout, dataset)
    return dataset


def drawn(dataset: Dataset, samples: int | None, seed: int) -> Dataset:
    """At most this many of the samples, drawn by the seed; all of them for None.

    Raises:
        OptionError: there are none to draw, or the seed is negative.
    """
    if samples is None or samples >= len(dataset):
        return dataset
    if samples < 1 or seed < 0:
        raise OptionError(f"--samples {samples} --seed {seed}: at least one sample, and a seed of at least 0")
    return dataset.sample(samples, seed)


def _warn_of_layout(given: str | None, dataset: Dataset) -> None:
    """No refusal: signals and feature maps have as many channels as they like."""
    shape = dataset.images.shape
    if given is None or len(shape) != 4:
        return
    channels, other = (shape[1], shape[3]) if given == "NCHW" else (shape[3], shape[1])
    if channels not in _CHANNELS and other in _CHANNELS:
        warning = f"warning: --layout {given} makes {channels} channels of {dataset.name}, not {other}; is it right?"
        print(printable(warning), file=sys.stderr)


def _size(text: str) -> tuple[int, int]:
    words = text.split(",")
    if len(words) > 2 or not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise OptionError(f"--size {text}: write it as 224 or 224,320 (height, width)")
    return int(words[0]), int(words[-1])


# --- What the commands that work for hours share: they take up where they were, and refuse at once what they must -----

_INTERRUPTED = 130

#: Called with the name of a stage, what was done in it, and what there is to do.
StageProgress = Callable[[str, int, int], None]

_Report = TypeVar("_Report")


def add_scale_arguments(parser: argparse.ArgumentParser, seldom: argparse._ArgumentGroup) -> None:
    """Who does the work, and where finished parts are kept."""
    parser.add_argument("--workers", metavar="N", type=int, default=1, help="processes on this machine (default: 1)")
    seldom.add_argument(
        "--dask", metavar="SCHEDULER", help="the address of a Dask scheduler, in place of processes here"
    )
    seldom.add_argument(
        "--journal",
        metavar="DIR",
        type=named,
        default=cache_folder(),
        help="where finished parts are kept, for a run that is interrupted (default: %(default)s)",
    )


def add_report_arguments(parser: argparse.ArgumentParser, seldom: argparse._ArgumentGroup) -> None:
    """What is written for people and programs to read."""
    parser.add_argument("--report", metavar="FILE.html", type=named, help="write the report as one HTML page")
    seldom.add_argument("--plots", metavar="DIR", type=named, help="write the charts as PNG and SVG (needs matplotlib)")


def command_line() -> str:
    """The command that was typed; empty where it was none of ours."""
    return shlex.join(["jr-onnx", *sys.argv[1:]]) if Path(sys.argv[0]).name in ("jr-onnx", "__main__.py") else ""


def named(text: str) -> Path:
    """The type of an option that names a file or folder; an empty name would be the current folder."""
    if not text:
        raise ArgumentTypeError("the name is empty")
    return Path(text)


def run_for_hours(
    arguments: argparse.Namespace, stages: Container[str], work: Callable[[Executor | None, StageProgress], _Report]
) -> _Report | int:
    """Do work whose finished parts are kept; its report, or the exit code where it was interrupted.

    Args:
        stages: those whose parts are kept.
        work: called with the executor of `--dask` and with what to call as the work goes.
    """
    finished = 0
    try:
        with stages_bar(quiet=arguments.quiet) as bar, dask_executor(arguments.dask) as executor:

            def progress(stage: str, done: int, total: int) -> None:
                nonlocal finished
                if stage in stages:
                    finished = max(finished, done)
                bar(stage, done, total)

            return work(executor, progress)
    except KeyboardInterrupt:
        kept = f"{count(finished, 'finished part')} kept in {arguments.journal}, the same command takes up from there"
        nothing = "no part was finished (a part is one model on a few samples), so nothing was kept"
        said = f"jr-onnx {arguments.command}: interrupted; {kept if finished else nothing}"
        print(printable(said), file=sys.stderr)
        return _INTERRUPTED


def check_plots(folder: Path | None) -> None:
    """Refuse at once what could not be drawn after hours of work.

    Raises:
        OutputError: the name is one of a file, or the folder cannot be made or written to.
        RuntimeMissingError: matplotlib is not installed.
    """
    if folder is None:
        return
    try:
        nearest = next(one for one in (folder, *folder.parents) if one.exists())
        if not nearest.is_dir():
            raise OutputError(f"--plots {folder}: {nearest} is a file; name a folder")
        try_to_write(nearest / folder.name)
    except OSError as error:
        raise OutputError(f"--plots {folder}: cannot be written: {error.strerror or error}; name another") from error
    if importlib.util.find_spec("matplotlib") is None:
        raise RuntimeMissingError("--plots needs matplotlib; pip install matplotlib")
