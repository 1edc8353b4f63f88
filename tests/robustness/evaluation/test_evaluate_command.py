"""`jr-onnx evaluate`: what it prints and writes, what it refuses, and what an interruption leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from evaluation_models import DIGITS, IMAGES, with_jump

import jr_onnx
from jr_onnx.cli.evaluate import _attacks
from jr_onnx.cli.main import main
from jr_onnx.robustness.attacks.target import ATTACKS
from jr_onnx.robustness.evaluation.evaluate import zeroed_layers

QUICK = ["--data", str(IMAGES), "--attacks", "square", "--queries", "30", "--samples", "64"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, with the hardened model, and no journal of anybody else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    onnx.save(with_jump(0.5), "hard.onnx")
    return tmp_path


def test_it_prints_a_table_and_ends_with_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(DIGITS), "hard.onnx", *QUICK, "--eps", "8/255,0.1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"0 +clean +\d+\.\d% +\d+\.\d%$", lines[1])
    assert re.match(r"8/255 +square +\d+\.\d% +\d+\.\d%$", lines[2])
    assert re.match(r"0\.1 +square +\d+\.\d% +\d+\.\d%$", lines[3])
    assert re.match(r"NO ADAPTIVE ATTACK: Not known, .*\.$", lines[-1])


def test_the_clean_accuracy_that_may_be_lost_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    for points, words in (("0", "TOO COSTLY: Too much accuracy is lost"), ("5", "NO ADAPTIVE ATTACK: ")):
        command = [
            "evaluate",
            str(DIGITS),
            "hard.onnx",
            *QUICK,
            "--samples",
            "360",
            "--eps",
            "0.1",
            "--max-drop",
            points,
        ]
        assert main(command) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith(words)


def test_attacks_may_be_named_with_blanks_and_all_stands_for_every_one() -> None:
    assert _attacks("square, pgd") == ("square", "pgd")
    assert _attacks("square, all") == _attacks("all") == tuple(ATTACKS)


def test_json_is_the_report_of_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(DIGITS), "hard.onnx", *QUICK, "--eps", "0.1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = np.sort(np.random.default_rng(0).permutation(360)[:64].astype(np.int64))
    from jr_onnx.robustness.attacks.target import Effort
    from jr_onnx.robustness.dataset import load_data

    report = jr_onnx.evaluate(
        DIGITS,
        "hard.onnx",
        load_data(IMAGES).take(rows),
        eps=[0.1],
        attacks=["square"],
        effort=Effort(queries=30),
    )
    expected = json.loads(json.dumps(report.to_dict()))
    assert {**told, "seconds": 0} == {**expected, "seconds": 0}


def test_a_hardened_model_without_a_jump_relu_is_remarked_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "hard.onnx", str(DIGITS), *QUICK, "--eps", "0.1"]) == 0
    assert "holds no JumpReLU: were the two files swapped?" in capsys.readouterr().out


def test_a_model_made_from_another_original_is_remarked_on(capsys: pytest.CaptureFixture[str]) -> None:
    other = str(DIGITS.with_name("digits_robust.onnx"))
    assert main(["evaluate", other, "hard.onnx", *QUICK, "--eps", "0.1"]) == 0
    assert "made from another model than this original" in capsys.readouterr().out
    assert main(["evaluate", str(DIGITS), "hard.onnx", *QUICK, "--eps", "0.1"]) == 0
    assert "another model" not in capsys.readouterr().out


def test_labels_that_fit_no_better_than_guesses_are_remarked_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.load(IMAGES)
    np.savez(folder / "mixed.npz", x=images["x"], y=(images["y"] + 1) % 10)
    mixed = ["--data", "mixed.npz", *QUICK[2:]]
    assert main(["evaluate", str(DIGITS), "hard.onnx", *mixed, "--eps", "0.1"]) == 0
    assert "which guessing among 10 classes might be too" in capsys.readouterr().out


def test_an_optimised_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    jr_onnx.optimize("hard.onnx", output="fast.onnx")
    assert main(["evaluate", str(DIGITS), "fast.onnx", *QUICK, "--eps", "0.1"]) == 2
    said = "jr-onnx evaluate: fast.onnx: was optimised for one machine; evaluate the hardened model"
    assert capsys.readouterr().err.startswith(said)


def test_the_page_and_the_plots_are_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="plots as files need matplotlib: pip install 'jr-onnx[report]'")
    assert (
        main(["evaluate", str(DIGITS), "hard.onnx", *QUICK, "--eps", "0.1", "--report", "r.html", "--plots", "plots"])
        == 0
    )
    assert "wrote r.html" in capsys.readouterr().out
    assert (folder / "r.html").stat().st_size > 10_000
    assert len(list((folder / "plots").iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--eps", "8"], "write 8/255, not 8"),
        (["--eps", "0"], "--eps 0 is not in (0, 1]; it is in pixel units from 0 to 1\n"),
        (["--eps", "-1"], "--eps -1 is not in (0, 1]; it is in pixel units from 0 to 1\n"),
        (["--eps", "nan"], "--eps nan is not in (0, 1]; it is in pixel units from 0 to 1\n"),
        (["--eps", "8/0"], "divides by 0"),
        (["--eps", "0.1", "--attacks", "square, magic"], "--attacks: there is no 'magic'"),
        (["--eps", "0.1", "--report", "hard.onnx"], "--report hard.onnx: is what is read"),
        (["--eps", "small"], "'small' is not a number"),
        (["--max-drop", "few"], "--max-drop: 'few' is not a number"),
        (["--max-drop", "-1"], "--max-drop -1: give a number >= 0"),
        (["--eps", "0.1", "--attacks", "magic"], "--attacks: there is no 'magic'"),
        (["--eps", "0.1", "--samples", "0"], "--samples 0"),
        (["--eps", "0.1", "--workers", "0"], "--workers 0"),
        (["--eps", "0.1", "--report", "nowhere/r.html"], "no such folder"),
        (["--eps", "0.1", "--data", "nowhere.npz"], "nowhere.npz: no such file"),
        (["--eps", "0.1", "--mean", "127"], "divide it by 255"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(DIGITS), "hard.onnx", *QUICK, *arguments]) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1


BAD_DATA = {
    "nan": ({"x": np.full((4, 1, 8, 8), np.nan, np.float32), "y": np.arange(4)}, "NaN or infinity"),
    "range": ({"x": np.full((4, 1, 8, 8), 16, np.float32), "y": np.arange(4)}, "go from 0 to 1"),
    "dtype": ({"x": np.zeros((4, 1, 8, 8), np.int64), "y": np.arange(4)}, "int64"),
    "shape": ({"x": np.zeros((4, 1, 9, 8), np.float32), "y": np.arange(4)}, "the model takes"),
    "labels": ({"x": np.zeros((4, 1, 8, 8), np.float32), "y": np.arange(4) + 8}, "not one of the model's 10 classes"),
    "one class": ({"x": np.zeros((4, 1, 8, 8), np.float32), "y": np.ones(4, int)}, "all samples are of class 1"),
    "empty": ({"x": np.zeros((0, 1, 8, 8), np.float32), "y": np.zeros(0, int)}, "is empty"),
}


@pytest.mark.parametrize("what", BAD_DATA)
def test_bad_data_are_one_line_and_exit_code_2(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    arrays, complaint = BAD_DATA[what]
    np.savez("bad.npz", **arrays)  # type: ignore[arg-type]
    assert main(["evaluate", str(DIGITS), "hard.onnx", *QUICK, "--eps", "0.1", "--data", "bad.npz"]) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("models", [(str(DIGITS), "nowhere.onnx"), ("nowhere.onnx", "hard.onnx")])
def test_a_model_that_is_not_there_is_one_line(models: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *models, *QUICK, "--eps", "0.1"]) == 2
    assert capsys.readouterr().err == "jr-onnx evaluate: nowhere.onnx: no such file\n"


def test_a_hardened_model_of_another_shape_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(DIGITS.parent / "residual.torchscript.onnx")
    assert main(["evaluate", str(DIGITS), str(other), *QUICK, "--eps", "0.1"]) == 2
    told = capsys.readouterr().err
    assert "the model takes" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)]
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_ends_it_soon_with_its_workers_and_the_same_command_goes_on(
    folder: Path, workers: str, number: signal.Signals, code: int
) -> None:
    with np.load(IMAGES) as data:
        # So many that it cannot be over before it is interrupted, however busy the machine is.
        np.savez("images.npz", x=np.tile(data["x"], (10, 1, 1, 1)), y=np.tile(data["y"], 10))
    # A shell in whose background the tests run, and nohup, have their children ignore some signals.
    handler = "signal.default_int_handler" if number == signal.SIGINT else "signal.SIG_DFL"
    heeded = "" if number == signal.SIGKILL else f"signal.signal({int(number)}, {handler}); "
    program = f"import signal, sys; {heeded}from jr_onnx.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program]
    command += ["evaluate", str(DIGITS), "hard.onnx", "--data", "images.npz", "--attacks", "square"]
    command += ["--eps", "0.02", "--queries", "400", "--workers", workers, "--journal", "journal"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while finished(folder) < 2:
            assert process.poll() is None, "it was over before it could be interrupted"
            time.sleep(0.02)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does: to the workers too
        else:
            process.send_signal(number)  # as `timeout`, `docker stop` and the kernel's OOM killer do
        _, told = process.communicate(timeout=120)  # which waits for the workers too, that have the same stderr
    assert process.returncode == code
    words = (
        r"jr-onnx evaluate: interrupted; \d+ finished parts? kept in journal, the same command takes up from there\n"
    )
    assert code < 0 or re.fullmatch(words, told)
    assert 2 <= finished(folder) < 114, "57 shards of two models"


def finished(folder: Path) -> int:
    """Parts in the journal."""
    return sum(lines.read_bytes().count(b"}") for lines in folder.glob("journal/*/parts.jsonl"))


def test_plots_that_cannot_be_written_are_refused_before_the_attacks(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "plots").touch()
    assert main(["evaluate", str(DIGITS), "hard.onnx", *QUICK, "--eps", "0.1", "--plots", "plots"]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["jr-onnx evaluate: --plots plots: plots is a file; name a folder"]
    assert not captured.out


@pytest.mark.parametrize("shape", [(), (16, 1, 1), (1, 16, 1, 1), (8,), (1, 1, 8)], ids=str)
def test_what_a_jump_of_any_shape_makes_zero_is_counted(shape: tuple[int, ...]) -> None:
    model = with_jump(0.5)
    node = next(node for node in model.graph.node if node.op_type == "JumpReLU")
    weights = next(one for one in model.graph.initializer if len(one.dims) == 4)
    shape = tuple(weights.dims[0] if size == 16 else size for size in shape)
    node.input[1] = "shaped"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(shape, 0.5, np.float32), "shaped"))
    from jr_onnx.robustness.dataset import load_data

    data = load_data(IMAGES).take(np.arange(16))
    plain = [layer.share for layer in zeroed_layers(with_jump(0.5), data)]
    assert [layer.share for layer in zeroed_layers(model, data)] == plain
