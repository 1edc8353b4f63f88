"""JumpReLU's CUDA kernel against a copy on the device, and against onnxruntime's own Relu and ThresholdedRelu.

    python benchmarks/kernel_cuda.py [--dtype float32 float16 bfloat16] [--json results.json]

First the kernels alone: JumpReLU out of place, in place and with one jump a channel, and a device-to-device copy of the
same bytes, in turn in one process, timed with CUDA events. Then, where onnxruntime has a CUDA provider that starts,
chains of one op in a session. GB/s counts the bytes read and the bytes written; all figures are medians over rounds.
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

from cuda_kernels import Kernels, build, why_not  # noqa: E402 (it stands in tests/gpu)

SIZES = [1 << shift for shift in (10, 14, 18, 20, 22, 24, 26, 28, 30)]
CHANNELS, ROUNDS, DEPTH = 64, 25, 32
CUDA = "CUDAExecutionProvider"


def time_in_turn(runs: dict[str, Callable[[], Any]], size: int) -> dict[str, float]:
    """Seconds a run: the median over rounds, each of many launches where one is too short to time."""
    import torch

    repeat = max(1, (64 << 20) // size)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS + 3):
        for name, run in runs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(repeat):
                run()
            end.record()
            end.synchronize()
            times[name].append(start.elapsed_time(end) * 1e-3 / repeat)
    return {name: statistics.median(values[3:]) for name, values in times.items()}


def kernel_rows(kernels: Kernels, dtypes: list[str], sizes: list[int]) -> Iterator[dict[str, Any]]:
    import torch

    for name in dtypes:
        dtype: torch.dtype = getattr(torch, name)
        for size in sizes:
            count = size // dtype.itemsize
            x = torch.randn(count, device="cuda", dtype=torch.float32).to(dtype)
            y, z = torch.empty_like(x), x.clone()
            one = torch.full((1,), 0.5, dtype=dtype, device="cuda")
            each = torch.full((CHANNELS,), 0.5, dtype=dtype, device="cuda")
            runs = {
                "copy": lambda x=x, y=y: y.copy_(x),
                "jump": lambda x=x, y=y, one=one: kernels(x, one, y),
                "in place": lambda z=z, one=one: kernels(z, one, z),
                "channel": lambda x=x, y=y, each=each, count=count: kernels(x, each, y, inner=count // CHANNELS),
            }
            seconds = time_in_turn(runs, size)
            speeds = {run: 2e-9 * size / value for run, value in seconds.items()}
            yield {"dtype": name, "bytes": size, **{f"{run} GB/s": speed for run, speed in speeds.items()}} | {
                "jump/copy": speeds["jump"] / speeds["copy"]
            }


def session_rows(sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Chains of one op under onnxruntime's CUDA provider: microseconds a node, float32."""
    import numpy as np
    import onnxruntime
    from kernel_cpu import chain
    from onnx import TensorProto, helper

    import jr_onnx.runtime

    for size in sizes:
        x = onnxruntime.OrtValue.ortvalue_from_numpy(
            np.random.default_rng(0).standard_normal((1, CHANNELS, size // 4 // CHANNELS), np.float32), "cuda", 0
        )
        y = onnxruntime.OrtValue.ortvalue_from_shape_and_type(x.shape(), np.float32, "cuda", 0)
        runs = {}
        for op in ("Relu", "ThresholdedRelu", "JumpReLU"):
            model = chain(op, TensorProto.FLOAT, size // 4, DEPTH)
            for node in model.graph.node:
                if op == "ThresholdedRelu":
                    node.attribute.append(helper.make_attribute("alpha", 0.5))
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            jr_onnx.runtime.register(options)
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[CUDA])
            binding = session.io_binding()
            binding.bind_ortvalue_input("x", x)
            binding.bind_ortvalue_output("y", y)
            runs[op] = lambda session=session, binding=binding: session.run_with_iobinding(binding)
        times: dict[str, list[float]] = {op: [] for op in runs}
        for _ in range(ROUNDS + 3):
            for op, run in runs.items():
                start = time.perf_counter()
                run()
                times[op].append(time.perf_counter() - start)
        medians = {op: statistics.median(values[3:]) / DEPTH * 1e6 for op, values in times.items()}
        ratios = {f"JumpReLU/{op}": medians["JumpReLU"] / medians[op] for op in ("Relu", "ThresholdedRelu")}
        yield {"bytes": size, **{f"{op} us": value for op, value in medians.items()}, **ratios}


def print_table(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    printed = []
    for row in rows:
        if not printed:
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
    parser.add_argument("--dtype", nargs="+", default=["float32", "float16", "bfloat16", "float64"])
    parser.add_argument("--bytes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    if reason := why_not():
        print(f"not run: {reason}")
        return 0
    import torch

    print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}\n")
    with tempfile.TemporaryDirectory() as folder:
        results = {"kernels": print_table(kernel_rows(Kernels(build(Path(folder))), args.dtype, args.bytes))}
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
