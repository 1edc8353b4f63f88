"""Whole networks under onnxruntime's CUDA provider: Relu against each form of JumpReLU.

    python benchmarks/models_cuda.py [--network resnet50] [--seconds 120] [--json results.json]

Forms: the custom op with its kernel, the same file with the function body, ThresholdedRelu, and what
`optimize --provider cuda` writes. Sessions run in turn in one process with inputs and outputs bound to the device;
figures are medians of the rounds' ratios to the original's time. "same bits" says which forms gave the outputs of the
custom op, "transposes" how many Transpose nodes are in the graph as onnxruntime optimised it. --seconds ends it early.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

with contextlib.suppress(ImportError):
    import torch  # noqa: F401 (before onnxruntime: it brings the CUDA libraries that the provider needs)
import numpy as np
import onnx
import onnxruntime

import jr_onnx
import jr_onnx.runtime

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))
import architectures

CUDA, JUMP = "CUDAExecutionProvider", 0.05
ORIGINAL, CUSTOM = "Relu", "custom op"
GRAPH, NCHW, NHWC = {"enable_cuda_graph": "1"}, {}, {"prefer_nhwc": "1"}
SETTINGS = [(1, "NCHW, CUDA graph", GRAPH), (32, "NCHW", NCHW), (32, "NHWC", NHWC), (1, "NCHW", NCHW)]
Feed = tuple[Any, Any, Any]  # a binding, its input and its output


@dataclass(frozen=True)
class Form:
    path: Path
    kernels: bool  # whether the custom-op library is registered


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = model.graph
    for weight in graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(weight).astype(np.float16)
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return model


def write_forms(folder: Path, network: str, dtype: str) -> dict[str, Form]:
    model = getattr(architectures, network)()
    original, custom, standard, fused = (folder / f"{dtype}.{name}.onnx" for name in ("relu", "op", "standard", "add"))
    onnx.save(to_float16(model) if dtype == "float16" else model, original)
    jr_onnx.convert(original, jump=JUMP, clip=True, output=custom)
    jr_onnx.convert(original, jump=JUMP, clip=True, output=standard, target="standard")
    jr_onnx.optimize(custom, output=fused, provider="cuda")
    return {
        ORIGINAL: Form(original, False),
        CUSTOM: Form(custom, True),
        "optimised": Form(fused, True),
        "function body": Form(custom, False),
        "ThresholdedRelu": Form(standard, False),
    }


def open_session(form: Form, provider: str, options: dict[str, str], saved: Path) -> tuple[Any, dict[str, int]]:
    """The session, and how many nodes of each op_type its optimised graph has."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.optimized_model_filepath = str(saved)
    settings.add_session_config_entry("session.optimized_model_external_initializers_file_name", saved.name + ".data")
    if provider == CUDA:
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if form.kernels:
        jr_onnx.runtime.register(settings)
    session = onnxruntime.InferenceSession(str(form.path), settings, providers=[(provider, options)])
    nodes = onnx.load(saved, load_external_data=False).graph.node
    return session, collections.Counter(node.op_type for node in nodes)


def bound(session: Any, batch: int, dtype: str, device: str) -> Feed:
    (feed,), (result,) = session.get_inputs(), session.get_outputs()
    values = np.random.default_rng(0).standard_normal([batch, *feed.shape[1:]]).astype(dtype)
    x = onnxruntime.OrtValue.ortvalue_from_numpy(values, device, 0)
    y = onnxruntime.OrtValue.ortvalue_from_shape_and_type([batch, *result.shape[1:]], np.dtype(dtype), device, 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input(feed.name, x)
    binding.bind_ortvalue_output(result.name, y)
    return binding, x, y


def measure(
    forms: dict[str, Form], dtype: str, setting: tuple[int, str, dict[str, str]], provider: str, rounds: int
) -> dict[str, Any]:
    batch, layout, options = setting
    device = "cuda" if provider == CUDA else "cpu"
    runs: dict[str, tuple[Any, Feed]] = {}
    nodes: dict[str, dict[str, int]] = {}
    row: dict[str, Any] = {"dtype": dtype, "batch": batch, "layout": layout, "failed": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, form in forms.items():
            try:
                session, nodes[name] = open_session(form, provider, options, Path(folder) / "saved.onnx")
                runs[name] = session, bound(session, batch, dtype, device)
                for _ in range(3):
                    session.run_with_iobinding(runs[name][1][0])
            except Exception as error:  # noqa: BLE001 (one form that fails must not cost the figures of the others)
                runs.pop(name, None)
                row["failed"][name] = str(error).splitlines()[0][:200]
    answers = {name: feed[2].numpy() for name, (_, feed) in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (session, (binding, _, _)) in runs.items():
            start = time.perf_counter()
            session.run_with_iobinding(binding)
            times[name].append(time.perf_counter() - start)
    row[f"{ORIGINAL} ms"] = statistics.median(times[ORIGINAL]) * 1e3
    for name in times:
        if name != ORIGINAL:
            row[name] = statistics.median(a / b for a, b in zip(times[name], times[ORIGINAL], strict=True))
    row["same bits"] = [n for n in answers if CUSTOM in answers and np.array_equal(answers[n], answers[CUSTOM])]
    row["transposes"] = {name: count["Transpose"] for name, count in nodes.items()}
    row["nodes"] = {name: sum(count.values()) for name, count in nodes.items()}
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50", help="a function of models/architectures.py")
    parser.add_argument("--provider", default=CUDA, help="CPUExecutionProvider rehearses it")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no setting after this time")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    start, rows = time.monotonic(), []
    settings = [(dtype, setting) for dtype in ("float16", "float32") for setting in SETTINGS]
    if args.provider != CUDA:
        settings = [("float32", (1, "CPU", {}))]
    with tempfile.TemporaryDirectory() as folder:
        forms = {dtype: write_forms(Path(folder), args.network, dtype) for dtype in {dtype for dtype, _ in settings}}
        for dtype, setting in settings:
            if time.monotonic() - start > args.seconds:
                print("out of time before", dtype, setting[:2])
                break
            rows.append(measure(forms[dtype], dtype, setting, args.provider, args.rounds))
            print(
                {key: round(value, 3) if isinstance(value, float) else value for key, value in rows[-1].items()},
                flush=True,
            )
            if args.json:
                args.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
