"""Export the small test networks with both of torch's ONNX exporters.

    python models/export.py [--out DIR]

Every model is compared with torch in ONNX Runtime before it is written.
"""

from __future__ import annotations

import argparse
import io
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import networks
import onnx
import onnxscript
import torch
from networks import FUNCTION_DOMAIN, NETWORKS, Network
from onnx_files import all_nodes, compare, save, strip_paths
from onnxscript import opset20 as op

HERE = Path(__file__).resolve().parent
SIZE_LIMIT = 60_000
TORCHSCRIPT_OPSET = 17


@onnxscript.script(onnxscript.values.Opset(FUNCTION_DOMAIN, 1))
def ReluBlock(x, weight, bias):  # type: ignore[no-untyped-def] # noqa: N802 - an ONNX function, not Python
    return op.Add(op.Relu(op.Gemm(x, weight, bias, transB=1)), x)


def export_dynamo(name: str, network: Network) -> onnx.ModelProto:
    """Export through torch.export, at the exporter's default opset.

    The exporter inlines every function that it knows. The `functions` network therefore calls
    one that it does not know, and the body is added here.
    """
    batch: dict[int, Any] = {network.batch_axis: torch.export.Dim("N")}
    program = torch.onnx.export(
        network.build_for("dynamo"),
        network.inputs(),
        dynamo=True,
        input_names=network.input_names,
        output_names=["y"],
        dynamic_shapes=(batch,) if network.steps is None else (batch, None),
        verbose=False,
    )
    if program is None:
        raise RuntimeError(f"{name}: the exporter gave no program")
    model = program.model_proto
    if name == "functions":
        model.functions.append(ReluBlock.to_function_proto())
    return model


def export_torchscript(name: str, network: Network) -> onnx.ModelProto:
    """Export through TorchScript, the older exporter that many existing files come from."""
    model: Any = network.build_for("torchscript")
    if network.scripted:
        model = torch.jit.script(model)
    buffer: Any = io.BytesIO()
    torch.onnx.export(
        model,
        network.inputs(),
        buffer,
        dynamo=False,
        opset_version=TORCHSCRIPT_OPSET,
        input_names=network.input_names,
        output_names=["y"],
        dynamic_axes={"x": {network.batch_axis: "N"}, "y": {output_batch_axis(network): "N"}},
        export_modules_as_functions={networks.ReluBlock} if name == "functions" else False,
    )
    return onnx.load_model_from_string(buffer.getvalue())


def output_batch_axis(network: Network) -> int:
    """The output axis along which two batch sizes differ."""
    reference = network.build()
    with torch.no_grad():
        shapes = [reference(*network.inputs(batch)).shape for batch in (2, 5)]
    (axis,) = [i for i, (a, b) in enumerate(zip(*shapes, strict=True)) if a != b]
    return axis


EXPORTERS: dict[str, Callable[[str, Network], onnx.ModelProto]] = {
    "dynamo": export_dynamo,
    "torchscript": export_torchscript,
}


def export_one(name: str, exporter: str, out: Path) -> None:
    """Export, clean, compare for several batches, write."""
    network = NETWORKS[name]
    model = EXPORTERS[exporter](name, network)
    strip_paths(model)
    reference = network.build()
    for seed, batch in enumerate((3, 1, 8, 2)):
        compare(model, reference, network.input_names, network.inputs(batch, seed), network.atol)
    path = out / f"{name}.{exporter}.onnx"
    size = save(model, path, SIZE_LIMIT)
    kinds = Counter(node.op_type for node in all_nodes(model))
    wanted = ", ".join(f"{kinds[kind]} {kind}" for kind in ("Relu", "Clip", "RNN") if kinds[kind])
    print(f"{path.name}: {size} bytes, {wanted}")


def main(argv: Sequence[str] | None = None) -> int:
    """Export every network by every exporter that can."""
    parser = argparse.ArgumentParser(description="Export the small test networks to ONNX.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: this folder)")
    out: Path = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The older exporter is deprecated, and asked for on purpose.
        for name, network in NETWORKS.items():
            for exporter in network.exporters:
                export_one(name, exporter, out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
