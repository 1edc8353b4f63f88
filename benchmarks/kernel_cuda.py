"""JumpReLU's CUDA kernels against a copy on the device, and against onnxruntime's own Relu and ThresholdedRelu.

    python benchmarks/kernel_cuda.py [KERNELS.cu ...] [--dtype float32 float16 uint8] [--json results.json]

First the kernels alone, beside a device-to-device copy of the same bytes and PyTorch's ReLU: one jump, in place, one
jump a channel (NCHW; NCHW with rows of 49; NHWC), and the sum of two tensors; for integers QuantizedJumpReLU. Then,
where onnxruntime has a CUDA provider that starts, chains of one op in a session. Everything is replayed from CUDA
graphs, in turn in one process, and timed by the device's clock (the kernels) or around the run (the sessions), so that
Python's own time does not count. GB/s counts the bytes read and written; figures are medians over rounds, and speeds
are shares of the copy's.
Other versions of cuda_kernels.cu, given as arguments, are run in turn with the one of the tree.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "gpu"), str(ROOT / "benchmarks")]

from cuda_kernels import SOURCE, Kernels, build, why_not  # noqa: E402 (it stands in tests/gpu)

SIZES = [1 << shift for shift in (10, 14, 17, 20, 22, 24, 26, 28, 30)]
CHANNELS, ROUNDS, DEPTH = 64, 25, 32
CUDA = "CUDAExecutionProvider"
Runs = dict[str, Callable[[], Any]]


def time_in_turn(runs: Runs, size: int) -> dict[str, float]:
    """Seconds a run: the median over rounds of a graph of as many launches as move about 256 MB, 200 at most."""
    import torch

    repeat = min(200, max(1, (256 << 20) // size))
    graphs = {}
    for name, run in runs.items():
        run()
        torch.cuda.synchronize()
        graphs[name] = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graphs[name]):
            for _ in range(repeat):
                run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS + 3):
        for name, graph in graphs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            times[name].append(start.elapsed_time(end) * 1e-3 / repeat)
    return {name: statistics.median(values[3:]) for name, values in times.items()}


def kernel_runs(name: str, kernels: Kernels, x: Any, z: Any, y: Any, one: Any, each: Any) -> Runs:
    """What one version of the kernels is timed on. `z` is as large as `x`, and is overwritten."""
    row = max(1, x.numel() // CHANNELS // 8)
    zero_point = None if x.is_floating_point() else one

    def run(x: Any, jump: Any, y: Any, inner: int = 1) -> Callable[[], Any]:
        if zero_point is None:
            return lambda: kernels(x, jump, y, inner)
        return lambda: kernels.quantized(x, jump, zero_point, y, inner)

    runs: Runs = {
        f"{name}one jump": run(x, one, y),
        f"{name}in place": run(z, one, z),
        f"{name}NCHW": run(x, each, y, inner=row),
        f"{name}NCHW, rows of 49": run(x, each, y, inner=49),
        f"{name}NHWC": run(x, each, y, inner=1),
    }
    if zero_point is None:
        runs[f"{name}add"] = lambda: kernels.add(x, z, one, y)
    return runs


def kernel_rows(versions: dict[str, Kernels], dtypes: list[str], sizes: list[int]) -> Iterator[dict[str, Any]]:
    import torch

    for dtype_name in dtypes:
        dtype: torch.dtype = getattr(torch, dtype_name)
        for size in sizes:
            count = size // dtype.itemsize
            jump = 0.5 if dtype.is_floating_point else 20
            x = (torch.randn(count, device="cuda", dtype=torch.float32) * 2 * jump).clamp(-120, 120)
            x = (x if dtype.is_signed else x.abs()).to(dtype)
            y, z = torch.empty_like(x), x.clone()
            one = torch.full((1,), jump, dtype=dtype, device="cuda")
            each = torch.full((CHANNELS,), jump, dtype=dtype, device="cuda")
            runs: Runs = {
                "copy": lambda x=x, y=y: y.copy_(x),
                "ReLU (torch)": lambda x=x, y=y: torch.clamp_min(x, 0, out=y),
                "in place (torch)": lambda z=z: torch.clamp_min(z, 0, out=z),
            }
            for name, kernels in versions.items():
                runs |= kernel_runs(name, kernels, x, z, y, one, each)
            seconds = time_in_turn(runs, size)
            speeds = {run: (3 if run.endswith("add") else 2) * size / value for run, value in seconds.items()}
            yield {
                "dtype": dtype_name,
                "bytes": size,
                "copy us": seconds["copy"] * 1e6,
                "copy GB/s": speeds["copy"] * 1e-9,
                **{run: speed / speeds["copy"] for run, speed in speeds.items() if run != "copy"},
            }


def session_run(op: str, element_type: int, size: int, x: Any, y: Any) -> Callable[[], Any]:
    """A run of a chain of one op, replayed by onnxruntime from a CUDA graph."""
    import onnxruntime
    from kernel_cpu import chain
    from onnx import helper

    import jr_onnx.runtime

    model = chain(op, element_type, size // (4 if element_type == 1 else 2), DEPTH)
    if op == "ThresholdedRelu":
        for node in model.graph.node:
            node.attribute.append(helper.make_attribute("alpha", 0.5))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    jr_onnx.runtime.register(options)
    providers = [(CUDA, {"enable_cuda_graph": "1"})]
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)
    return lambda: session.run_with_iobinding(binding)


def session_rows(sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Chains of one op under onnxruntime's CUDA provider: microseconds a node."""
    import numpy as np
    import onnxruntime

    for element_type, dtype in ((1, np.float32), (10, np.float16)):
        for size in sizes:
            shape = (1, CHANNELS, size // np.dtype(dtype).itemsize // CHANNELS)
            values = np.random.default_rng(0).standard_normal(shape, np.float32).astype(dtype)
            x = onnxruntime.OrtValue.ortvalue_from_numpy(values, "cuda", 0)
            y = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, "cuda", 0)
            ops = ("Relu", "ThresholdedRelu", "JumpReLU")
            runs = {op: session_run(op, element_type, size, x, y) for op in ops}
            times: dict[str, list[float]] = {op: [] for op in runs}
            for _ in range(ROUNDS + 3):
                for op, run in runs.items():
                    start = time.perf_counter()
                    run()
                    times[op].append(time.perf_counter() - start)
            medians = {op: statistics.median(values[3:]) / DEPTH * 1e6 for op, values in times.items()}
            ratios = {f"JumpReLU/{op}": medians["JumpReLU"] / medians[op] for op in ops[:2]}
            yield {
                "dtype": np.dtype(dtype).name,
                "bytes": size,
                **{f"{op} us": value for op, value in medians.items()},
                **ratios,
            }


