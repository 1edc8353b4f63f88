"""graphsurgeon's front door gives the same networks as the file one: one plan, one table of forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from quantized_models import KINDS, quantized
from support import SHIPPED

import jr_onnx
from jr_onnx.reference import jump_relu

gs = pytest.importorskip("onnx_graphsurgeon", reason="needs onnx-graphsurgeon")

from jr_onnx.graphsurgeon import harden  # noqa: E402  (after importorskip)

TARGETS = ("custom-op", "subgraph", "standard")
NUMPY = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


def run(model: onnx.ModelProto, seed: int = 0) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(seed)
    feeds = {}
    for value in session.get_inputs():
        shape = [dim if isinstance(dim, int) else 3 for dim in value.shape]
        feeds[value.name] = draw.standard_normal(shape).astype(NUMPY[value.type])
    return session.run(None, feeds)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_harden_gives_the_bits_that_convert_gives(path: Path, target: str) -> None:
    model = onnx.load(path)
    graph = gs.import_onnx(model)
    report = harden(graph, jump=0.3, target=target, clip=True)
    exported = gs.export_onnx(graph)
    onnx.checker.check_model(exported, full_check=True)
    converted = jr_onnx.convert(model, jump=0.3, target=target, clip=True)
    assert [site.lowering for site in report.sites] == [site.lowering for site in converted.sites]
    for ours, theirs in zip(run(exported), run(converted.model), strict=True):
        np.testing.assert_array_equal(ours.view(np.uint8), theirs.view(np.uint8))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("activations", "form"), KINDS)
def test_so_it_does_of_integers(activations: str, form: str, target: str) -> None:
    model = quantized(activations, form)
    graph = gs.import_onnx(model)
    report = harden(graph, jump=0.1, target=target)
    assert len(report.sites) == 4
    exported = gs.export_onnx(graph)
    converted = jr_onnx.convert(model, jump=0.1, target=target)
    for ours, theirs in zip(run(exported), run(converted.model), strict=True):
        np.testing.assert_array_equal(ours.view(np.uint8), theirs.view(np.uint8))


def test_harden_reaches_bodies_inside_functions() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 18, "local": 1]>
        g (float[4] x, bool c) => (float[4] y) { y = local.F(x, c) }
        <domain: "local", opset_import: ["": 18]>
        F (a, c) => (b) {
            b = If (c) <
                then_branch = t () => (float[4] p) { p = Relu(a) },
                else_branch = e () => (float[4] q) { q = Neg(a) }
            >
        }
    """)
    graph = gs.import_onnx(model)
    report = harden(graph, jump=0.5)
    assert [site.path for site in report.sites] == ["local::F/If#0/then_branch/Relu#0"]
    session = onnxruntime.InferenceSession(gs.export_onnx(graph).SerializeToString())
    x = np.array([-1, 0.5, 0.6, 2], np.float32)
    (y,) = session.run(None, {"x": x, "c": np.array(True)})
    np.testing.assert_array_equal(y, jump_relu(x, 0.5))


def test_harden_keeps_the_node_objects_that_the_caller_holds() -> None:
    graph = gs.import_onnx(onnx.load(next(path for path in SHIPPED if path.stem == "digits")))
    relus = [node for node in graph.nodes if node.op == "Relu"]
    harden(graph, jump=0.5)
    assert [node.op for node in relus] == ["JumpReLU"] * 4
    assert all(any(node is held for node in graph.nodes) for held in relus)


def test_hardening_a_graph_twice_replaces_the_jump() -> None:
    graph = gs.import_onnx(onnx.load(next(path for path in SHIPPED if path.stem == "digits")))
    harden(graph, jump=0.5)
    harden(graph, jump=0.25)
    jumps = [node.inputs[1].values for node in graph.nodes if node.op == "JumpReLU"]
    assert len(jumps) == 4
    assert {float(jump) for jump in jumps} == {0.25}
    assert [function.name for function in graph.functions] == ["JumpReLU"]


def test_harden_refuses_what_convert_refuses() -> None:
    graph = gs.import_onnx(onnx.load(SHIPPED[0]))
    with pytest.raises(jr_onnx.OptionError, match="matches no node"):
        harden(graph, jump=0.5, exclude=["nothing"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("opset", [8, 11, 18])
def test_the_registered_jump_relu_gives_the_definition(dtype: type, opset: int) -> None:
    x = gs.Variable("x", dtype=np.dtype(dtype), shape=("n",))
    graph = gs.Graph(inputs=[x], opset=opset, ir_version=8)
    y = graph.jump_relu(x, 0.1)
    z = graph.jump_relu(y, gs.Constant("k", np.asarray(0.7, dtype)))
    graph.outputs = [y, z]
    exported = gs.export_onnx(graph)
    onnx.checker.check_model(exported, full_check=True)
    assert len(exported.functions) == 1
    values = np.array([-np.inf, -1, 0, 0.1, 0.7, 0.75, np.inf], dtype)
    first, second = onnxruntime.InferenceSession(exported.SerializeToString()).run(None, {"x": values})
    np.testing.assert_array_equal(first, jump_relu(values, dtype(0.1)))
    np.testing.assert_array_equal(second, jump_relu(values, dtype(0.7)))


def test_jump_relu_of_a_tensor_without_a_dtype_names_the_tensor() -> None:
    graph = gs.Graph(opset=18)
    with pytest.raises(jr_onnx.OptionError, match="'mystery' has dtype None"):
        graph.jump_relu(gs.Variable("mystery"), 0.5)


def test_what_is_no_graph_of_graphsurgeon_is_named() -> None:
    with pytest.raises(jr_onnx.OptionError, match=r"`graph`: an onnx_graphsurgeon\.Graph, .* type ModelProto"):
        harden(onnx.ModelProto(), jump=0.5)
