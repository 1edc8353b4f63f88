"""`jr-onnx check` runs the model: every site against the definition, the whole against the original."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from checking import DIGITS, broken, hardened, initializer, node, rules, shown, small
from damage import edit_weight, tamper_with_the_body
from support import SHIPPED

import jr_onnx
from jr_onnx.checking import run, site_values
from jr_onnx.checking.expected import read_hardened
from jr_onnx.checking.report import Results
from jr_onnx.conversion.graph.stand_ins import TABLE
from jr_onnx.files.source import open_file
from jr_onnx.runtime import execution
from jr_onnx.runtime.execution import Session
from jr_onnx.runtime.instrumented import Workspace

BACKEND = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"

pytest.importorskip("onnxruntime")


def check(original: Any, model: Any, **options: Any) -> jr_onnx.CheckReport:
    return jr_onnx.check(original, model, **{"library": False, **options})


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


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
    report = check(path, output, samples=1, run=name == "squeezenet")
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
    model = parsed(f"""
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
    model = parsed(f"""
        <ir_version: 3, opset_import: ["": {opset}]>
        g (float[N, 4] x) => (float[N, 4] y) {{ [site] y = Relu(x) }}
    """)
    report = check(model, hardened(model))
    assert not report.findings, shown(report)
    assert report.sites[0].form == "JumpReLU"


def test_one_jump_a_channel_is_compared_channel_by_channel() -> None:
    model = parsed("""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { [site] y = Relu(x) }
    """)
    report = check(model, hardened(model, jump=(0.1, 0.5, 2.0)), jump=(0.1, 0.5, 2.0))
    assert not report.findings, shown(report)
    assert report.sites[0].jump == "0.1 to 2 (3 channels)"