def print_table(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    printed = []
    for row in rows:
        if not printed or row.keys() != printed[-1].keys():
            print("| " + " | ".join(row) + " |\n|" + "---|" * len(row))
        cells = (f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values())
        print("| " + " | ".join(cells) + " |", flush=True)
        printed.append(row)
    return printed


def cuda_provider_starts() -> bool:
    try:
        import onnxruntime
        from kernel_cpu import chain
    except ImportError:
        return False
    if CUDA not in onnxruntime.get_available_providers():
        return False
    model = chain("Relu", 1, CHANNELS, 1).SerializeToString()
    return CUDA in onnxruntime.InferenceSession(model, providers=[CUDA]).get_providers()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("others", type=Path, nargs="*", help="other versions of cuda_kernels.cu")
    parser.add_argument("--dtype", nargs="+", default=["float32", "float16", "bfloat16", "float64", "uint8", "int8"])
    parser.add_argument("--bytes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    if reason := why_not():
        print(f"not run: {reason}")
        return 0
    import torch

    print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}\n")
    with tempfile.TemporaryDirectory() as folder:
        versions = {"": Kernels(build(Path(folder), SOURCE))}
        for path in args.others:
            versions[f"{path.stem}: "] = Kernels(build(Path(folder), path))
        results = {"kernels": print_table(kernel_rows(versions, args.dtype, args.bytes))}
    if cuda_provider_starts():
        print()
        results["sessions"] = print_table(session_rows([size for size in args.bytes if size <= 1 << 28]))
    else:
        print("\nonnxruntime has no CUDA provider that starts here: Relu and ThresholdedRelu were not measured")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
