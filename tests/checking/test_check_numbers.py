"""`jr-onnx check` runs the model: every site against the definition, the whole against the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from checking import DIGITS, broken, graph, hardened, initializer, node, rules, shown, small
from damage import edit_weight, tamper_with_the_body
from support import SHIPPED

import jr_onnx
from jr_onnx.conversion.graph.stand_ins import TABLE
from jr_onnx.runtime.execution import Session

BACKEND = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
pytest.importorskip("onnxruntime")


def check(original: Any, model: Any, **options: Any) -> jr_onnx.CheckReport:
    return jr_onnx.check(original, model, **{"library": False, **options})


@pytest.mark.parametrize("target", ["custom-op", "subgraph", "standard"])
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_convert_wrote_runs_as_it_should(path: Path, target: str, tmp_path: Path) -> None:
    output = tmp_path / "hard.onnx"
    jr_onnx.convert(path, jump=0.3, target=target, output=output, clip=True)
    report = check(path, output)
    assert not report.findings, shown(report)
    measured = [site for site in report.sites if site.form != "ThresholdedRelu activation"]
    assert all(site.how and site.values for site in measured), measured
    assert all(site.exercised for site in measured if site.how.startswith("in place"))


@pytest.mark.parametrize("name", ["resnet50", "squeezenet", "densenet121"])
def test_models_that_others_exported_run_as_they_should(name: str, tmp_path: Path) -> None:
    path, output = BACKEND / f"light_{name}.onnx", tmp_path / "hard.onnx"
    jr_onnx.convert(path, jump=0.001, output=output)
    report = check(path, output, random_inputs=1, run=name == "squeezenet")
    assert not [finding for finding in report.findings if finding.rule != "JR302"], shown(report)


def test_sites_in_functions_are_inlined_and_those_in_bodies_lifted() -> None:
    report = check(small(), hardened())
    assert not report.findings, shown(report)
    how = {site.path: site.how for site in report.sites}
    assert how["local::F/four"] == "in place, functions inlined"
    assert how["branch/then_branch/three"] == "lifted into a model of its own"


@pytest.mark.parametrize("element_type", ["float16", "double", "bfloat16"])
@pytest.mark.parametrize("opset", [16, 18, 22])
@pytest.mark.parametrize("target", ["custom-op", "subgraph", "standard"])
def test_every_element_type_is_compared_in_its_own_bits(element_type: str, target: str, opset: int) -> None:
    # onnxruntime has no bfloat16 Conv or Relu on CPU, so a Cast stands on both sides of the site there.
    kind = int(onnx.TensorProto.DataType.Value(element_type.upper()))
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": {opset}]>
        g (float[N, 4] x) => (float[N, 4] y)
        {{ a = Cast <to = {kind}> (x) [site] b = Relu(a) y = Cast <to = 1> (b) }}
    """)
    report = check(model, hardened(model, target=target))
    if element_type == "bfloat16":
        # Neither model runs without kernels for bfloat16; then the report says so instead of passing.
        assert rules(report) in ({"JR001"}, set()), shown(report)
    else:
        assert not report.findings, shown(report)
    if not report.findings:
        assert report.sites[0].values >= 15 + 3 * 8  # edge values alone, and three runs in place


@pytest.mark.parametrize("opset", [7, 8, 9, 11])
def test_function_bodies_of_old_opsets_are_held_to_what_they_document(opset: int) -> None:
    model = onnx.parser.parse_model(f"""
        <ir_version: 3, opset_import: ["": {opset}]>
        g (float[N, 4] x) => (float[N, 4] y) {{ [site] y = Relu(x) }}
    """)
    report = check(model, hardened(model))
    assert not report.findings, shown(report)
    assert report.sites[0].form == "JumpReLU"


def test_one_jump_a_channel_is_compared_channel_by_channel() -> None:
    model = graph("""
        g (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { [site] y = Relu(x) }
    """)
    report = check(model, hardened(model, jump=(0.1, 0.5, 2.0)), jump=(0.1, 0.5, 2.0))
    assert not report.findings, shown(report)
    assert report.sites[0].jump == "0.1 to 2 (3 channels)"


