"""Run every target on every runtime, on the reference vector, and write docs/portability.md.

    python tools/portability.py [--keep FOLDER] [--output FILE]

Each runtime is installed into an environment of its own: with pip, or with npm where there is Node.js; the one for
browsers is tried where there is Chromium. Run it where jr_onnx is installed, and not in the clone's folder unless it is
an editable installation. Exit code: 0, or 1 if a runtime is not exact with what `convert --for` chooses.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import headless
import numpy as np
import onnx
from onnx import TensorProto, helper

import jr_onnx
from jr_onnx.conversion.portability import RUNTIMES, UNMEASURED
from jr_onnx.reference import jump_relu

HERE = Path(__file__).resolve().parent
PROBE = HERE / "portability_probe.py"
DOCUMENT = HERE.parent / "docs" / "portability.md"
NODE_EXAMPLE = HERE.parent / "examples" / "node" / "run.mjs"

JUMP = np.float32(0.5)
X = np.array([-np.inf, -1, -0.0, 0, 0.25, 0.5, np.nextafter(JUMP, np.float32(1)), 1, np.inf, np.nan], np.float32)
TARGETS: Mapping[str, dict[str, object]] = {
    "custom-op": {},
    "custom-op --inline": {"inline": True},
    "subgraph": {"target": "subgraph"},
    "standard": {"target": "standard"},
}


class RejectedError(Exception):
    """The runtime does not run the model; the message is its own."""


@dataclass(frozen=True)
class Candidate:
    """A runtime that is tried.

    Attributes:
        name: as `convert --for` has it.
        shown: as the table has it, with the version.
        run: the outputs for X, or RejectedError.
    """

    name: str
    shown: str
    run: Callable[[Path], np.ndarray]


def python_candidate(
    name: str, probe: str, package: str, folder: Path, *more: str, library: Path | None = None
) -> Candidate:
    """A runtime from PyPI. `more` are the other packages that it needs."""
    environment = folder / (package.replace("=", "") + "".join(more).replace("<", ""))
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", package, "numpy", *more]
        subprocess.run(pip, check=True)
    distribution = package.partition("=")[0]
    ask = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    version = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True).stdout.strip()

    def run(model: Path) -> np.ndarray:
        command = [str(python), str(PROBE), probe, str(model), *([str(library)] if library else [])]
        done = subprocess.run(command, input=" ".join(map(str, X)), capture_output=True, text=True)
        if done.returncode:
            raise RejectedError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it crashes")
        return np.array([float(text) for text in json.loads(done.stdout.splitlines()[-1])], np.float32)

    kind = " with the kernels" if library else ""
    return Candidate(name, f"{distribution} {version}{kind}", run)


def npm_candidates(folder: Path) -> list[Candidate]:
    """onnxruntime-node and onnxruntime-web, where there are Node.js and Chromium."""
    node, npm, browser = shutil.which("node"), shutil.which("npm"), headless.chromium()
    if node is None or npm is None:
        print("not tried: onnxruntime-node, onnxruntime-web: there is no Node.js here", file=sys.stderr)
        return []
    modules = folder / "npm" / "node_modules"
    if not modules.exists():
        modules.parent.mkdir(exist_ok=True)
        # Without the variable, the package's script downloads CUDA libraries.
        environment = {**os.environ, "ONNXRUNTIME_NODE_INSTALL_CUDA": "skip"}
        packages = ["onnxruntime-node", "onnxruntime-web"]
        subprocess.run(
            [npm, "install", "--silent", "--prefix", ".", *packages], cwd=modules.parent, env=environment, check=True
        )
    versions = {
        name: json.loads((modules / name / "package.json").read_text())["version"]
        for name in ("onnxruntime-node", "onnxruntime-web")
    }
    shutil.copy(NODE_EXAMPLE, modules.parent)

    def on_node(model: Path) -> np.ndarray:
        command = [node, str(modules.parent / NODE_EXAMPLE.name), str(model), f"1,{X.size}"]
        done = subprocess.run(command, input=" ".join(map(str, X)), capture_output=True, text=True)
        if done.returncode:
            raise RejectedError(done.stderr.strip())
        return np.array([float(text) for text in done.stdout.split()], np.float32)

    def in_browser(model: Path) -> np.ndarray:
        sent = headless.run_script(str(browser), _browser_script(model), {"": model.parent, "node_modules": modules})
        if sent.startswith("error"):
            raise RejectedError(sent)
        return np.array([float(text) for text in sent.split()], np.float32)

    found = [Candidate("onnxruntime-node", f"onnxruntime-node {versions['onnxruntime-node']}", on_node)]
    if browser is None:
        print("not tried: onnxruntime-web: there is no Chromium here", file=sys.stderr)
        return found
    return [*found, Candidate("onnxruntime-web", f"onnxruntime-web {versions['onnxruntime-web']} (wasm)", in_browser)]


def _browser_script(model: Path) -> str:
    values = ", ".join({"-inf": "-Infinity", "inf": "Infinity", "nan": "NaN"}.get(str(x), str(x)) for x in X)
    return f"""
