"""What other tools change in a model unasked: they load it and save it, and `jr_onnx.diff` counts the differences.

    pip install onnx-graphsurgeon onnx-ir polygraphy
    python benchmarks/round_trip.py

For jr-onnx it counts what `jr_onnx.check` finds in a converted model: anything but JumpReLU in place of Relu. It prints
Markdown.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs
import onnx_ir

import jr_onnx

MODELS = Path(__file__).parents[1] / "models"
NAMES = ("digits", "controlflow.dynamo", "functions.dynamo", "nested.torchscript")


def by_graphsurgeon(source: Path, target: Path) -> None:
    """Import and export."""
    onnx.save(gs.export_onnx(gs.import_onnx(onnx.load(source))), target)


def by_onnx_ir(source: Path, target: Path) -> None:
    """Load and save; onnxscript's rewriter does the same around its rules."""
    onnx_ir.save(onnx_ir.load(source), target)


def by_polygraphy(source: Path, target: Path) -> None:
    """`surgeon sanitize`, its way to save a model that it loaded."""
    command = [Path(sys.executable).with_name("polygraphy"), "surgeon", "sanitize", source, "-o", target]
    subprocess.run(command, check=True, capture_output=True)


TOOLS: dict[str, Callable[[Path, Path], None]] = {
    "onnx-graphsurgeon": by_graphsurgeon,
    "onnx-ir": by_onnx_ir,
    "polygraphy": by_polygraphy,
}


def main() -> int:
    """Print the table; the exit code."""
    heads = [f"{tool} {importlib.metadata.version(tool)}" for tool in TOOLS]
    print(f"| model | jr-onnx | {' | '.join(heads)} |\n|---|--:|{'--:|' * len(heads)}")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        for name in NAMES:
            source = MODELS / f"{name}.onnx"
            jr_onnx.convert(source, jump=0.5, output=target)
            counts = [len(jr_onnx.check(source, target, jump=0.5).findings)]
            for tool in TOOLS.values():
                target.unlink()
                tool(source, target)
                difference = jr_onnx.diff(source, target)
                counts.append(len(difference.sites) + len(difference.others))
            print(f"| {name} | {' | '.join(map(str, counts))} |")
            target.unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
