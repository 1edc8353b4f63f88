"""`jr-onnx check` of what `jr-onnx optimize` wrote, by itself: clean as it is, and not when it was changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from checking import rules, shown
from support import SHIPPED, TARGETS

import jr_onnx

pytest.importorskip("onnxruntime")

RESIDUAL = next(path for path in SHIPPED if path.stem == "residual.torchscript")


def optimized(path: Path, folder: Path, target: str, provider: str) -> Path | None:
    """The model hardened and optimised; None where it has nothing to optimise."""
    once, output = folder / "once.onnx", folder / "optimized.onnx"
    jr_onnx.convert(path, jump=0.15, output=once, force=True, allow_empty=True, **TARGETS[target])
    level = {"level": "extended"} if provider == "cpu" else {}  # of any processor
    try:
        jr_onnx.optimize(once, output=output, provider=provider, force=True, **level)  # type: ignore[arg-type]
    except jr_onnx.ModelError as error:
        assert "no JumpReLU" in str(error)
        return None
    return output


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_optimize_wrote_is_clean(path: Path, target: str, tmp_path: Path) -> None:
    for provider in ("cpu", "cuda"):
        made = optimized(path, tmp_path, target, provider)
        report = None if made is None else jr_onnx.check(None, made, library=False, run=target == "custom-op")
        assert report is None or not report.findings, f"{provider}: {shown(report)}"


def jump_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return (node for node in model.graph.node if node.domain == "jr_onnx")


def leave_a_relu(model: onnx.ModelProto) -> None:
    node = next(jump_nodes(model))
    if node.op_type == "AddJumpReLU":
        node.op_type, node.domain = "Add", ""
        del node.input[2:]
    else:
        node.op_type, node.domain = "Relu", ""
        del node.input[1:]


def change_the_jump(model: onnx.ModelProto) -> None:
    name = next(jump_nodes(model)).input[-1]
    jump = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    value = np.nextafter(onnx.numpy_helper.to_array(jump), np.float32(1))
    jump.CopyFrom(onnx.numpy_helper.from_array(value, name))


def change_the_body(model: onnx.ModelProto) -> None:
    for function in model.functions:
        if function.domain == "jr_onnx":
            function.node[-1].input[:] = reversed(function.node[-1].input)


def drop_the_bodies(model: onnx.ModelProto) -> None:
    del model.functions[:]


def drop_the_count(model: onnx.ModelProto) -> None:
    for entry in model.metadata_props:
        if entry.key in ("jr_onnx.optimized_sites", "jr_onnx.sites"):
            entry.value = ""


def record_another_jump(model: onnx.ModelProto) -> None:
    next(entry for entry in model.metadata_props if entry.key == "jr_onnx.jump").value = "0.2"


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (leave_a_relu, "JR101"),
        (change_the_jump, "JR117"),
        (record_another_jump, "JR117"),
        (change_the_body, "JR114"),
        (drop_the_bodies, "JR114"),
        (drop_the_count, "JR112"),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_what_was_changed_since_is_not(
    change: Callable[[onnx.ModelProto], None], rule: str, provider: str, tmp_path: Path
) -> None:
    made = optimized(RESIDUAL, tmp_path, "custom-op", provider)
    assert made is not None
    model = onnx.load(made)
    change(model)
    onnx.save(model, made)
    assert rule in rules(jr_onnx.check(None, made, run=False))
