"""What `optimize` writes is sound: `check` runs it with and without the kernel library, and has nothing to say."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from support import BOOL, DOUBLE, FLOAT, FLOAT16, TARGETS, branch, make_model, newest_opset, node, type_id, value

import jr_onnx

SHAPE = [2, 4, 6, 6]
OPSETS = range(7, newest_opset() + 1)
STEPS = ("Relu", "Neg", "Add", "Mul", "Conv", "MaxPool", "Cast", "If")


def save_chain(path: Path, steps: Sequence[str], element_type: int, opset: int, ir_version: int) -> None:
    """x -> one step after the other -> the last value, of a Relu.

    A Cast goes to another type, through a Relu there, and back. An If has a Conv in a branch if there is one outside.
    """
    dtype = helper.tensor_dtype_to_np_dtype(element_type)
    through = FLOAT if element_type != FLOAT else FLOAT16
    two, kernel = np.asarray(2, dtype), np.linspace(-0.5, 0.5, 4 * 4 * 9).reshape(4, 4, 3, 3).astype(dtype)
    nodes, x = [], "x"
    for number, step in enumerate((*steps, "Relu")):
        y, inner = f"v{number}", [f"v{number}.{one}" for one in range(4)]
        if step == "Add":
            nodes.append(node("Add", f"{x} x", y))
        elif step == "Mul":
            nodes.append(node("Mul", f"{x} two", y))
        elif step == "Conv":
            nodes.append(node("Conv", f"{x} kernel", y, pads=[1, 1, 1, 1]))
        elif step == "MaxPool":
            nodes.append(node("MaxPool", x, y, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        elif step == "Cast":
            nodes += [node("Cast", x, inner[0], to=through), node("Relu", inner[0], inner[1])]
            nodes.append(node("Cast", inner[1], y, to=element_type))
        elif step == "If":
            constant = node("Constant", "", inner[0], value=numpy_helper.from_array(two))
            doubled = [constant, node("Mul", f"{x} {inner[0]}", inner[1]), node("Relu", inner[1], inner[2])]
            conv = node("Conv", f"{x} kernel", inner[1], pads=[1, 1, 1, 1])
            other = [conv if "Conv" in steps else node("Neg", x, inner[1])]
            other += [node("Relu", inner[1], inner[2]), node("Add", f"{inner[2]} x", inner[3])]
            bodies = branch(doubled, inner[2], element_type), branch(other, inner[3], element_type)
            nodes.append(node("If", "c", y, then_branch=bodies[0], else_branch=bodies[1]))
        else:
            nodes.append(node(step, x, y))
        x = y
    inputs = [value("x", element_type, SHAPE), value("c", BOOL, [])]
    outputs = [value(x, element_type, SHAPE)]
    initializers = {"two": two, "kernel": kernel}
    model = make_model(nodes, inputs, outputs, opset=opset, ir_version=ir_version, initializers=initializers)
    onnx.save(model, path)


def findings_after(
    steps: Sequence[str], element_type: int, opset: int, ir_version: int, target: str, level: str
) -> str:
    """What `check` finds in the optimised model and not in the hardened one."""
    with tempfile.TemporaryDirectory() as folder:
        original, hard, fast = (Path(folder) / f"{name}.onnx" for name in ("model", "hard", "fast"))
        save_chain(original, steps, element_type, opset, ir_version)
        jr_onnx.convert(original, jump=0.25, output=hard, **TARGETS[target])
        jr_onnx.optimize(hard, output=fast, level=level)  # type: ignore[arg-type]  # hypothesis draws it from a list
        after = {(f.rule, f.message) for f in jr_onnx.check(None, fast).findings}
        # No input may pass a jump, in both.
        before = {(f.rule, f.message) for f in jr_onnx.check(None, hard).findings} if after else set()
        return str(sorted(after - before) or "")


@given(
    steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=6),
    element_type=st.sampled_from((FLOAT16, FLOAT)),
    opset=st.sampled_from(OPSETS),
    ir_version=st.sampled_from((3, 7, 8, 10)),
    target=st.sampled_from(sorted(TARGETS)),
    level=st.sampled_from(("basic", "extended", "all")),
)
@settings(max_examples=60)
# onnxruntime's own casts have the same name in a branch and around it, and the same again in the next session.
@example(["Neg", "If", "Add"], FLOAT16, 13, 8, "subgraph", "all")
@example(["Add", "Relu", "Neg"], FLOAT16, 12, 8, "custom-op", "extended")
# A constant in a branch becomes an input of that branch, and so it does in what a function became.
@example(["If"], FLOAT, 11, 3, "hard-sigmoid", "basic")
@example(["Mul", "If"], FLOAT16, 18, 7, "inline", "basic")
# In the blocked layout, so have others.
@example(["Conv", "Relu", "MaxPool", "If", "Conv"], FLOAT, 13, 8, "custom-op", "all")
# One body of the function serves one element type there.
@example(["Cast", "Cast"], FLOAT, 8, 7, "standard", "all")
@example(["Add", "Relu", "Neg"], FLOAT16, 7, 8, "custom-op", "all")
def test_check_finds_nothing_in_what_is_written(
    steps: list[str], element_type: int, opset: int, ir_version: int, target: str, level: str
) -> None:
    assert not findings_after(steps, element_type, opset, ir_version, target, level)


@pytest.mark.parametrize("element_type", [FLOAT16, FLOAT], ids=type_id)
@pytest.mark.parametrize("opset", [7, 11, 13, 18])
def test_initializers_that_a_branch_lists_as_inputs_are_inputs_no_more(
    tmp_path: Path, opset: int, element_type: int
) -> None:
    """As IR version 3 wants it; a file that needs functions is of a later one."""
    k = np.arange(4).astype(helper.tensor_dtype_to_np_dtype(element_type))
    bodies = [
        helper.make_graph(
            [node("Mul", f"x {p}k", f"{p}m"), node("Relu", f"{p}m", f"{p}r"), node("Add", f"{p}r {p}k", f"{p}y")],
            "branch",
            [value(f"{p}k", element_type, [4])],
            [value(f"{p}y", element_type, [4])],
            [numpy_helper.from_array(k, f"{p}k")],
            value_info=[value(f"{p}m", element_type, [4])],
        )
        for p in "te"
    ]
    nodes = [node("If", "c", "z", then_branch=bodies[0], else_branch=bodies[1]), node("Relu", "z", "y")]
    inputs, outputs = [value("x", element_type, [4]), value("c", BOOL, [])], [value("y", element_type, [4])]
    onnx.save(make_model(nodes, inputs, outputs, opset=opset, ir_version=3), tmp_path / "model.onnx")
    for target in TARGETS.values():
        jr_onnx.convert(tmp_path / "model.onnx", jump=0.25, output=tmp_path / "hard.onnx", **target)
        jr_onnx.optimize(tmp_path / "hard.onnx", output=tmp_path / "fast.onnx")
        assert not jr_onnx.check(None, tmp_path / "fast.onnx").findings


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("element_type", [FLOAT16, FLOAT, DOUBLE], ids=type_id)
@pytest.mark.parametrize("opset", OPSETS)
def test_each_opset_type_and_target(opset: int, element_type: int, target: str) -> None:
    """Without what onnxruntime has no double kernel for, at some opsets."""
    steps = (
        ("Add", "Relu", "Cast", "If") if element_type == DOUBLE else ("Conv", "Relu", "MaxPool", "Cast", "If", "Add")
    )
    for ir_version in (3, 8):
        found = findings_after(steps, element_type, opset, ir_version, target, "all")
        assert not found, f"IR version {ir_version}: {found}"
