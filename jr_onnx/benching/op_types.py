"""Where the time of a run goes, from onnxruntime's own profile."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from jr_onnx.benching.report import OpTypeTime
from jr_onnx.benching.sessions import blamed_on, open_session, taken
from jr_onnx.running.ways import Arrays, CannotRunError

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