import * as ort from "/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create("/{model.name}");
const x = new ort.Tensor("float32", Float32Array.from([{values}]), [1, {X.size}]);
const text = (value) => Object.is(value, -0) ? "-0" : String(value);
send(Array.from((await session.run({{ x }})).y.data, text).join(" "));
"""


def candidates(folder: Path) -> list[Candidate]:
    """Every runtime that can be tried here, the oldest onnxruntime first."""
    library = jr_onnx.library_path()
    ort = [
        python_candidate("onnxruntime", "onnxruntime", package, folder, *more, library=kernels)
        for package, more in (("onnxruntime==1.17.0", ("numpy<2",)), ("onnxruntime", ()))
        for kernels in (library, None)
    ]
    return [
        *ort,
        python_candidate("onnxruntime", "onnxruntime-openvino", "onnxruntime-openvino", folder),
        python_candidate("onnx-reference", "onnx", "onnx", folder),
        *npm_candidates(folder),
        python_candidate("openvino", "openvino", "openvino", folder),
        python_candidate("opencv", "opencv", "opencv-python-headless", folder),
        python_candidate("tract", "tract", "tract", folder),
    ]


def models(folder: Path) -> dict[str, Path]:
    """x -> Relu -> y, hardened in each way; opset 17, IR version 8."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, X.size]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "g", values[:1], values[1:])
    original = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    paths = {}
    for number, (target, options) in enumerate(TARGETS.items()):
        report = jr_onnx.convert(original, jump=float(JUMP), **options)  # type: ignore[arg-type]
        paths[target] = folder / f"{number}.onnx"
        onnx.save(report.model, paths[target])
    return paths


def verdict(got: np.ndarray) -> str:
    """How an output differs from the definition."""
    want = jump_relu(X, JUMP)
    differences = [
        f"{_text(x)} → {_text(y)}"
        for x, y, right in zip(X, got, want, strict=True)
        if not ((np.isnan(y) and np.isnan(right)) or y.tobytes() == right.tobytes())
    ]
    return "differs: " + ", ".join(differences) if differences else "exact"


def _quoted(message: str, model: Path) -> str:
    """A runtime's message as one line of code, without its backtrace."""
    said = " ".join(message.replace(str(model), "MODEL").partition("Stack backtrace")[0].split())
    return f"`{said[:330].replace('`', chr(39))}`"


def _text(value: np.float32) -> str:
    return "NaN" if np.isnan(value) else f"{value:g}"


