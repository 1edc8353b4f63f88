"""JumpReLU's CPU kernel against onnxruntime's own operators, and against the memory's limit.

    python benchmarks/kernel_cpu.py [--threads 1 2] [--dtype float32] [--seconds 1.0] [--json results.json]

Each model is a chain of one op, so that the cost of a call to `run` is shared. onnxruntime's Relu, JumpReLU (one jump,
and one a channel) and a loop that only reads and writes back a buffer of that size run in turn in one process; figures
are medians over the rounds, and ratios medians of the rounds' own ratios. For integers it is QuantizedJumpReLU, and
LessOrEqual and Where in place of Relu. "In place" is a node in the middle of the chain:
the time of a long chain less that of two nodes (neither the input nor the output of a session is ever shared).
"In place/stream" is its bandwidth over that of the loop; it says something beyond the last cache only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import jr_onnx.runtime

TYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
}
INTEGERS = ("uint8", "int8")
SIZES = [1 << shift for shift in (10, 12, 14, 16, 18, 20, 22, 24, 26, 28)]
CHANNELS = 64

STREAM = """
#include <stddef.h>
#include <stdint.h>
void stream(uint64_t *data, size_t begin, size_t end, size_t passes) {
  while (passes--) {
    for (size_t i = begin; i < end; ++i) data[i] ^= 0x8000000080000000u;
    __asm__ volatile("" ::: "memory");
  }
}
"""


@dataclass(frozen=True)
class Row:
    dtype: str
    threads: int
    bytes: int
    standard_us: float
    jump_us: float
    jump_over_standard: float
    channel_over_standard: float
    in_place_gb_s: float
    in_place_over_stream: float


def chain(op: str, element_type: int, size: int, depth: int, channels: int = 0) -> onnx.ModelProto:
    """`depth` times one op, one after the other, on [1, CHANNELS, size / CHANNELS]; Where comes with LessOrEqual."""
    shape = [1, CHANNELS, size // CHANNELS]
    names = ["x", *(f"t{i}" for i in range(depth - 1)), "y"]
    dtype = helper.tensor_dtype_to_np_dtype(element_type)
    constants = {
        "jump": np.full([channels, 1] if channels else [], 0.5 if dtype.kind == "f" else 20, dtype),
        "zero_point": np.zeros([], dtype),
    }
    nodes = []
    for a, b in pairwise(names):
        inputs = {
            "JumpReLU": [a, "jump"],
            "QuantizedJumpReLU": [a, "jump", "zero_point"],
            "Where": [f"{a}_mask", "zero_point", a],
        }.get(op, [a])
        if op == "Where":
            nodes.append(helper.make_node("LessOrEqual", [a, "jump"], [f"{a}_mask"]))
        nodes.append(helper.make_node(op, inputs, [b], domain="jr_onnx" if op.endswith("JumpReLU") else ""))
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", element_type, shape)],
        [helper.make_tensor_value_info("y", element_type, shape)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("jr_onnx", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def share_memory() -> None:
    """One arena for all sessions, so that they run in turn in the same memory.

    Else the fastest pages decide: the same chain in four sessions differed by 11% from one to the other.
    """
    info = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(info, None)


def runner(model: onnx.ModelProto, x: np.ndarray, y: np.ndarray, threads: int) -> Callable[[], None]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Else the threads of the sessions that wait would spin on the cores of the one that runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.use_env_allocators", "1")
    jr_onnx.runtime.register(options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for bind, name, array in ((binding.bind_input, "x", x), (binding.bind_output, "y", y)):
        bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    return lambda: session.run_with_iobinding(binding)


def streamer(buffer: np.ndarray, threads: int, passes: int, folder: Path) -> Callable[[], None]:
    """Reads and writes back `buffer`, which the caller keeps alive, `passes` times."""
    source, library = folder / "stream.c", folder / "stream.so"
    if not library.exists():
        source.write_text(STREAM)
        subprocess.run(["cc", "-O3", "-march=native", "-shared", "-fPIC", source, "-o", library], check=True)
    function = ctypes.CDLL(str(library)).stream
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_size_t]
    cuts = [buffer.nbytes // 8 * i // threads for i in range(threads + 1)]
    parts = [(buffer.ctypes.data, a, b, passes) for a, b in pairwise(cuts)]

    def run() -> None:
        workers = [threading.Thread(target=function, args=part) for part in parts[1:]]
        for worker in workers:
            worker.start()
        function(*parts[0])
        for worker in workers:
            worker.join()

    return run


def rounds(runs: dict[str, Callable[[], None]], seconds: float) -> dict[str, list[float]]:
    """Each of `runs` once a round, in turn, for about `seconds` in all; at least 7 rounds after 2 to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    stop = time.perf_counter() + seconds
    done = 0
    while done < 9 or time.perf_counter() < stop:
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
        done += 1
    return {name: values[2:] for name, values in times.items()}


