"""Progress bars for what takes long, on a terminal only."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jr_onnx.modelfile.copying import Progress

#: Below this many bytes the work is done before a bar could be read.
_WORTH_A_BAR = 64 << 20


@contextmanager
def progress_bar(path: Path, beside: int = 0) -> Iterator[Progress]:
    """What to call with the number of bytes that were written; the total is the size of the file, and `beside`."""
    size = beside
    with contextlib.suppress(OSError):
        size += path.stat().st_size
    if size < _WORTH_A_BAR or not sys.stderr.isatty():
        yield lambda _: None
        return
    # Imported here because most runs need no bar, and rich takes a fifth of such a run's time to import.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("write", total=size)
        yield lambda written: bar.update(task, advance=written)


@contextmanager
def steps_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """What to call with the number of steps that were done since its last call."""
    done = 0

    def advance(steps: int) -> None:
        nonlocal done
        done += steps
        show(what, done, total)

    with stages_bar() as show:
        yield advance


@contextmanager
def stages_bar() -> Iterator[Callable[[str, int, int], None]]:
    """What to call with the name of a stage, what was done in it, and what there is to do: a bar for each stage, with
    the time that is left."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield show
