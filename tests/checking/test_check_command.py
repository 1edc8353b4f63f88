"""`jr-onnx check` on the command line: exit codes, and one report in every format that CI reads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import onnx
import pytest
from checking import broken, hardened, small
from damage import leave_a_relu, second_node_of_the_same_name

import jr_onnx
from jr_onnx.checking.rules import RULES
from jr_onnx.cli import check as command
from jr_onnx.cli.main import main


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
def test_an_interrupted_check_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "check", interrupted)
    assert main(["check", "a.onnx", "a.jumprelu.onnx", "--output", "r.txt"]) == 130
    assert not (folder / "r.txt").exists()
    assert capsys.readouterr().err.count("\n") == 1


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
