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
    """What to call with the number of steps that were done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, advance=done)
