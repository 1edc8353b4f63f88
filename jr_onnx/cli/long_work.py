"""What the commands that work for hours share: they take up where they were, and refuse at once what they must."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
from argparse import ArgumentTypeError
from pathlib import Path

from jr_onnx.cache_folder import cache_folder
from jr_onnx.cli.outputs import try_to_write
from jr_onnx.errors import OutputError, RuntimeMissingError
from jr_onnx.text import count, printable

_INTERRUPTED = 130


def add_scale_arguments(group: argparse._ArgumentGroup) -> None:
    """Who does the work, and where finished parts are kept."""
    group.add_argument("--workers", metavar="N", type=int, default=1, help="processes on this machine (default: 1)")
    group.add_argument(
        "--dask", metavar="SCHEDULER", help="the address of a Dask scheduler, in place of processes here"
    )
    group.add_argument(
        "--journal",
        metavar="DIR",
        type=named,
        default=cache_folder(),
        help="where finished parts are kept, for a run that is interrupted (default: %(default)s)",
    )


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """What is written for people and programs to read."""
    parser.add_argument("--report", metavar="FILE.html", type=named, help="write the report as one HTML page")
    parser.add_argument("--plots", metavar="DIR", type=named, help="write the charts as PNG and SVG (needs matplotlib)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def command_line() -> str:
    """The command that was typed; empty where it was none of ours."""
    return shlex.join(["jr-onnx", *sys.argv[1:]]) if Path(sys.argv[0]).name in ("jr-onnx", "__main__.py") else ""


def named(text: str) -> Path:
    """The type of an option that names a file or folder; an empty name would be the current folder."""
    if not text:
        raise ArgumentTypeError("the name is empty")
    return Path(text)


def interrupted(command: str, finished: int, journal: Path) -> int:
    """Say what an interruption leaves behind; the exit code."""
    kept = f"{count(finished, 'finished part')} kept in {journal}, the same command takes up from there"
    nothing = "no part was finished (a part is one model on at most 64 samples), so nothing was kept"
    print(printable(f"jr-onnx {command}: interrupted; {kept if finished else nothing}"), file=sys.stderr)
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
