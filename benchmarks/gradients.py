"""Samples a second of gradients by onnxruntime, in one thread, beside those of the same models' scores alone.

    python benchmarks/gradients.py MODEL.onnx ... [--batch 32] [--seconds 1]

Each model has one input, of which all sizes but the first are fixed. The gradient is that of the cross-entropy, with
the true backward and with a smooth one; the inputs are random. The fastest run counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import onnxruntime

from jr_onnx.robustness.gradients.backward import TRUE, Backward, smooth
from jr_onnx.robustness.gradients.gradients import Gradients


def fastest(work: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest run."""
    work()
    found, end = [], time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def measure(path: str, batch: int, seconds: float) -> str:
    """One line of the table."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    x = np.random.default_rng(0).normal(size=(batch, *given.shape[1:])).astype(np.float32)
    gradients = Gradients(path, x.shape[1:])
    own = np.eye(gradients.classes, dtype=np.float32)[np.arange(batch) % gradients.classes]

    def gradient(backward: Backward) -> object:
        return gradients(x, -own[:, :, None], rivals=own == 0, backward=backward)

    works = (lambda: session.run(None, {given.name: x}), lambda: gradient(TRUE), lambda: gradient(smooth(0.25)))
    return f"{path:<40}" + "".join(f"{batch / fastest(work, seconds):>12.0f}" for work in works)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    print(f"{'samples a second':<40}{'scores':>12}{'true':>12}{'smooth':>12}")
    for path in arguments.models:
        print(measure(path, arguments.batch, arguments.seconds))


if __name__ == "__main__":
    main()
