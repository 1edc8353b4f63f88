"""What a benchmark measures, and how: times, memory in a process of its own, and the time of each operator."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np

from jr_onnx.runtime.execution import (
    Arrays,
    CannotRunError,
    library_problem,
    onnxruntime,
    session_errors,
    session_options,
    taken,
)
from jr_onnx.runtime.sessions import session as kernel_session
from jr_onnx.text import one_line


@dataclass(frozen=True)
class Ratio:
    """The ratios of a file to the first one, each within one round: their median, and the middle half of them."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Timing:
    """One file at one batch size and number of threads; `seconds` is the median of a run."""

    file: str
    batch: int
    threads: int
    seconds: float
    ratio: Ratio


@dataclass(frozen=True)
class OpTypeTime:
    """Seconds a run that a session spends in the nodes of one op_type, from onnxruntime's profile."""

    op_type: str
    nodes: int
    seconds: float


@dataclass(frozen=True)
class FileCost:
    """What one file costs besides its runs, at the first batch size and number of threads.

    Attributes:
        creation: seconds to make a session, median.
        creation_ratio: the same to the first file's, round by round.
        peak_bytes: what a process of its own grows by from the import of onnxruntime to the end of a run.
        op_types: where the time of a run goes, the longest first.
    """

    file: str
    creation: float
    creation_ratio: Ratio
    peak_bytes: int
    op_types: tuple[OpTypeTime, ...]


@dataclass(frozen=True)
class BenchReport:
    """The result of `jr_onnx.bench`; ratios are to the first file."""

    provider: str
    onnxruntime: str
    rounds: int
    timings: tuple[Timing, ...]
    files: tuple[FileCost, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return asdict(self)


def ratio(own: Sequence[float], first: Sequence[float]) -> Ratio:
    """The rounds of one file to those of the first; there are at least two."""
    each = [a / b for a, b in zip(own, first, strict=True)]
    low, _, high = quantiles(each, n=4, method="inclusive")
    return Ratio(median(each), low, high)


# --- Sessions to measure: by kernel where there are kernels, and quiet while they wait --------------------------------


def open_session(path: Path, provider: str, threads: int, profile: str | None = None) -> Any:
    """A session on one model.

    Args:
        profile: the prefix of the file for onnxruntime's profile, to let it keep one.

    Raises:
        CannotRunError: onnxruntime does not load the model, or the provider does not start.
    """
    options = session_options(threads=threads)
    # Else the threads of a session that waits would spin on the cores of the one that runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    with blamed_on(path):
        return kernel_session(path, providers=[provider], session_options=options, kernels=not library_problem())


@contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """What onnxruntime says within is one line that names the file.

    Raises:
        CannotRunError: onnxruntime fails.
    """
    try:
        yield
    except session_errors() as error:
        raise CannotRunError(f"{path}: {one_line(error)}") from error


# --- The memory of one model, measured in a process of its own: in a shared one, the models cannot be told apart ------


def peak_memory(path: Path, provider: str, threads: int, feeds: Arrays) -> int:
    """Bytes by which a process grows from before the session is made to the end of a run.

    Raises:
        CannotRunError: the process fails.
    """
    with tempfile.TemporaryDirectory(prefix="jr-onnx-bench-") as folder:
        inputs = Path(folder) / "feeds.npz"
        # Their names apart: a file in an archive cannot have every name that an input can.
        np.savez(inputs, np.array(list(feeds)), *feeds.values())
        command = [sys.executable, "-m", __name__, str(path), provider, str(threads), str(inputs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise CannotRunError(f"{path}: {said[-1] if said else f'exit code {done.returncode}'}")
    return int(done.stdout.split()[-1])


def _resident(key: str) -> int:
    """VmRSS or VmHWM in bytes (Linux); 0 elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


def _main(model: str, provider: str, threads: str, feeds: str) -> None:
    with np.load(feeds) as file:
        inputs = {str(name): file[f"arr_{number}"] for number, name in enumerate(file["arr_0"], 1)}
    onnxruntime()
    before = _resident("VmRSS")  # the libraries are the same for every model
    session = open_session(Path(model), provider, int(threads))
    session.run(None, taken(session, inputs))
    print(_resident("VmHWM") - before)


if __name__ == "__main__":
    _main(*sys.argv[1:])


# --- Where the time of a run goes, from onnxruntime's own profile -----------------------------------------------------

_RUNS = 3


def op_type_times(path: Path, provider: str, threads: int, feeds: Arrays) -> tuple[OpTypeTime, ...]:
    """Seconds a run by op_type, the longest first: means over a few runs, without the first.

    Profiling itself takes time, some microseconds a node, which is not in them.

    Raises:
        CannotRunError: the model is not loaded, does not run on `feeds`, or its profile cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="jr-onnx-bench-") as folder:
        session = open_session(path, provider, threads, profile=str(Path(folder) / "profile"))
        with blamed_on(path):
            for _ in range(_RUNS + 1):
                session.run(None, taken(session, feeds))
        try:
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CannotRunError(f"onnxruntime's profile is cut off: is {folder} on a full disk? Set TMPDIR") from error
    return summed(events, _RUNS)


def summed(events: list[dict[str, Any]], runs: int) -> tuple[OpTypeTime, ...]:
    """The kernel times in a profile, by op_type; of each node the first, which warms up, is left out."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"], event["name"]].append(event["dur"] * 1e-6)
    totals: dict[str, list[float]] = defaultdict(list)
    for (op_type, _), each in times.items():
        # A node in a loop's body runs many times a run.
        totals[op_type].append(sum(each[len(each) // (runs + 1) :]) / runs)
    rows = (OpTypeTime(op_type, len(seconds), sum(seconds)) for op_type, seconds in totals.items())
    return tuple(sorted(rows, key=lambda row: -row.seconds))
