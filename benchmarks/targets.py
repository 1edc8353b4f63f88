"""What each target costs at run time in onnxruntime on CPU: ResNet-50, hardened models against the original.

    python benchmarks/targets.py [--batch 1 8] [--threads 1] [--rounds 15] [--jump 0.05]

All sessions live in one process and run in turn, a round at a time; the figure is the median over the rounds of
hardened / original within a round, so that a machine whose speed drifts does not matter. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import jr_onnx

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from architectures import resnet50

KERNELS = "custom-op, kernels"
TARGETS = {
    KERNELS: {"target": "custom-op"},
    "custom-op, function body": {"target": "custom-op"},
    "custom-op --inline": {"target": "custom-op", "inline": True},
    "subgraph": {"target": "subgraph"},
    "standard": {"target": "standard"},
    "hard-sigmoid": {"target": "hard-sigmoid"},
}


def sessions(threads: int, jump: float) -> dict[str, onnxruntime.InferenceSession]:
    """The original first, then one session a target."""
    original = resnet50()
    models = {"original": original}
    for name, options in TARGETS.items():
        hardened = jr_onnx.convert(original, jump=jump, **options).model
        assert hardened is not None
        models[name] = hardened
    return {name: _session(model, threads, kernels=name == KERNELS) for name, model in models.items()}


def _session(model: onnx.ModelProto, threads: int, *, kernels: bool) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    if kernels:
        jr_onnx.register(settings)
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def measure(ready: dict[str, onnxruntime.InferenceSession], batch: int, rounds: int) -> dict[str, list[float]]:
    """Seconds a run, by variant and round; the first round is warm-up and is not in it."""
    x = np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32)
    times: dict[str, list[float]] = {name: [] for name in ready}
    for number in range(rounds + 1):
        for name, session in ready.items():
            start = time.perf_counter()
            session.run(None, {"x": x})
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--jump", type=float, default=0.05)
    arguments = parser.parse_args()
    ready = sessions(arguments.threads, arguments.jump)
    columns = {batch: measure(ready, batch, arguments.rounds) for batch in arguments.batch}
    print(f"onnxruntime {onnxruntime.__version__}, {arguments.threads} thread(s), {arguments.rounds} rounds\n")
    print("| ResNet-50 | " + " | ".join(f"batch {batch}" for batch in columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name in ready:
        cells = []
        for times in columns.values():
            ratios = [own / base for own, base in zip(times[name], times["original"], strict=True)]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
