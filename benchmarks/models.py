"""What hardening costs at run time on a CPU: well-known networks, every target, optimised and not.

    python benchmarks/models.py [--models resnet50 vgg16] [--batch 1 8] [--threads 1 2] [--results FILE.json] [--quick]

Each network is written with random weights and hardened; `jr_onnx.bench` runs all its files in turn in one process.
With `--threads 1`, times are those of the process, without what other programs take of a busy machine.
What is done is kept in the results file, so that a run that was interrupted goes on where it stopped. Prints Markdown.

The floor is what a loop that only reads and writes back takes for the same activations, each right after it was
written, on top of the original: the cost of any form that is a pass of its own. What stands in front of a MaxPool
alone counts in the size that it has behind it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

import jr_onnx
from jr_onnx.runtime.optimization.machine import this_machine

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

import architectures

JUMP = 0.05

#: Network -> how to make it, and rounds: as many as make about the same time.
NETWORKS: dict[str, tuple[Callable[[], onnx.ModelProto], int]] = {
    "resnet50": (architectures.resnet50, 11),
    "vgg16": (architectures.vgg16, 4),
    "densenet121": (architectures.densenet121, 11),
    "mobilenet_v2": (architectures.mobilenet_v2, 25),
    "resnet20": (architectures.resnet20, 100),
    "mlp": (architectures.mlp, 300),
}
TARGETS = ("custom-op", "hard-sigmoid", "standard", "subgraph")
OPTIMIZED = "custom-op, optimised"
VARIANTS = ("original", OPTIMIZED, *TARGETS)

PASS = """
#include <stddef.h>
#include <stdint.h>
void fill(uint64_t *data, size_t begin, size_t end) { for (size_t i = begin; i < end; ++i) data[i] = i; }
void pass(uint64_t *data, size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) data[i] ^= 0x8000000080000000u;
}
"""


def files(network: str, folder: Path) -> dict[str, Path]:
    """The original and what is made of it, by variant."""
    paths = {"original": folder / "original.onnx"}
    onnx.save(NETWORKS[network][0](), paths["original"])
    for target in TARGETS:
        paths[target] = folder / f"{target}.onnx"
        jr_onnx.convert(paths["original"], jump=JUMP, output=paths[target], target=target, clip=True)  # type: ignore[arg-type]
    paths[OPTIMIZED] = folder / "optimized.onnx"
    jr_onnx.optimize(paths["custom-op"], output=paths[OPTIMIZED])
    return {variant: paths[variant] for variant in VARIANTS}


def activations(path: Path, batch: int) -> list[int]:
    """The floats that each ReLU gives, or the MaxPool that alone takes them."""
    model = onnx.load(path, load_external_data=False)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    inferred = onnx.shape_inference.infer_shapes(model)
    values = {value.name: value.type.tensor_type.shape.dim for value in inferred.graph.value_info}
    sizes = []
    for node in model.graph.node:
        if node.op_type not in ("Relu", "Clip"):
            continue
        takers = [other for other in model.graph.node if node.output[0] in other.input]
        pooled = len(takers) == 1 and takers[0].op_type == "MaxPool"
        dims = values[takers[0].output[0] if pooled else node.output[0]]
        sizes.append(math.prod(dim.dim_value for dim in dims))
    return sizes


class Loop:
    """A loop in C over a buffer, on some threads."""

    def __init__(self, folder: Path, threads: int) -> None:
        source, library = folder / "pass.c", folder / "pass.so"
        source.write_text(PASS)
        subprocess.run(["cc", "-O3", "-march=native", "-shared", "-fPIC", source, "-o", library], check=True)
        self._library = ctypes.CDLL(str(library))
        self._threads = threads

    def run(self, name: str, buffer: np.ndarray, clock: Callable[[], float]) -> float:
        """Seconds, by the clock that the networks are timed with."""
        function = getattr(self._library, name)
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
        # Below 128 KB a thread, handing the work over costs more than the work: so it is in the kernels.
        parts = min(self._threads, max(1, buffer.nbytes >> 17))
        cuts = [buffer.nbytes // 8 * i // parts for i in range(parts + 1)]
        workers = [
            threading.Thread(target=function, args=(buffer.ctypes.data, a, b)) for a, b in list(pairwise(cuts))[1:]
        ]
        started = clock()
        for worker in workers:
            worker.start()
        function(buffer.ctypes.data, cuts[0], cuts[1])
        for worker in workers:
            worker.join()
        return clock() - started


def floor(sizes: list[int], loop: Loop, clock: Callable[[], float]) -> float:
    """Seconds for one pass over every activation, each just written; median of some rounds."""
    buffers = {size: np.empty(size // 2 + 1, np.uint64) for size in set(sizes)}

    def once() -> float:
        total = 0.0
        for size in sizes:
            loop.run("fill", buffers[size], clock)
            total += loop.run("pass", buffers[size], clock)
        return total

    return statistics.median([once() for _ in range(6)][1:])


def measure(network: str, batches: list[int], threads: list[int], quick: bool) -> dict[str, Any]:
    """Everything about one network, as JSON has it."""
    with tempfile.TemporaryDirectory(prefix="jr-onnx-models-") as name:
        folder = Path(name)
        paths = files(network, folder)
        rounds = 3 if quick else NETWORKS[network][1]
        clock = time.process_time if threads == [1] else time.perf_counter
        report = jr_onnx.bench(
            list(paths.values()), batches=batches, threads=threads, rounds=rounds, clock=clock
        ).to_dict()
        names = {str(path): variant for variant, path in paths.items()}
        for row in (*report["timings"], *report["files"]):
            row["file"] = names[row["file"]]
        floors = [
            {"batch": batch, "threads": count, "seconds": floor(activations(paths["original"], batch), loop, clock)}
            for count in threads
            for loop in [Loop(folder, count)]
            for batch in batches
        ]
    return {**report, "floors": floors, "load": os.getloadavg()[0]}


def table(results: dict[str, dict[str, Any]], batch: int, threads: int) -> Iterator[str]:
    """A row a network: ratios to the original; the geometric means last."""
    yield f"\nBatch {batch}, {threads} thread(s), time / the original's (middle half of the rounds):\n"
    columns = [variant for variant in VARIANTS if variant != "original"]
    yield f"| network | original, ms | floor | {' | '.join(columns)} | optimised / ThresholdedRelu |"
    yield "|---" * (len(columns) + 4) + "|"
    means: dict[str, list[float]] = {column: [] for column in (*columns, "floor", "to standard")}
    for network, result in results.items():
        rows = {r["file"]: r for r in result["timings"] if (r["batch"], r["threads"]) == (batch, threads)}
        seconds = rows["original"]["seconds"]
        passing = next(f["seconds"] for f in result["floors"] if (f["batch"], f["threads"]) == (batch, threads))
        means["floor"].append(1 + passing / seconds)
        means["to standard"].append(rows[OPTIMIZED]["ratio"]["median"] / rows["standard"]["ratio"]["median"])
        cells = []
        for column in columns:
            ratio = rows[column]["ratio"]
            means[column].append(ratio["median"])
            cells.append(f"{ratio['median']:.3f} ({ratio['low']:.2f} to {ratio['high']:.2f})")
        yield (
            f"| {network} | {seconds * 1e3:.2f} | {means['floor'][-1]:.3f} | {' | '.join(cells)} "
            f"| {means['to standard'][-1]:.3f} |"
        )
    mean = {column: statistics.geometric_mean(values) for column, values in means.items()}
    cells = [f"**{mean[column]:.3f}**" for column in columns]
    yield f"| geometric mean | | {mean['floor']:.3f} | {' | '.join(cells)} | {mean['to standard']:.3f} |"


def files_table(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Session creation and memory, beside the original's."""
    yield "\nMaking a session, time / the original's, and growth of the process to the end of a run, MB:\n"
    yield f"| network | {' | '.join(VARIANTS)} |"
    yield "|---" * (len(VARIANTS) + 1) + "|"
    for network, result in results.items():
        rows = {row["file"]: row for row in result["files"]}
        cells = (f"{rows[v]['creation_ratio']['median']:.2f}, {rows[v]['peak_bytes'] / 1e6:.0f}" for v in VARIANTS)
        yield f"| {network} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--results", type=Path, help="kept here, and not measured again; default: nowhere")
    parser.add_argument("--quick", action="store_true", help="three rounds; the figures mean little")
    arguments = parser.parse_args()
    kept: dict[str, Any] = {}
    if arguments.results and arguments.results.exists():
        kept = json.loads(arguments.results.read_text())
    for network in arguments.models:
        if network in kept:
            continue
        started = time.perf_counter()
        kept[network] = measure(network, arguments.batch, arguments.threads, arguments.quick)
        print(f"{network}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
        if arguments.results:
            arguments.results.write_text(json.dumps(kept, indent=1))
    results = {network: kept[network] for network in arguments.models}
    machine = this_machine("all")
    print(f"{platform.machine()}, {' '.join(machine.cpu_flags)}; onnxruntime {onnxruntime.__version__}; jump {JUMP}")
    print(f"load average meanwhile: {', '.join(format(result['load'], '.1f') for result in results.values())}")
    for threads in arguments.threads:
        for batch in arguments.batch:
            print("\n".join(table(results, batch, threads)))
    print("\n".join(files_table(results)))


if __name__ == "__main__":
    main()
