"""Time and memory of `jr-onnx convert` against a plain file copy and against the usual tools, in one run.

Every figure is of a whole process, interpreter start and imports included. The variants take turns and the ratios are
taken within a round, because a shared machine slows down and speeds up between rounds. This process imports no ONNX
package: a child's peak memory starts at that of the process that started it, so it has to stay small.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

DIGITS = Path(__file__).parents[1] / "models" / "digits.onnx"
VARIANTS = Path(__file__).with_name("convert_variants.py")

#: protobuf, and with it every other tool, ends at 2 GB; this model is just below, the next one above.
INLINE_GB, LARGE_GB, EXTERNAL_GB, QUICK_GB = 1.7, 2.5, 10.0, 0.02

MEGABYTE, GIGABYTE = 1e6, 1e9

#: What issue 2 promises: the ratio to the copy, megabytes, seconds.
RATIO_GOAL, MEMORY_GOAL, EXTERNAL_GOAL, SMALL_GOAL = 1.25, 150.0, 1.0, 0.6


@dataclass(frozen=True)
class Tool:
    """One way to get from a model to the output.

    Attributes:
        label: its name in the table.
        command: the command line from source and output.
        package: what has to be installed for it.
        slow: takes many times as long as the copy, so it gets fewer rounds, after the others.
    """

    label: str
    command: Callable[[Path, Path], list[str]]
    package: str = ""
    slow: bool = False


def _cp(source: Path, output: Path) -> list[str]:
    return ["sh", "-c", 'cp "$0" "$1" && sync "$1"', str(source), str(output)]


def _jr_onnx(source: Path, output: Path) -> list[str]:
    script = shutil.which("jr-onnx", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    start = [script] if script else [sys.executable, "-m", "jr_onnx.cli.main"]
    return [*start, "convert", str(source), "--jump", "0.5", "-o", str(output)]


def _variant(name: str) -> Callable[[Path, Path], list[str]]:
    return lambda source, output: [sys.executable, str(VARIANTS), name, str(source), str(output)]


TOOLS = {
    "cp": Tool("`cp` + fsync", _cp),
    "copy": Tool("Python's `shutil.copyfile` + fsync", _variant("copy")),
    "jr-onnx": Tool("**`jr-onnx convert`**", _jr_onnx, "jr_onnx"),
    "onnx": Tool("onnx load, rename, save", _variant("onnx"), "onnx", slow=True),
    "graphsurgeon": Tool("graphsurgeon import, rename, export", _variant("graphsurgeon"), "onnx_graphsurgeon", True),
    "onnx_ir": Tool("onnx_ir load, rename, save", _variant("onnx_ir"), "onnx_ir", True),
}
COPIES, OURS = ("cp", "copy"), "jr-onnx"


@dataclass
class Series:
    """All runs of one tool on one model, by round."""

    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)


Measured = dict[str, Series]


def run_child(command: list[str]) -> tuple[float, float]:
    """Wall time in seconds and peak memory in megabytes of one child process.

    Raises:
        SystemExit: the child failed; its output is shown.
    """
    with tempfile.TemporaryFile("w+") as printed:
        started = time.perf_counter()
        child = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            printed.seek(0)
            sys.exit(f"failed ({child.returncode}): {' '.join(command)}\n{printed.read()}")
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, usage.ru_maxrss * unit / MEGABYTE


def run_once(tool: Tool, source: Path) -> tuple[float, float]:
    """One run on a settled disk; the output is checked to be there, and deleted."""
    output = source.with_name("output.onnx")
    os.sync()
    try:
        figures = run_child(tool.command(source, output))
        # Nodes may become shorter, and the small model has doc strings that some tools drop; weights have to be there.
        if output.stat().st_size < source.stat().st_size / 2:
            sys.exit(f"{tool.label}: the output is much smaller than the model")
    finally:
        output.unlink(missing_ok=True)
    return figures


def measure(title: str, source: Path, names: list[str], rounds: int) -> Measured:
    """Run the tools in turn; a third as many rounds of the slow ones follow, as their memory slows down who comes next.

    The order is another one in every round: what a run leaves in the page cache, and in a virtual machine the memory
    that it has given back, makes the next one faster or slower.
    """
    measured = {name: Series() for name in names}
    fast = [name for name in names if not TOOLS[name].slow]
    slow = [name for name in names if TOOLS[name].slow]
    run_once(TOOLS[(fast or slow)[0]], source)  # brings the source into the page cache, where it stays for all
    turns = [fast] * rounds + [slow] * max(1, rounds // 3)
    for turn in turns:
        for name in random.sample(turn, len(turn)):
            seconds, megabytes = run_once(TOOLS[name], source)
            measured[name].seconds.append(seconds)
            measured[name].megabytes.append(megabytes)
            print(f"{title}, run {len(measured[name].seconds)}: {name} {seconds:.2f} s", file=sys.stderr)
    return measured


def ratio(measured: Measured, name: str) -> float | None:
    """A tool's time to the faster copy's: the median over the rounds they share, else the ratio of their medians."""
    copies = [measured[copy].seconds for copy in COPIES if copy in measured]
    if not copies:
        return None
    own, reference = measured[name].seconds, min(copies, key=median)
    if TOOLS[name].slow:
        return median(own) / median(reference)
    return median(ours / copy for ours, copy in zip(own, reference, strict=True))


def verdict(measured: Measured, name: str, seconds_goal: float | None) -> str:
    """Whether our own command keeps its promises; the others have made none."""
    series = measured[name]
    if name != OURS:
        return ""
    reached = []
    if seconds_goal is not None:
        reached.append((f"< {seconds_goal} s", median(series.seconds) < seconds_goal))
    else:
        to_copy = ratio(measured, name)
        if to_copy is not None:
            reached.append((f"<= {RATIO_GOAL} x", to_copy <= RATIO_GOAL))
        reached.append((f"<= {MEMORY_GOAL:.0f} MB", max(series.megabytes) <= MEMORY_GOAL))
    return ", ".join(f"{goal}: {'met' if met else '**missed**'}" for goal, met in reached)


def rows(title: str, measured: Measured, seconds_goal: float | None, with_goals: bool) -> list[str]:
    """The lines of the table for one model."""
    lines = []
    for name, series in measured.items():
        to_copy = ratio(measured, name)
        cells = (
            title,
            TOOLS[name].label,
            str(len(series.seconds)),
            f"{median(series.seconds):.2f} s",
            f"{min(series.seconds):.2f} to {max(series.seconds):.2f} s",
            "" if to_copy is None else f"{to_copy:.2f}",
            f"{max(series.megabytes):.0f} MB",
            verdict(measured, name, seconds_goal) if with_goals else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def header() -> list[str]:
    """The first two lines of the table."""
    names = ("Model", "Tool", "Runs", "Wall, median", "Wall, range", "Times the copy", "Peak RSS", "Goal")
    return [f"| {' | '.join(names)} |", "|---|---|--:|--:|--:|--:|--:|---|"]


def machine(folder: Path) -> str:
    """What the figures depend on, in one line."""
    processor = "unknown processor"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGABYTE
    versions = [f"Python {sys.version.split()[0]}"]
    for package in ("onnx", "protobuf", "onnx-graphsurgeon", "onnx-ir"):
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{package} {version(package)}")
    hardware = f"{processor}, {os.cpu_count()} cores, {memory:.0f} GB memory, {_file_system(folder)}"
    return f"{time.strftime('%Y-%m-%d')}; {hardware}; {', '.join(versions)}"


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder lies on: the longest mount point above it decides."""
    kinds = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            point, kind = line.split()[1:3]
            if folder.resolve().is_relative_to(point):
                kinds[point] = kind
    return kinds[max(kinds, key=len)] if kinds else "unknown file system"