def test_more_jumps_than_a_skeleton_holds_are_compared_too() -> None:
    model = graph("""
        g (float[2, 1500] x) => (float[2, 1500] y) { [site] y = Relu(x) }
    """)
    jumps = tuple(number / 1000 for number in range(1500))
    converted = hardened(model, jump=jumps)
    report = check(model, converted, jump=jumps)
    assert not report.findings, shown(report)
    assert report.sites[0].values > 3 * 3000
    wrong = initializer(converted, next(i.name for i in converted.graph.initializer))
    wrong.raw_data = np.asarray(jumps, np.float32)[::-1].tobytes()
    assert rules(check(model, converted, jump=jumps)) == {"JR109"}


def test_a_kernel_that_is_wrong_in_one_bit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Session.run

    def wrong(self: Session, feeds: Any) -> Any:
        outputs = run(self, feeds)
        if "relu_1" in outputs:  # an inner value, which only the copy for the sites gives
            flat = outputs["relu_1"].reshape(-1)
            place = int(np.argmax(flat))
            flat[place] = np.nextafter(flat[place], np.float32(np.inf))
        return outputs

    monkeypatch.setattr(Session, "run", wrong)
    report = check(DIGITS, hardened(onnx.load(DIGITS)))
    assert rules(report) == {"JR301"}, shown(report)
    assert {finding.node for finding in report.findings} == {"node_relu_1"}


def test_a_tampered_body_shows_in_the_numbers_too() -> None:
    model = broken(tamper_with_the_body)
    assert rules(check(small(), model)) == {"JR114"}
    assert rules(check(small(), model, keep_going=True)) >= {"JR114", "JR301"}


def test_an_edited_weight_shows_at_jump_zero_too() -> None:
    def change(model: onnx.ModelProto) -> None:
        edit_weight(model)
        initializer(model, "w").raw_data = (initializer(model, "w").raw_data)[:-4] + np.float32(9).tobytes()

    assert rules(check(small(), broken(change), keep_going=True)) == {"JR109", "JR402"}


def test_a_small_error_at_jump_zero_is_no_rounding() -> None:
    def change(model: onnx.ModelProto) -> None:
        weights = onnx.numpy_helper.to_array(initializer(model, "w")) * np.float32(1.0001)
        initializer(model, "w").CopyFrom(onnx.numpy_helper.from_array(weights, "w"))

    assert rules(check(small(), broken(change), keep_going=True)) == {"JR109", "JR402"}


def argmax() -> onnx.ModelProto:
    return graph("""
        g (float[4, 3] x) => (int64[4] y, bool[4, 3] z) <float[1] w = {1}, int64[1] axis = {1}>
        { [site] a = Relu(x) b = Mul(a, w) y = ArgMax <axis = 1, keepdims = 0> (b) z = Greater(b, w) }
    """)


def test_integers_and_booleans_are_compared_at_jump_zero() -> None:
    report = check(argmax(), hardened(argmax()))
    assert not report.findings, shown(report)
    assert any("at the jump and at jump 0" in one for one in report.checked)
    converted = hardened(argmax())
    initializer(converted, "w").float_data[0] = -1
    broken_ = check(argmax(), converted, keep_going=True)
    assert rules(broken_) == {"JR109", "JR402"}
    assert {"'y'", "'z'"} == {one.message.split()[1] for one in broken_.findings if one.rule == "JR402"}


def test_outputs_that_are_no_numbers_are_said_not_to_be_compared() -> None:
    model = graph("""
        g (float[2, 3] x, string[2] s) => (seq(float[2, 3]) y, string[2] z)
        { [site] a = Relu(x) y = SequenceConstruct(a) z = Identity(s) }
    """)
    report = check(model, hardened(model), data={"s": np.array(["a", "b"])})
    assert not report.findings, shown(report)
    assert report.sites[0].exercised
    assert {one.what for one in report.not_checked} >= {"output 'y'", "output 'z'"}
    assert not any("outputs against" in one for one in report.checked)


