"""The front door for onnx_ir gives the models that the file one gives: one plan, one table of forms."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from quantized_models import KINDS, one_layer, quantized
from support import (
    EACH_TARGET,
    MODELS,
    SHIPPED,
    TARGETS,
    make_model,
    nested_model,
    node,
    relu_model,
    value,
    without_the_way_back,
)

import jr_onnx
from jr_onnx.conversion.forms.table import Target
from jr_onnx.reference import jump_relu

ir = pytest.importorskip("onnx_ir", reason="needs onnx-ir")

from onnx_ir.passes import PassManager, PostconditionError, PreconditionError, Sequential, common  # noqa: E402

from jr_onnx.ir import JumpReluPass, harden  # noqa: E402  (after importorskip)

DIGITS = next(path for path in SHIPPED if path.stem == "digits")


def hardened_both_ways(model: onnx.ModelProto, **arguments: Any) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """What `harden` makes of a model, and what onnx_ir reads and writes of what `convert` makes of it."""
    model = ir.to_proto(ir.from_proto(model))
    live = ir.from_proto(model)
    report = harden(live, **arguments)
    converted = jr_onnx.convert(model, **arguments)
    assert (report.sites, report.left_alone, report.notes) == (converted.sites, converted.left_alone, converted.notes)
    wanted = without_the_way_back(converted.model)
    return ir.to_proto(ir.from_proto(ir.to_proto(live))), ir.to_proto(ir.from_proto(wanted))


@EACH_TARGET
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_harden_gives_the_model_that_convert_gives(path: Path, target: str) -> None:
    ours, theirs = hardened_both_ways(onnx.load(path), jump=0.3, clip=True, **TARGETS[target])
    assert ours == theirs


@EACH_TARGET
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_quantized_models_are_hardened_on_their_integers(kind: tuple[str, str], target: str) -> None:
    ours, theirs = hardened_both_ways(quantized(*kind), jump=0.1, **TARGETS[target])
    assert ours == theirs


@EACH_TARGET
def test_bodies_at_any_depth_are_hardened(target: str) -> None:
    ours, theirs = hardened_both_ways(nested_model(), jump=0.3, **TARGETS[target])
    assert ours == theirs


@pytest.mark.parametrize(
    "arguments",
    [
        {"jump": 0.3, "jump_input": "threshold"},
        {"policy": jr_onnx.JumpReluPolicy(0.5, (jr_onnx.PolicyRule("*2*", 0.25),))},
        {"jump": 0.3, "exclude": ["*2*"]},
    ],
    ids=lambda arguments: "-".join(arguments),
)
def test_every_option_does_what_it_does_for_files(arguments: Mapping[str, Any]) -> None:
    ours, theirs = hardened_both_ways(onnx.load(DIGITS), **arguments)
    assert ours == theirs


def test_a_jump_input_takes_the_place_of_one_of_its_name() -> None:
    live = ir.load(DIGITS)
    harden(live, jump=0.5, jump_input="jump")
    once = ir.to_proto(live)
    harden(live, jump=0.25, jump_input="jump")
    converted = without_the_way_back(jr_onnx.convert(once, jump=0.25, jump_input="jump").model)
    assert ir.to_proto(live) == ir.to_proto(ir.from_proto(converted))
    assert [one.name for one in live.graph.inputs] == ["image", "jump"]


@pytest.mark.parametrize("ir_version", [3, 4, 7])
def test_older_ir_versions_are_raised_as_for_files(ir_version: int) -> None:
    model = make_model(
        [node("Add", "x w", "a"), node("Relu", "a", "y")],
        [value("x", shape=[2])],
        [value("y", shape=[2])],
        opset=9,
        ir_version=ir_version,
        initializers={"w": np.ones(2, np.float32)},
    )
    ours, theirs = hardened_both_ways(model, jump=0.5)
    assert ours == theirs
    assert [one.name for one in ours.graph.input] == ["x"]


@EACH_TARGET
@pytest.mark.parametrize("again", TARGETS)
def test_hardening_again_replaces_form_and_jump(target: str, again: str) -> None:
    live = ir.load(DIGITS)
    harden(live, jump=0.5, **TARGETS[target])
    once = ir.to_proto(live)
    harden(live, jump=0.25, **TARGETS[again])
    converted = without_the_way_back(jr_onnx.convert(once, jump=0.25, **TARGETS[again]).model)
    assert ir.to_proto(ir.from_proto(ir.to_proto(live))) == ir.to_proto(ir.from_proto(converted))


def test_what_others_noted_in_the_model_survives() -> None:
    live = ir.from_proto(relu_model())
    (relu,) = live.graph
    relu.doc_string, relu.metadata_props["key"], relu.meta["seen"] = "why", "text", object()
    relu.outputs[0].doc_string, relu.outputs[0].meta["seen"] = "what", object()
    harden(live, jump=0.5)
    (hardened,) = live.graph
    assert (hardened.op_type, hardened.name, hardened.doc_string) == ("JumpReLU", "relu", "why")
    assert (dict(hardened.metadata_props), hardened.meta["seen"]) == ({"key": "text"}, relu.meta["seen"])
    assert live.graph.outputs == [hardened.outputs[0]]
    assert (hardened.outputs[0].doc_string, hardened.outputs[0].meta["seen"]) == ("what", relu.outputs[0].meta["seen"])


@pytest.mark.parametrize("path", [one for one in SHIPPED if "functions" in one.stem], ids=lambda path: path.stem)
def test_large_weights_are_neither_read_nor_copied(path: Path) -> None:
    def read() -> ir.Tensor:
        raise AssertionError("the weights were read")

    model = ir.load(path)
    weight = ir.LazyTensor(read, dtype=ir.DataType.FLOAT, shape=ir.Shape([2048]), name="w")
    initializer = ir.Value(name="w", type=ir.TensorType(weight.dtype), shape=weight.shape, const_value=weight)
    model.graph.register_initializer(initializer)
    holders = (model.graph, *model.functions.values())
    constants = [ir.Node("", "Constant", [], [ir.AttrTensor("value", weight)]) for _ in holders]
    for holder, constant in zip(holders, constants, strict=True):
        holder.append(constant)
    assert len(holders) > 1
    assert JumpReluPass(jump=0.5)(model).modified
    assert model.graph.initializers["w"].const_value is weight
    assert all(constant.attributes["value"].as_tensor() is weight for constant in constants)


def test_what_is_saved_passes_the_check_against_the_original_and_shares_its_external_data(tmp_path: Path) -> None:
    ir.save(ir.load(DIGITS), tmp_path / "model.onnx", external_data="model.data")
    model = ir.load(tmp_path / "model.onnx")
    harden(model, jump=0.5)
    ir.save(model, tmp_path / "hard.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.data", "hard.onnx"}
    report = jr_onnx.check(tmp_path / "model.onnx", tmp_path / "hard.onnx")
    assert (report.findings, len(report.sites)) == ((), 4)


@pytest.mark.parametrize("target", ["custom-op", "standard"])
def test_a_quantized_model_with_metadata_passes_the_check(target: Target, tmp_path: Path) -> None:
    plain = one_layer(0.1, np.uint8(0))
    onnx.helper.set_model_props(plain, {"onnx.infer": "onnxruntime.quant"})
    ir.save(ir.from_proto(plain), tmp_path / "model.onnx")
    model = ir.load(tmp_path / "model.onnx")
    harden(model, jump=0.5, target=target)
    ir.save(model, tmp_path / "hard.onnx")
    assert jr_onnx.check(tmp_path / "model.onnx", tmp_path / "hard.onnx").findings == ()


def test_an_exported_torch_program_is_hardened_and_saved_in_one_script(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="exports a network with torch")
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8), torch.nn.ReLU()).eval()
    x = torch.randn(3, 4)
    program = torch.onnx.export(network, (x,), dynamo=True, verbose=False)
    program.save(tmp_path / "plain.onnx")
    assert len(harden(program, jump=0.5).sites) == 2
    program.save(tmp_path / "hard.onnx")
    assert jr_onnx.check(tmp_path / "plain.onnx", tmp_path / "hard.onnx").findings == ()
    (name,) = (value.name for value in program.model.graph.inputs)
    (given,) = onnxruntime.InferenceSession(tmp_path / "hard.onnx").run(None, {name: x.numpy()})
    with torch.no_grad():
        inner = torch.from_numpy(jump_relu(network[0](x).numpy(), np.float32(0.5)))
        np.testing.assert_allclose(given, jump_relu(network[2](inner).numpy(), np.float32(0.5)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("documented", [harden, JumpReluPass], ids=lambda one: one.__name__)
def test_the_example_runs(documented: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").symlink_to(MODELS)
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(documented, "example", module=False, globs={})
    told: list[str] = []
    assert example.examples
    assert not doctest.DocTestRunner().run(example, out=told.append).failed, "".join(told)


def test_the_snippets_of_the_page_on_pipelines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="exports a network with torch")
    (tmp_path / "models").symlink_to(MODELS)
    monkeypatch.chdir(tmp_path)
    page = (MODELS.parent / "docs" / "pipelines.md").read_text()
    snippets = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        exec(snippet, {})
    assert len(jr_onnx.check(None, "model.jumprelu.onnx").sites) == 1
    assert jr_onnx.check("models/digits.onnx", "hard.onnx").sites


def test_importing_jr_onnx_does_not_import_onnx_ir() -> None:
    program = "import sys, jr_onnx; jr_onnx.convert; assert 'onnx_ir' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


# --- As a pass --------------------------------------------------------------------------------------------------------


def test_the_pass_works_among_the_passes_of_onnx_ir() -> None:
    passes = Sequential(
        common.TopologicalSortPass(),
        common.NameFixPass(),
        JumpReluPass(jump=0.5),
        common.CommonSubexpressionEliminationPass(),
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.CheckerPass(),
    )
    result = passes(ir.load(DIGITS))
    assert result.modified
    model = ir.to_proto(result.model)
    assert [one.op_type for one in model.graph.node].count("JumpReLU") == 4
    assert len(jr_onnx.check(None, model, jump=0.5).sites) == 4


def test_the_inliner_of_onnx_ir_writes_the_function_into_the_graph() -> None:
    passes = Sequential(JumpReluPass(jump=0.5), common.InlinePass())
    model = ir.to_proto(passes(ir.from_proto(relu_model())).model)
    assert not model.functions
    x = np.array([-1, 0, 0.25, 0.5, 0.75, np.nan, np.inf, -np.inf, -0.0, 2], np.float32)
    (y,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_array_equal(y.view(np.uint32), jump_relu(x, np.float32(0.5)).view(np.uint32))


def test_a_pass_manager_stops_when_the_jumps_are_there() -> None:
    counted: list[bool] = []

    class Counted(JumpReluPass):
        def call(self, model: ir.Model) -> ir.passes.PassResult:
            result = super().call(model)
            counted.append(result.modified)
            return result

    PassManager([Counted(jump=0.5)], steps=5, early_stop=True)(ir.load(DIGITS))
    assert counted == [True, False]


def test_a_model_without_a_relu_is_left_as_it_is_but_for_its_record() -> None:
    live = ir.from_proto(make_model([node("Neg", "x", "y")], [value("x", shape=[1])], [value("y", shape=[1])]))
    JumpReluPass(jump=0.5)(live)
    assert [one.op_type for one in live.graph] == ["Neg"]
    with pytest.raises(jr_onnx.ModelError, match="no Relu in this model"):
        harden(live, jump=0.5)


def test_a_graph_that_is_none_does_not_meet_the_precondition() -> None:
    model = relu_model()
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(PreconditionError, match="nowhere"):
        JumpReluPass(jump=0.5)(ir.from_proto(model))


def test_a_pass_that_loses_a_site_does_not_meet_the_postcondition() -> None:
    class Lossy(JumpReluPass):
        def call(self, model: ir.Model) -> ir.passes.PassResult:
            result = super().call(model)
            for one in model.graph:
                if one.op_type == "JumpReLU":
                    one.op_type, one.domain = "Mul", ""
            return result

    with pytest.raises(PostconditionError, match="4 sites"):
        Lossy(jump=0.5)(ir.load(DIGITS))


def test_an_option_that_makes_no_sense_is_refused_before_the_pass_runs() -> None:
    with pytest.raises(jr_onnx.OptionError, match="unknown target"):
        JumpReluPass(jump=0.5, target="nonsense")  # type: ignore[arg-type]
    with pytest.raises(jr_onnx.OptionError, match="matches no node"):
        JumpReluPass(jump=0.5, exclude=["nothing"])(ir.load(DIGITS))
