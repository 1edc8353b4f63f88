"""What `jr-onnx check` runs: on which inputs and providers, with the library and without, and in how much memory."""

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
from checking import DIGITS, broken, graph, hardened, initializer, rules, shown, small
from damage import edit_weight
from support import SHIPPED

import jr_onnx
from jr_onnx.checking import run, site_values
from jr_onnx.checking.expected import read_hardened
from jr_onnx.checking.report import Results
from jr_onnx.files.source import open_file
from jr_onnx.runtime import execution
from jr_onnx.runtime.execution import Session
from jr_onnx.runtime.instrumented import Workspace


def check(original: Any, model: Any, **options: Any) -> jr_onnx.CheckReport:
    return jr_onnx.check(original, model, **{"library": False, **options})


def test_inputs_too_large_to_be_made_are_a_finding() -> None:
    report = check(DIGITS, hardened(onnx.load(DIGITS)), shapes={"image": (10**9, 10**6, 28, 28)})
    assert rules(report) == {"JR001"}, shown(report)
    assert "cannot be made" in report.findings[0].message


@pytest.mark.filterwarnings("error")
def test_empty_inputs_are_run_without_a_warning() -> None:
    model = graph("""
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


def test_a_model_that_onnxruntime_does_not_load_is_found() -> None:
    model = onnx.parser.parse_model("""
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
    with pytest.raises(jr_onnx.OptionError, match="no array 'x' or 'image'; it has img"):
        check(DIGITS, hardened(onnx.load(DIGITS)), data={"img": data["x"]})


def test_a_shape_that_cannot_be_guessed_is_asked_for() -> None:
    model = graph("""
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
    model = onnx.parser.parse_model(f"""
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
    model = graph(f"""
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
