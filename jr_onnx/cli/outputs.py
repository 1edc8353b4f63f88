"""What a command shows: its report, its progress, and the files that it writes besides the model."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from jr_onnx.errors import OutputError
from jr_onnx.files.atomic import place_of, temporary_beside
from jr_onnx.files.splice import Progress
from jr_onnx.text import bytes_text

#: How the library names a parameter in a message: `force`, `force=True`, `level='extended'`.
_PARAMETER = re.compile(r"`(\w+)(?:=([^`]*))?`")


def in_options(text: str, parser: argparse.ArgumentParser) -> str:
    """A text of the library in the words of the command line: the option in place of each parameter in backticks.

    Parameters that this command has no option for are looked up among those of `convert`, which messages of other
    commands advise to give; what is not found there either stays as it is.
    """
    if not _PARAMETER.search(text):
        return text
    convert = argparse.ArgumentParser()
    importlib.import_module("jr_onnx.cli.convert").add_arguments(convert)
    actions = {one.dest: one for known in (convert, parser) for one in known._actions}

    def option(found: re.Match[str]) -> str:
        action = actions.get(found[1])
        if action is None:
            return found[0]
        name = action.option_strings[-1] if action.option_strings else str(action.metavar)
        value = "" if found[2] is None or action.nargs == 0 else found[2].strip("[]'")
        return f"{name} {value}" if value else name

    return _PARAMETER.sub(option, text)


class Report(Protocol):
    """What every report of the library can do."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""


_Report = TypeVar("_Report", bound=Report)


def print_report(arguments: argparse.Namespace, report: _Report, text: Callable[[_Report], str]) -> None:
    """Print a report: as JSON, as text for people, or not at all, as was asked for."""
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=2), flush=True)
    elif not arguments.quiet:
        print(in_options(text(report), arguments.parser), flush=True)


def check_output(path: Path | None, option: str, inputs: Iterable[str | Path]) -> None:
    """Refuse at once what could not be written after the work.

    Args:
        path: the file that is to be written; None where none is asked for.
        inputs: what is read, which nothing may take the place of.

    Raises:
        OutputError: it is an input, is a folder, or nothing can be written there.
    """
    if path is None:
        return
    try:
        if path.is_dir():
            raise OutputError(f"{option} {path}: is a folder; name another file")
        if not path.parent.is_dir():
            raise OutputError(f"{option} {path}: {path.parent}: no such folder; make it, or name another file")
        if path.exists() and any(Path(one).exists() and path.samefile(one) for one in inputs):
            raise OutputError(f"{option} {path}: is what is read; name another file")
        place = place_of(path)
        if place is not None:  # a pipe or device is written to as it is
            try_to_write(place)
    except OSError as error:
        raise OutputError(f"{option} {path}: cannot be written: {error.strerror or error}; name another") from error


def try_to_write(path: Path) -> None:
    """Make a file beside it, as the writing will, and remove it. Permissions tell little: root has them all."""
    temporary = temporary_beside(path)
    temporary.touch(exist_ok=False)
    temporary.unlink(missing_ok=True)  # another process may have taken it for stale


# --- Progress: a bar on a terminal, a line every half minute elsewhere, nothing where quiet was asked for -------------

#: Below this many bytes the work is done before a bar could be read.
_WORTH_A_BAR = 64 << 20

#: Seconds between two lines of progress.
_EVERY = 30.0


@contextmanager
def progress_bar(path: Path, beside: int = 0, *, quiet: bool = False) -> Iterator[Progress]:
    """What to call with the number of bytes that were written; the total is the size of the file, and `beside`."""
    size = beside
    with contextlib.suppress(OSError):
        size += path.stat().st_size
    with steps_bar("write", size, quiet=quiet or size < _WORTH_A_BAR, in_bytes=True) as progress:
        yield progress


@contextmanager
def steps_bar(what: str, total: int, *, quiet: bool = False, in_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """What to call with the number of steps that were done since its last call."""
    done = 0

    def advance(steps: int) -> None:
        nonlocal done
        done += steps
        show(what, done, total)

    with stages_bar(quiet=quiet, in_bytes=in_bytes) as show:
        yield advance


@contextmanager
def stages_bar(*, quiet: bool = False, in_bytes: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """What to call with the name of a stage, what was done in it, and what there is to do: a bar for each stage, with
    the time that is left."""
    if quiet:
        yield lambda *_: None
        return
    if not sys.stderr.isatty():
        text = bytes_text if in_bytes else str
        with _lines() as say:
            begun: dict[str, tuple[int, float]] = {}

            def tell(stage: str, done: int, total: int) -> None:
                first, started = begun.setdefault(stage, (done, time.monotonic()))
                left = (total - done) * (time.monotonic() - started) / max(done - first, 1)
                about = f", about {left / 60:.1f} min left" if first < done < total else ""
                say(f"{stage}: {text(done)} of {text(total)}{about}")

            yield tell
        return
    # Imported here because most runs need no bar, and rich takes a fifth of such a run's time to import.
    from rich import progress
    from rich.console import Console

    counted = progress.DownloadColumn() if in_bytes else progress.MofNCompleteColumn()
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), counted, progress.TimeElapsedColumn())
    console, an_hour = Console(stderr=True), 3600.0  # one step may take minutes, and what is left is known from several
    with progress.Progress(
        *columns, progress.TimeRemainingColumn(), console=console, transient=True, speed_estimate_period=an_hour
    ) as bar:
        tasks = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield show


@contextmanager
def _lines() -> Iterator[Callable[[str], None]]:
    """What to call with how far the work is: the last that was said is printed every half minute, with the time.

    By a thread of its own: a log shows that the command lives even while one step takes longer.
    """
    started, ended, latest = time.monotonic(), threading.Event(), ["begun"]

    def speak() -> None:
        while not ended.wait(_EVERY):
            print(f"{latest[0]} ({(time.monotonic() - started) / 60:.1f} min)", file=sys.stderr, flush=True)

    def say(text: str) -> None:
        latest[0] = text

    threading.Thread(target=speak, daemon=True).start()
    try:
        yield say
    finally:
        ended.set()