def test_a_jump_that_is_not_constant_is_not_passed_over() -> None:
    model = graph("""
        g (float[4, 3] x) => (float[4, 3] y) { [site] y = Relu(x) }
    """)
    converted = hardened(model)
    site = node(converted, "site")
    added = onnx.helper.make_node("Add", [site.input[1]] * 2, ["twice"])
    site.input[1] = "twice"
    converted.graph.node.insert(0, added)
    report = check(None, converted, keep_going=True)
    assert rules(report) == {"JR001", "JR117"}, shown(report)
    assert (report.sites[0].how, report.sites[0].values, report.sites[0].jump) == ("", 0, "unknown")


def test_a_site_of_unknown_type_is_said_not_to_be_compared_and_its_jump_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(TABLE, ("com.microsoft", "Inverse"))
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
        g (float[3, 3] x) => (float[3, 3] y) <float[3, 3] h>
        { h = com.microsoft.Inverse(x) [site] a = Relu(h) y = com.microsoft.Inverse(a) }
    """)
    for target, rule in (("subgraph", "JR117"), ("standard", "JR001")):  # an attribute has no type of its own
        converted = hardened(model, target=target)
        del converted.graph.value_info[:]
        report = check(None, converted)
        assert rules(report) == {"JR001"}, shown(report)
        assert all("element type" in finding.message for finding in report.findings)
        assert rule in rules(check(None, converted, jump=0.25, run=False))


def test_outputs_whose_shape_follows_from_rounding_have_no_tolerance() -> None:
    model = graph("""
        g (float16[64] x) => (float16[N] y, bool[N] z)
        { [site] a = Relu(x) c = GreaterOrEqual(a, x) y = Compress <axis = 0> (a, c) z = Compress <axis = 0> (c, c) }
    """)
    report = check(model, hardened(model))
    assert rules(report) == {"JR001"}, shown(report)
    assert {"'y'", "'z'"} == {one.message.split()[1] for one in report.findings}


def test_a_jump_that_no_value_passes_is_not_exercised() -> None:
    report = check(DIGITS, hardened(onnx.load(DIGITS), jump=1e30))
    assert rules(report) == {"JR302"}, shown(report)
    assert not report.fails("error")
    assert report.fails("warning")


def test_a_new_nan_is_found() -> None:
    model = graph("""
        g (float[1, 4] x) => (float[1, 4] y)
        { [site] a = Relu(x) s = ReduceSum <keepdims = 1> (a) y = Div(a, s) }
    """)
    report = check(model, hardened(model, jump=50.0))
    assert rules(report) == {"JR401"}, shown(report)


def test_a_large_move_is_measured() -> None:
    report = check(DIGITS, hardened(onnx.load(DIGITS), jump=5.0))
    moved = next(one for one in report.measurements if "moved" in one.name)
    assert moved.value > 1
    assert any("top-1" in one.name for one in report.measurements)


def test_numbers_are_not_measured_on_a_wrong_structure_and_the_report_says_so() -> None:
    report = check(small(), broken(lambda m: node(m, "swap").input.__setitem__(0, "x")))
    assert rules(report) == {"JR106"}
    assert any("`keep_going=True`" in one.why for one in report.not_checked)


@pytest.mark.parametrize("draws", ["Dropout (r, ratio, training)", "RandomNormalLike (r)", "Bernoulli (p)"])
def test_outputs_that_are_random_are_not_checked(draws: str) -> None:
    model = graph(f"""
        g (float[2, 8] x) => (float[2, 8] y)
        <float ratio = {{0.5}}, bool training = {{1}}>
        {{ r = Relu(x) p = Sigmoid(r) [draws] d = {draws} s = Add(d, x) y = Relu(s) }}
    """)
    converted = hardened(model, jump=0.2)
    for _ in range(5):
        report = check(model, converted)
        assert not report.findings, shown(report)
        assert [one.why for one in report.not_checked if "JR402" in one.rules] == [
            f"its outputs are random: node 'draws' ({draws.split()[0]}) draws numbers"
        ]
        assert all(site.how == "in place" and site.values for site in report.sites)
