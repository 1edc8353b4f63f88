"""What hardening costs at run time where a model is quantized: ResNet-50 and MobileNetV2, quantized by onnxruntime.

    python benchmarks/quantized.py [--models resnet50] [--batch 1 8] [--rounds 15] [--kinds QUInt8-QDQ QInt8-QOperator]

Each network is written with random weights and quantized by `quantize_static` as it is, hardened after that, and the
other way round: hardened before it is quantized. `jr_onnx.bench` runs all its files in turn in one process, on one
thread, and times are those of the process, without what other programs take of a busy machine. Prints Markdown.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import jr_onnx
from jr_onnx.runtime.optimization.machine import this_machine

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

import architectures

JUMP = 0.05

NETWORKS = {"resnet50": architectures.resnet50, "mobilenet_v2": architectures.mobilenet_v2}

#: Activations and format of the quantizer; weights are int8.
KINDS = [f"{activations}-{form}" for activations in ("QUInt8", "QInt8") for form in ("QDQ", "QOperator")]

#: Column -> the arguments of `convert` after quantizing; None for hardening before it.
VARIANTS = {
    "custom-op": {"target": "custom-op"},
    "standard": {"target": "standard"},
    "hardened, then quantized": None,
}


class Images(CalibrationDataReader):  # type: ignore[misc]
    """Four random images."""

    def __init__(self, name: str) -> None:
        rng = np.random.default_rng(0)
        self._left = [{name: rng.standard_normal((1, 3, 224, 224)).astype(np.float32)} for _ in range(4)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self._left.pop() if self._left else None


def quantize(model: Path, kind: str, output: Path) -> None:
    """A model as onnxruntime's quantizer writes it."""
    activations, form = kind.split("-")
    name = onnx.load(model, load_external_data=False).graph.input[0].name
    quantize_static(
        model,
        output,
        Images(name),
        quant_format=QuantFormat[form],
        activation_type=QuantType[activations],
        weight_type=QuantType.QInt8,
    )


def files(network: str, kind: str, folder: Path) -> list[Path]:
    """The quantized original, and each variant."""
    plain, original = folder / "float.onnx", folder / "original.onnx"
    onnx.save(NETWORKS[network](), plain)
    quantize(plain, kind, original)
    made = [original]
    for number, options in enumerate(VARIANTS.values()):
        made.append(folder / f"{number}.onnx")
        if options is not None:
            jr_onnx.convert(original, jump=JUMP, output=made[-1], **options)  # type: ignore[arg-type]
            continue
        hardened = folder / "hardened.onnx"
        jr_onnx.convert(plain, jump=JUMP, output=hardened, clip=True)
        quantize(hardened, kind, made[-1])
    return made


def rows(network: str, kind: str, batches: list[int], rounds: int) -> Iterator[str]:
    """A row a batch size: ratios to the original."""
    with tempfile.TemporaryDirectory(prefix="jr-onnx-quantized-") as folder:
        paths = files(network, kind, Path(folder))
        report = jr_onnx.bench(paths, batches=batches, rounds=rounds, clock=time.process_time)
        for batch in batches:
            timings = {row.file: row for row in report.timings if row.batch == batch}
            ratios = [timings[str(path)].ratio for path in paths[1:]]
            cells = [f"{one.median:.3f} ({one.low:.2f} to {one.high:.2f})" for one in ratios]
            yield f"| {network} | {kind} | {batch} | {timings[str(paths[0])].seconds * 1e3:.1f} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    flags = " ".join(this_machine("all").cpu_flags)
    print(f"{platform.machine()}, {flags}; onnxruntime {onnxruntime.__version__}; one thread; jump {JUMP}")
    print("Time / the quantized original's (middle half of the rounds):\n")
    print(f"| network | quantized as | batch | original, ms | {' | '.join(VARIANTS)} |")
    print("|---" * (len(VARIANTS) + 4) + "|")
    for network in arguments.models:
        for kind in arguments.kinds:
            for row in rows(network, kind, arguments.batch, arguments.rounds):
                print(row, flush=True)


if __name__ == "__main__":
    main()