PROVIDERS = """
## Execution providers of onnxruntime

`jr_onnx.session` and `jr-onnx deploy` use the kernel library for CPU and CUDA alone, which run node by node. Others
compile subgraphs: with the library registered they stop before each JumpReLU, which then runs on the CPU. With
onnxruntime-openvino 1.24.1 and ResNet-20 (batch 2, one thread) that makes 10 subgraphs of one, and takes two to four
times as long. So in a program of your own, leave the library out for them, or write the operators into the graph,
which `--for` does.

| `--for` | LessOrEqual and Where | ThresholdedRelu | how that is known |
|---|---|---|---|
| `cuda` | yes; bfloat16 in float | opset 10 to 21, not bfloat16 | run: 1.31.1, on an H200 ([gpu.md](gpu.md)) |
| `cuda-nhwc` | yes, in NHWC | the same | run: the same; 2 Transposes in ResNet-50, 100 with the kernels |
| `openvino` | yes | yes | run: 1.24.1; one subgraph, with the function and with `--inline` |
| `tensorrt` | yes | yes | read: the operators that onnx-tensorrt lists |
| `coreml` | yes, as an ML Program | no | read: the builders of onnxruntime's provider |
| `directml` | float and float16 | float and float16 | read: onnxruntime's list of kernels |
| `migraphx` | yes | yes | read: the operators that onnxruntime's provider lists |
| `qnn` | yes | yes | read: the builders of onnxruntime's provider |

Which forms CUDA runs at which opset is tested on onnxruntime-gpu 1.31.1, without a GPU. From opset 22 on it has no
ThresholdedRelu: with `--target standard`, onnxruntime copies to the CPU and back around each.
"""


def document(rows: list[tuple[Candidate, dict[str, str]]], rejections: list[str]) -> str:
    """The text of docs/portability.md."""
    lines = [
        "# Which target for which runtime",
        "",
        "Written by `tools/portability.py`; do not edit. A model with one Relu was hardened in each way, with jump",
        "0.5, and each runtime ran it on CPU on the reference vector: -inf, -1, -0, 0, 0.25, 0.5, the next float above",
        '0.5, 1, inf, NaN (float32, opset 17). "exact" means the bits of the definition, with any NaN for NaN.',
        "",
        "| runtime | " + " | ".join(f"`{target}`" for target in TARGETS) + " |",
        "|---" * (len(TARGETS) + 1) + "|",
    ]
    lines += [f"| {one.shown} | " + " | ".join(results[target] for target in TARGETS) + " |" for one, results in rows]
    lines += ["", "## What the runtimes say that reject a model", "", *(rejections or ["None did."])]
    lines += [
        "",
        "## What `jr-onnx convert --for RUNTIME` chooses",
        "",
        "| `--for` | is | how it runs JumpReLU |",
        "|---|---|---|",
    ]
    lines += [f"| `{runtime.name}` | `{runtime.options}` | {runtime.why} |" for runtime in RUNTIMES.values()]
    lines += ["", f"Not measured for this table: {', '.join(UNMEASURED)}. They hold an onnxruntime of their own."]
    return "\n".join(lines) + "\n" + PROVIDERS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="keep the environments in this folder, and use those that are there")
    parser.add_argument("--output", type=Path, default=DOCUMENT, help="default: docs/portability.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        folder.mkdir(exist_ok=True)
        files = models(Path(temporary))
        rows, rejections = [], []
        for candidate in candidates(folder):
            results = {}
            for target, file in files.items():
                try:
                    results[target] = verdict(candidate.run(file))
                except RejectedError as error:
                    results[target] = "rejects"
                    rejections.append(f"- {candidate.shown}, `{target}`: {_quoted(str(error), file)}")
            print(candidate.shown, results, flush=True)
            rows.append((candidate, results))
    arguments.output.write_text(document(rows, rejections), encoding="utf-8")
    wrong = [one.shown for one, results in rows if results[_needed(one.name)] != "exact"]
    print(f"wrote {arguments.output}" + (f"; not exact with what --for chooses: {', '.join(wrong)}" if wrong else ""))
    return int(bool(wrong))


def _needed(name: str) -> str:
    return "custom-op --inline" if RUNTIMES[name].inline else "custom-op"


if __name__ == "__main__":
    sys.exit(main())
