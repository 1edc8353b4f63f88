"""The command line itself: help, mistakes, signals, and a standard output that is closed or full."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from jr_onnx import __version__
from jr_onnx.cli import inspect as inspect_command
from jr_onnx.cli.main import main

# --- the command line itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--help"], ["convert", "--help"], ["inspect", "--help"], ["--version"]])
def test_help_and_version_are_no_errors(command: Any, arguments: list[str]) -> None:
    result = command(*arguments)
    assert (result.code, result.err) == (0, "")
    assert result.out
    if arguments == ["--version"]:
        assert result.out == f"jr-onnx {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["harden"], "there is no command 'harden'"),
        (["convert"], "MODEL"),
        (["convert", "net.onnx"], "--jump"),
        (["convert", "net.onnx", "--jump", "1", "--policy", "p.yaml"], "not allowed with"),
        (["convert", "net.onnx", "--jump", "1", "--target", "cuda"], "invalid choice: 'cuda'"),
        (["convert", "net.onnx", "--jump", "1", "--fast"], "--fast"),
        (["convert", "net.onnx", "other.onnx", "--jump", "1"], "other.onnx"),
        (["convert", "net.onnx", "--jump", "half"], "'half' is not a number"),
        (["inspect"], "MODEL"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_two(command: Any, arguments: list[str], complaint: str) -> None:
    result = command(*arguments)
    assert (result.code, result.out) == (2, "")
    assert complaint in result.err
    assert result.err.count("\n") == 1
    assert result.err.startswith("jr-onnx")


@pytest.mark.parametrize("jump", ["0", "0.5", ".5", "5e-1", "1_000", "+2"])
def test_a_jump_is_any_number_that_python_reads(command: Any, model: Path, jump: str) -> None:
    report = command("convert", model, "--jump", jump, "--json").json
    assert report["sites"][0]["jump"] == float(jump)


def test_the_installed_command_runs(model: Path) -> None:
    script = Path(sys.executable).with_name("jr-onnx")
    assert script.exists(), "the package is not installed with its command"
    done = subprocess.run([script, "convert", model, "--jump", "0.5"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert model.with_name("net.jumprelu.onnx").exists()


@pytest.mark.parametrize("unbuffered", [[], ["-u"]])
@pytest.mark.parametrize("arguments", [["inspect"], ["check", "--no-run"]])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full, as Linux has one")
def test_a_standard_output_that_cannot_be_written_is_one_line_and_no_finding(
    unbuffered: list[str], arguments: list[str], model: Path
) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, *unbuffered, "-m", "jr_onnx", *arguments, str(model)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = f"jr-onnx {arguments[0]}: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_a_standard_output_that_is_closed_is_no_error(model: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "import os, sys; os.close(1); os.execv(sys.executable, sys.argv[1:])",
        sys.executable,
    ]
    command += ["-m", "jr_onnx", "convert", str(model), "--jump", "0.5"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    onnx.checker.check_model(model.with_name("net.jumprelu.onnx"))


def test_signals_are_handled_while_a_command_runs_only(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    seen = []

    def run(_: object) -> int:
        seen.extend(signal.getsignal(number) for number in handlers)
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("the signal did not end the command")

    monkeypatch.setattr(inspect_command, "run", run)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert main(["inspect", str(model)]) == 143
        assert seen[0] is not signal.SIG_DFL
        assert seen[1] is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, handlers[signal.SIGHUP])
    assert signal.getsignal(signal.SIGTERM) is handlers[signal.SIGTERM]


def test_a_reader_that_has_had_enough_is_no_error(model: Path) -> None:
    command = [sys.executable, "-m", "jr_onnx.cli.main", "inspect", model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_an_argument_that_a_command_does_not_have_points_to_that_commands_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["convert", "model.onnx", "--jump", "0.5", "--samples", "40"])
    said = "jr-onnx convert: unrecognized arguments: --samples (see jr-onnx convert --help)\n"
    assert capsys.readouterr().err == said