def measure(dtype: str, threads: int, size_bytes: int, seconds: float, folder: Path) -> Row:
    element_type = TYPES[dtype]
    numpy_type = np.dtype(dtype)
    size = size_bytes // numpy_type.itemsize
    depth = max(10, min(256, (16 << 20) // size_bytes))
    x = np.random.default_rng(0).standard_normal((1, CHANNELS, size // CHANNELS), np.float32)
    standard, ours = "Relu", "JumpReLU"
    if dtype in INTEGERS:
        x, standard, ours = np.clip(np.abs(x) * 40, 0, 127), "Where", "QuantizedJumpReLU"
    x = x.astype(numpy_type)
    y = np.empty_like(x)
    models = {
        "standard": chain(standard, element_type, size, depth),
        "jump": chain(ours, element_type, size, depth),
        "two": chain(ours, element_type, size, 2),
        "channel": chain(ours, element_type, size, depth, CHANNELS),
    }
    runs = {name: runner(model, x, y, threads) for name, model in models.items()}
    # Memory as onnxruntime's arena gets it: NumPy would ask for huge pages, which flatters the loop.
    pages = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    buffer = np.frombuffer(pages, np.uint64)
    runs["stream"] = streamer(buffer, threads, depth - 2, folder)
    times = rounds(runs, seconds)
    in_place = [many - two for many, two in zip(times["jump"], times["two"], strict=True)]

    def ratio(over: list[float], under: list[float]) -> float:
        return statistics.median(a / b for a, b in zip(over, under, strict=True))

    return Row(
        dtype,
        threads,
        size_bytes,
        standard_us=statistics.median(times["standard"]) / depth * 1e6,
        jump_us=statistics.median(times["jump"]) / depth * 1e6,
        jump_over_standard=ratio(times["jump"], times["standard"]),
        channel_over_standard=ratio(times["channel"], times["standard"]),
        in_place_gb_s=2e-9 * size_bytes * (depth - 2) / statistics.median(in_place),
        in_place_over_stream=ratio(times["stream"], in_place),
    )


def table(rows: Iterator[Row]) -> Iterator[str]:
    columns = ("dtype", "threads", "bytes", "standard us", "JumpReLU us", "JumpReLU/standard")
    columns += ("per channel/standard", "in place GB/s", "in place/stream")
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for r in rows:
        yield (
            f"| {r.dtype} | {r.threads} | {r.bytes} | {r.standard_us:.2f} | {r.jump_us:.2f} "
            f"| {r.jump_over_standard:.3g} | {r.channel_over_standard:.3g} "
            f"| {r.in_place_gb_s:.1f} | {r.in_place_over_stream:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtype", nargs="+", choices=TYPES, default=["float32"])
    parser.add_argument("--bytes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    share_memory()
    rows: list[Row] = []

    def measured(folder: Path) -> Iterator[Row]:
        for dtype in args.dtype:
            for threads in args.threads:
                for size in args.bytes:
                    rows.append(measure(dtype, threads, size, args.seconds, folder))
                    yield rows[-1]

    with tempfile.TemporaryDirectory() as folder:
        for line in table(measured(Path(folder))):
            print(line, flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