@contextlib.contextmanager
def generated(kind: str, folder: Path, gigabytes: float) -> Iterator[Path]:
    """A model made by a child, so that this process stays small; deleted with its data when the context ends."""
    path = folder / "model.onnx"
    try:
        run_child([sys.executable, str(VARIANTS), f"make-{kind}", str(path), str(gigabytes)])
        yield path
    finally:
        for made in folder.glob("model.onnx*"):
            made.unlink()


def warm_up(folder: Path, tools: list[str]) -> Path:
    """Let every tool run once, untimed: pip leaves bytecode for what it installs, an editable checkout has none yet.

    Returns:
        The small model, in the folder.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    small = folder / DIGITS.name
    shutil.copyfile(DIGITS, small)
    for name in tools:
        run_once(TOOLS[name], small)
    return small


def run_all(options: argparse.Namespace, folder: Path) -> list[str]:
    """Measure every model; the table."""
    tools: list[str] = options.tools
    small = warm_up(folder, tools)
    ours = [OURS] if OURS in tools else []
    copies = [name for name in tools if name in (*COPIES, OURS)]
    table = header()
    with generated("inline", folder, options.size_gb) as model:
        measured = measure("inline", model, tools, options.rounds)
        title = f"inline, {options.size_gb:g} GB"
        table += rows(title, measured, None, not options.quick)
    if ours and not options.quick:
        with generated("inline", folder, LARGE_GB) as model:
            measured = measure("large", model, copies, options.rounds)
            table += rows(f"inline, {LARGE_GB:g} GB", measured, None, True)
    if ours:
        with generated("external", folder, EXTERNAL_GB) as model:
            measured = measure("external", model, ours, options.rounds)
            title = f"external data, {EXTERNAL_GB:g} GB, same folder"
            table += rows(title, measured, EXTERNAL_GOAL, True)
        measured = measure("small", small, ours, 2 * options.rounds)
        table += rows(f"`models/{DIGITS.name}`, {DIGITS.stat().st_size / 1e6:.1f} MB", measured, SMALL_GOAL, True)
    return table


def installed(text: str) -> list[str]:
    """The tools of the comma-separated list, without those that are not installed."""
    names = text.split(",")
    unknown = sorted(set(names) - set(TOOLS))
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(TOOLS)}")
    missing = [name for name in names if TOOLS[name].package and find_spec(TOOLS[name].package) is None]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}", file=sys.stderr)
    return [name for name in TOOLS if name in names and name not in missing]


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-gb", type=float, help=f"size of the inline model, below 2 (default: {INLINE_GB})")
    parser.add_argument("--rounds", type=int, help="rounds; a third as many of the slow tools (default: 6)")
    parser.add_argument("--tools", type=installed, default=",".join(TOOLS), help="comma-separated (default: all)")
    parser.add_argument("--folder", type=Path, help="where to put the files, on the disk to measure (default: temp)")
    parser.add_argument("--quick", action="store_true", help="a smoke run: one round on a small model, no >2 GB model")
    options = parser.parse_args()
    options.size_gb = options.size_gb or (QUICK_GB if options.quick else INLINE_GB)
    options.rounds = options.rounds or (1 if options.quick else 6)
    if not options.tools:
        parser.error("none of these tools is installed")
    if not 0 < options.size_gb < 2.1 or options.rounds < 1:
        parser.error("--size-gb lies between 0 and 2.1 (protobuf's limit), --rounds is at least 1")
    return options


def main() -> int:
    """Measure and print."""
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the files are deleted then, too
    with tempfile.TemporaryDirectory(prefix="jr-onnx-benchmark-", dir=options.folder) as name:
        folder = Path(name)
        needed = 2.2 * (options.size_gb if options.quick else max(options.size_gb, LARGE_GB)) * GIGABYTE
        if shutil.disk_usage(folder).free < needed:
            sys.exit(f"{needed / GIGABYTE:.1f} GB of free disk needed; choose another disk with --folder")
        try:
            table = run_all(options, folder)
        except KeyboardInterrupt:
            print("interrupted; its files are deleted", file=sys.stderr)
            return 130
        print(machine(folder), "", *table, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
