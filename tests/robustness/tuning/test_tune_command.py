"""`jr-onnx tune` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from outcome import Outcome, refusal
from support import MODELS

from jr_onnx import convert, find_sites, read_policy

DIGITS, TEST = MODELS / "digits.onnx", MODELS / "digits_test.npz"
CLEAN = ("tune", DIGITS, "--data", TEST, "--objective", "clean")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes a journal into the home of whoever runs it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_it_prints_every_candidate_and_the_outcome(tmp_path: Path) -> None:
    done = Outcome(tmp_path, (*CLEAN, "--grid", "0.1,0.5,0.8", "--max-drop", "2"))
    assert (done.code, done.err, done.new) == (0, "", [])
    lines = done.out.splitlines()
    assert lines[0].split() == ["jump", "clean", "accuracy", "drop", "zeroed"]
    assert [line.split()[0] for line in lines[1:5]] == ["0", "0.1", "0.5", "0.8"]
    assert lines[3].endswith("chosen")
    assert lines[4].endswith("over budget")
    assert lines[-1].startswith("jump 0.5 is the largest within the budget")
    assert "no robustness was measured. Warning: on the test part it loses 3.3 points (0.0 to 7.4)" in lines[-1]


def test_it_writes_the_model_and_the_policy_that_convert_takes(tmp_path: Path) -> None:
    hard, policy = tmp_path / "hard.onnx", tmp_path / "policy.yaml"
    done = Outcome(tmp_path, (*CLEAN, "--per-layer", "--quantiles", "0.1,0.2", "-o", hard, "--policy-out", policy))
    assert (done.code, done.err, done.new) == (0, "", ["hard.onnx", "policy.yaml"])
    assert done.out.splitlines()[-2:] == [f"wrote {policy}", f"wrote {hard} (4 sites)"]
    assert len(read_policy(policy).rules) == 4
    convert(DIGITS, policy=read_policy(policy), output=tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == hard.read_bytes()
    assert all(site.kind.name == "HARDENED" for site in find_sites(hard))


def test_where_no_jump_is_chosen_nothing_is_written_and_that_is_no_error(tmp_path: Path) -> None:
    hard, policy = tmp_path / "hard.onnx", tmp_path / "policy.yaml"
    arguments = (*CLEAN, "--grid", "50", "-o", hard, "--policy-out", policy)
    done = Outcome(tmp_path, arguments)
    assert (done.code, done.err, done.new) == (0, "", [])
    assert f"did not write {hard}: no jump was chosen" in done.out
    assert f"did not write {policy}: no jump was chosen" in done.out


def test_the_trade_off_is_drawn_as_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots as files need matplotlib: pip install 'jr-onnx[report]'")
    done = Outcome(tmp_path, (*CLEAN, "--grid", "0.1", "--plots", tmp_path / "plots"))
    assert (done.code, done.err) == (0, "")
    names = {f"{name}.{suffix}" for name in ("trade-off", "activations-zeroed") for suffix in ("png", "svg")}
    assert {path.name for path in (tmp_path / "plots").iterdir()} == names
    assert all(f"wrote {tmp_path / 'plots' / name}" in done.out for name in names)


def test_it_prints_json_for_a_program(tmp_path: Path) -> None:
    hard = tmp_path / "hard.onnx"
    done = Outcome(tmp_path, (*CLEAN, "--grid", "0.1", "--json", "-o", hard))
    report = json.loads(done.out)
    assert report["candidates"][1]["jump"] == 0.1
    assert report["chosen"] == 1
    assert done.err == f"wrote {hard} (4 sites)\n"


def test_an_output_without_permission_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", denied)  # root, as whom tests may run, is denied little
    said = refusal(tmp_path, *CLEAN, "--report", tmp_path / "r.html")
    assert said.startswith(f"--report {tmp_path / 'r.html'}: cannot be written: Permission denied")


def test_a_layout_that_the_shape_speaks_against_is_warned_of_in_one_line(tmp_path: Path) -> None:
    done = Outcome(tmp_path, (*CLEAN, "--grid", "0.1", "--layout", "NHWC"))
    assert done.code == 0
    assert done.err == f"warning: --layout NHWC makes 8 channels of {TEST}, not 1; is it right?\n"
    assert Outcome(tmp_path, (*CLEAN, "--grid", "0.1", "--layout", "NCHW")).err == ""


def test_a_std_can_be_a_fraction(tmp_path: Path) -> None:
    """The network sees pixels that are 16 times as dark as those that it was trained on, unless std says so."""
    data = np.load(TEST)
    np.savez(tmp_path / "dark.npz", x=data["x"] / 16, y=data["y"])
    arguments = ("tune", DIGITS, "--data", tmp_path / "dark.npz", "--objective", "clean", "--grid", "0.1", "--json")
    for options, right in (((), False), (("--std", "1/16"), True)):
        report = json.loads(Outcome(tmp_path, (*arguments, *options)).out)
        assert (report["candidates"][0]["clean"]["estimate"] > 0.95) is right


def test_it_writes_a_page(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = Outcome(tmp_path, (*CLEAN, "--grid", "0.1,0.8", "--report", page))
    assert (done.code, done.new) == (0, ["report.html"])
    assert "no robustness was measured" in page.read_text()


def test_with_attacks_the_table_has_what_they_left(tmp_path: Path) -> None:
    pytest.importorskip("onnx_ad", reason="attacks need onnx-ad, from the extra [attack]")
    attacked = ("--eps", "16/255", "--steps", "3", "--samples", "32")
    done = Outcome(tmp_path, ("tune", DIGITS, "--data", TEST, "--grid", "0.5,2", "--max-drop", "5", *attacked))
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split()[-4:] == ["true", "gradient", "all", "attacks"]
    assert lines[3].split()[-4:] == ["-", "-", "over", "budget"]
    assert "under attack: 32 samples, eps 0.06275, pgd" in done.out


def test_an_interruption_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, progress: Any, **__: Any) -> None:
        progress("measure", 5, 9)
        progress("attack", 3, 8)
        raise KeyboardInterrupt

    monkeypatch.setattr("jr_onnx.cli.tune.tune", stopped)
    done = Outcome(tmp_path, (*CLEAN, "--journal", tmp_path / "kept"))
    assert (done.code, done.out, done.new) == (130, "", [])
    assert done.err.startswith(f"jr-onnx tune: interrupted; 3 finished parts kept in {tmp_path / 'kept'}, ")


@pytest.fixture
def regression(tmp_path: Path) -> Path:
    """A network with one number as its output."""
    model = onnx.load(DIGITS)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(model, tmp_path / "regression.onnx")
    return tmp_path / "regression.onnx"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--data", "no.npz"), "no.npz: no such file or folder"),
        (("--data", MODELS), "no image in it"),
        (("--data", TEST, "--mean", "33"), "mean 33 is not in units of pixels"),
        (("--data", TEST, "--mean", "a,b"), "--mean: 'a' is not a number"),
        (("--data", TEST, "--std", "0.1,0.2,0.3"), "give one number"),
        (("--data", TEST, "--size", "8"), "--size is for a folder"),
        (("--data", TEST, "--size", "8x8"), "write it as 224 or 224,320"),
        (("--data", TEST, "--layout", "NHWC", "--std", "1,1"), "8 channels|one number"),
        (("--data", TEST, "--grid", "0.1,x"), "--grid: 'x' is not a number"),
        (("--data", TEST, "--grid", "-1"), "finite number >= 0"),
        (("--data", TEST, "--quantiles", "2"), "must be between 0 and 1"),
        (("--data", TEST, "--grid", "1", "--per-layer"), "quantiles"),
        (("--data", TEST, "--max-drop", "x"), "--max-drop: 'x' is not a number"),
        (("--data", TEST, "--test-share", "2"), "between 0 and 1"),
        (("--data", TEST, "--eps", "8/255,0.1"), "--eps: '8/255,0.1' is several numbers; give one"),
        (("--data", TEST, "--eps", "8/0"), "--eps: '8/0' divides by 0"),
        (("--data", TEST, "--steps", "0"), "--steps: 0 must be at least 1"),
        (("--data", TEST, "-o", "no/such/hard.onnx"), "--output no/such/hard.onnx: no/such: no such folder"),
        (("--data", TEST, "-o", DIGITS), f"--output {DIGITS}: is what is read"),
        (("--data", TEST, "-o", ""), "the name is empty"),
        (("--data", TEST, "--report", MODELS), "is a folder"),
        (("--data", TEST, "--report", TEST), "is what is read"),
        (("--data", TEST, "--report", "/proc/x.html"), "--report /proc/x.html: cannot be written"),
        (("--data", TEST, "--report", ""), "the name is empty"),
        (("--data", TEST, "--policy-out", "x" * 300), "cannot be written: File name too long"),
        (("--data", TEST, "--plots", TEST / "sub"), f"{TEST} is a file; name a folder"),
        (("--data", TEST, "--plots", "/proc/plots"), "--plots /proc/plots: cannot be written"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: tuple[object, ...], complaint: str) -> None:
    said = refusal(tmp_path, "tune", DIGITS, "--objective", "clean", *arguments)
    assert any(one in said for one in complaint.split("|")), said


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_model_that_is_no_classifier_is_named(tmp_path: Path, regression: Path) -> None:
    said = refusal(tmp_path, "tune", regression, "--data", TEST, "--objective", "clean")
    assert said.startswith(f"{regression}: output 'logits' is [N, 1]")


def test_labels_that_the_model_does_not_have_are_named(tmp_path: Path) -> None:
    data = np.load(TEST)
    np.savez(tmp_path / "d.npz", x=data["x"], y=data["y"] + 1)
    said = refusal(tmp_path, "tune", DIGITS, "--data", tmp_path / "d.npz", "--objective", "clean")
    assert said == f"{tmp_path / 'd.npz'}: the label 10 is not one of the model's 10 classes (from 0)"