def test_more_jumps_than_a_skeleton_holds_are_compared_too() -> None:
    model = parsed("""
        <ir_version: 8, opset_import: ["": 17]>
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
    return parsed("""
        <ir_version: 8, opset_import: ["": 17]>
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
    model = parsed("""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2, 3] x, string[2] s) => (seq(float[2, 3]) y, string[2] z)
        { [site] a = Relu(x) y = SequenceConstruct(a) z = Identity(s) }
    """)
    report = check(model, hardened(model), data={"s": np.array(["a", "b"])})
    assert not report.findings, shown(report)
    assert report.sites[0].exercised
    assert {one.what for one in report.not_checked} >= {"output 'y'", "output 'z'"}
    assert not any("outputs against" in one for one in report.checked)


def test_a_jump_that_is_not_constant_is_not_passed_over() -> None:
    model = parsed("""
        <ir_version: 8, opset_import: ["": 17]>
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
    model = parsed("""
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
    model = parsed("""
        <ir_version: 8, opset_import: ["": 17]>
        g (float16[64] x) => (float16[N] y, bool[N] z)
        { [site] a = Relu(x) c = GreaterOrEqual(a, x) y = Compress <axis = 0> (a, c) z = Compress <axis = 0> (c, c) }
    """)
    report = check(model, hardened(model))
    assert rules(report) == {"JR001"}, shown(report)
    assert {"'y'", "'z'"} == {one.message.split()[1] for one in report.findings}


def test_inputs_too_large_to_be_made_are_a_finding() -> None:
    report = check(DIGITS, hardened(onnx.load(DIGITS)), shapes={"image": (10**9, 10**6, 28, 28)})
    assert rules(report) == {"JR001"}, shown(report)
    assert "cannot be made" in report.findings[0].message


@pytest.mark.filterwarnings("error")
def test_empty_inputs_are_run_without_a_warning() -> None:
    model = parsed("""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[0, 3] x) => (float[0, 3] y) { [site] y = Relu(x) }
    """)
    report = check(model, hardened(model))
    assert not report.findings, shown(report)
    assert report.sites[0].how == "lifted into a model of its own"


def test_a_full_disk_takes_no_finding_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    report = check(small(), broken(edit_weight), keep_going=True)
    assert rules(report) == {"JR001", "JR109"}, shown(report)
    assert any("No space left on device" in finding.message for finding in report.findings)


def test_copies_of_a_model_share_one_copy_of_its_external_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(small(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "space").mkdir()
    space = Workspace(tmp_path / "space")
    with open_file(path) as source:
        made = [space.write(source, source.root().pieces(), "original", name) for name in ("one", "two")]
        assert space.plain(source, "original") == path
    assert [file.name for file in (tmp_path / "space").rglob("*.bin")] == ["weights.bin"]
    for one in made:
        assert onnx.load(one) == onnx.load(path)
        space.drop(one)
        assert not one.exists()
    space.drop(path)
    assert path.exists()


def test_a_jump_that_no_value_passes_is_not_exercised() -> None:
    report = check(DIGITS, hardened(onnx.load(DIGITS), jump=1e30))
    assert rules(report) == {"JR302"}, shown(report)
    assert not report.fails("error")
    assert report.fails("warning")


def test_a_new_nan_is_found() -> None:
    model = parsed("""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1, 4] x) => (float[1, 4] y)
        { [site] a = Relu(x) s = ReduceSum <keepdims = 1> (a) y = Div(a, s) }
    """)
    report = check(model, hardened(model, jump=50.0))
    assert rules(report) == {"JR401"}, shown(report)


def test_a_model_that_onnxruntime_does_not_load_is_found() -> None:
    model = parsed("""
        <ir_version: 8, opset_import: ["": 17, "nowhere": 1]>
        g (float[1, 4] x) => (float[1, 4] y) { [site] a = Relu(x) b = nowhere.Op(a) y = Relu(a) }
    """)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("b", 1, [1, 4]))
    converted = hardened(model)
    assert rules(check(None, converted)) == {"JR501"}
    report = check(model, converted)
    assert rules(report) == {"JR001"}, shown(report)
    assert "neither model loads" in report.findings[0].message


def test_without_the_library_a_report_is_not_clean_unless_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "library_problem", lambda: "there is none")
    model = hardened(onnx.load(DIGITS))
    report = check(DIGITS, model, library=True)
    assert rules(report) == {"JR001"}
    assert "there is none" in report.findings[0].message
    assert not check(DIGITS, model).findings
    assert not check(DIGITS, hardened(onnx.load(DIGITS), target="standard"), library=True).findings


@pytest.mark.skipif(bool(execution.library_problem()), reason=execution.library_problem())
@pytest.mark.parametrize("path", [DIGITS, *(path for path in SHIPPED if path.stem.startswith(("half", "functions")))])
def test_with_the_library_every_site_runs_by_kernel_and_gives_the_same_bits(path: Path) -> None:
    report = jr_onnx.check(path, hardened(onnx.load(path)))
    assert not report.findings, shown(report)
    ran = next(one for one in report.checked if one.endswith("JumpReLU ran on CPUExecutionProvider by kernel"))
    assert int(ran.split()[0]) >= len(report.sites)  # more where a function is called more than once


def test_a_provider_that_is_not_there_is_a_finding() -> None:
    report = check(DIGITS, hardened(onnx.load(DIGITS)), providers=("cpu", "tensorrt"))
    assert rules(report) == {"JR001"}
    assert "tensorrt" in report.findings[0].message


@pytest.mark.parametrize(
    ("place", "rule"),
    [
        (SimpleNamespace(node="node_relu", provider="CPUExecutionProvider", copies=("MemcpyToHost",)), "JR503"),
        (SimpleNamespace(node="node_relu", provider="OtherExecutionProvider", copies=()), "JR502"),
        (None, "JR502"),
    ],
)
def test_where_a_kernel_ran_is_held_against_what_was_asked_for(
    place: SimpleNamespace | None, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "library_problem", lambda: "")
    monkeypatch.setattr(execution, "register", lambda _, **__: None)
    monkeypatch.setattr(run, "session", lambda _, **__: SimpleNamespace(run=lambda *_: None))
    monkeypatch.setattr(run, "placement", lambda _: (place,) * 4 if place else ())
    report = check(DIGITS, hardened(onnx.load(DIGITS)), library=True)
    assert rules(report) == {rule}, shown(report)


def test_real_data_are_run_as_they_are() -> None:
    data = np.load(DIGITS.with_name("digits_test.npz"))
    report = check(DIGITS, hardened(onnx.load(DIGITS)), data={"image": data["x"][:50]})
    assert not report.findings, shown(report)
    with pytest.raises(jr_onnx.OptionError, match="no input 'img'; it has image"):
        check(DIGITS, hardened(onnx.load(DIGITS)), data={"img": data["x"]})


def test_a_shape_that_cannot_be_guessed_is_asked_for() -> None:
    model = parsed("""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[A, B] x) => (float[C] y) <int64[1] s = {35}> { a = Reshape(x, s) [site] y = Relu(a) }
    """)
    report = check(model, hardened(model))
    assert rules(report) == {"JR001"}
    assert "`shapes`" in report.findings[0].message
    assert not check(model, hardened(model), shapes={"x": (5, 7)}).findings


def test_a_jump_input_runs_with_its_default_and_can_be_set_again() -> None:
    model = hardened(onnx.load(DIGITS), jump_input="jump")
    assert not check(DIGITS, model).findings
    data = {"jump": np.float32(0.25), "image": np.load(DIGITS.with_name("digits_test.npz"))["x"][:50]}
    fed = check(DIGITS, model, data=data)
    assert not fed.findings, shown(fed)
    again = hardened(model, jump=0.25, jump_input="jump")
    assert initializer(again, "jump").raw_data == np.float32(0.25).tobytes()


def test_latency_is_measured_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[Session] = []

    def fake(session: Session, _: object) -> float:
        timed.append(session)
        return 0.002 if session is timed[0] else 0.003

    monkeypatch.setattr(run, "_timed", fake)
    report = check(DIGITS, hardened(onnx.load(DIGITS)), latency=True)
    values = {one.name.split(" (")[0]: one.value for one in report.measurements if "latency" in one.name}
    assert values == pytest.approx({"latency of the original": 2, "latency": 3, "latency, ratio to the original": 1.5})
    before, after = timed[:2]
    assert timed == [before, after] * (len(timed) // 2)


def test_where_standard_operators_ran_is_said_not_to_be_checked_on_a_device() -> None:
    with open_file(DIGITS) as source:
        results = Results()
        wanted = [execution.Way("CUDAExecutionProvider", False), execution.Way(run.CPU, False)]
        space = SimpleNamespace(plain=lambda *_: DIGITS)
        runner = run._Runner(None, read_hardened(source), SimpleNamespace(), space, results)  # type: ignore[arg-type]
        runner._placements(wanted, SimpleNamespace())  # type: ignore[arg-type]
    (one,) = results.not_checked
    assert "CUDAExecutionProvider" in one.what
    assert set(one.rules) == {"JR502", "JR503"}


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
    model = parsed(f"""
        <ir_version: 8, opset_import: ["": 17]>
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


@pytest.mark.parametrize(
    "index",
    [
        "Cast <to = 7> (f)",
        "local.I(f)",
        "If(c) < then_branch = t () => (int64[K] j) { j = Cast <to = 7> (f) }, "
        "else_branch = e () => (int64[K] k) { k = Cast <to = 7> (f) } >",
    ],
)
def test_no_edge_value_becomes_an_index(index: str) -> None:
    model = parsed(f"""
        <ir_version: 8, opset_import: ["": 17, "local": 1]>
        g (float[4, 9] x, float[2] f, bool c) => (float[2, 9] y)
        {{
            i = {index} r = Relu(x) g = Gather(r, i) s = Relu(g)
            d = Cast <to = 1> (i) t = ReduceMax <keepdims = 0> (d) y = Add(s, t)
        }}
        <domain: "local", opset_import: ["": 17]> I (a) => (b) {{ b = Cast <to = 7> (a) }}
    """)
    report = check(model, hardened(model))
    assert not report.findings, shown(report)
    assert [one.what for one in report.not_checked if "index" in one.why] == ["edge values of input 'f'"]


def test_sites_are_looked_at_so_many_at_a_time_as_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = []
    for room in (1 << 27, 1):
        monkeypatch.setattr(site_values, "_ROOM", room)
        reports.append(check(DIGITS, hardened(onnx.load(DIGITS))))
    assert reports[0].sites == reports[1].sites
    assert not reports[1].findings, shown(reports[1])


def test_a_check_has_room_in_memory(tmp_path: Path) -> None:
    """24 sites that take and give 13 MB each: 640 MB, which once were all in memory, several times."""
    nodes = [f"c{i + 1} = Mul({f'r{i}' if i else 'x'}, k) r{i + 1} = Relu(c{i + 1})" for i in range(24)]
    model = parsed(f"""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[64, 51200] x) => (float y) <float k = {{1.0}}>
        {{ {" ".join(nodes)} y = ReduceMax <keepdims = 0> (r24) }}
    """)
    onnx.save(model, tmp_path / "o.onnx")
    jr_onnx.convert(tmp_path / "o.onnx", jump=0.1, output=tmp_path / "h.onnx")
    script = """
import resource, sys, jr_onnx
report = jr_onnx.check("o.onnx", "h.onnx", library=False)
print(len(report.findings), sum(bool(site.values) for site in report.sites))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    counts, megabytes = done.stdout.splitlines()
    assert counts == "0 24"
    assert int(megabytes) < 800
