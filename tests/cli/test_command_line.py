"""What all commands have in common: their order of models, mistyped words, completion, progress, quiet, and colour."""

from __future__ import annotations

import inspect
import io
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import MODELS

import jr_onnx
from jr_onnx.cli import outputs
from jr_onnx.cli.main import COMMANDS, build_parser, main

DIGITS = MODELS / "digits.onnx"

#: What a command cannot do without.
NEEDED = {
    "convert": ("m.onnx", "--jump", "1"),
    "revert": ("m.onnx", "-o", "out.onnx"),
    "inspect": ("m.onnx",),
    "check": ("a.onnx", "b.onnx"),
    "diff": ("a.onnx", "b.onnx"),
    "tune": ("m.onnx", "--data", "x.npz"),
    "evaluate": ("a.onnx", "b.onnx", "--data", "x.npz"),
    "deploy": ("m.onnx", "--server", "triton", "-o", "out"),
    "optimize": ("m.onnx",),
    "bench": ("m.onnx",),
    "info": (),
}


@pytest.fixture
def hard(tmp_path: Path) -> Path:
    path = tmp_path / "hard.onnx"
    jr_onnx.convert(DIGITS, jump=0.5, output=path)
    return path


def test_the_original_comes_first_everywhere() -> None:
    parse = build_parser().parse_args
    assert parse(["check", "a", "b"]).models == [Path("a"), Path("b")]
    assert parse(["bench", "a", "b", "c"]).models == [Path("a"), Path("b"), Path("c")]
    for given in (["diff", "a", "b"], ["evaluate", "a", "b", "--data", "x.npz"]):
        assert (parse(given).original, parse(given).hardened) == (Path("a"), Path("b"))
    for function in (jr_onnx.check, jr_onnx.diff, jr_onnx.evaluate):
        assert list(inspect.signature(function).parameters)[:2] == ["original", "hardened"]
    for command in ("check", "diff", "evaluate", "bench"):
        assert re.search(r"ORIGINAL.*HARDENED", parse([command, *NEEDED[command]]).parser.format_help(), re.DOTALL)


def test_evaluate_and_tune_have_one_radius_where_none_is_given() -> None:
    parse = build_parser().parse_args
    assert parse(["evaluate", *NEEDED["evaluate"]]).eps == parse(["tune", *NEEDED["tune"]]).eps == "8/255"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chek"], "jr-onnx: there is no command 'chek' (did you mean check?) (see jr-onnx --help)\n"),
        (["zzz"], "jr-onnx: there is no command 'zzz' (see jr-onnx --help)\n"),
        (
            ["inspect", "m.onnx", "--jsno"],
            "jr-onnx inspect: unrecognized arguments: --jsno (did you mean --json?) (see jr-onnx inspect --help)\n",
        ),
        (  # and not that --jump is missing
            ["convert", "m.onnx", "--jmup=0.5"],
            "jr-onnx convert: unrecognized arguments: --jmup=0.5 (did you mean --jump?) (see jr-onnx convert --help)\n",
        ),
        (  # no option that only its dashes make alike, such as --shape
            ["check", "m.onnx", "--samples", "3"],
            "jr-onnx check: unrecognized arguments: --samples (see jr-onnx check --help)\n",
        ),
        (
            ["inspect", "m.onnx", "n.onnx"],
            "jr-onnx inspect: unrecognized arguments: n.onnx (see jr-onnx inspect --help)\n",
        ),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert capsys.readouterr().err == said


def test_bash_completes_commands_options_and_files(tmp_path: Path) -> None:
    script = subprocess.run(
        [sys.executable, "-m", "jr_onnx", "--print-completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    (tmp_path / "completion").write_text(script)
    (tmp_path / "model.onnx").touch()
    function = re.findall(r"complete .*-F (\w+) jr-onnx", script)[0]

    def completed(*words: str) -> list[str]:
        typed = " ".join(f"'{word}'" for word in ("jr-onnx", *words))
        line = f"source completion; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; {function} jr-onnx '{words[-1]}'"
        shown = subprocess.run(
            ["bash", "-c", f'{line}; printf "%s\\n" "${{COMPREPLY[@]}}"'],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return shown.stdout.split()

    assert set(completed("")) >= set(COMMANDS)
    assert completed("convert", "--jump-i") == ["--jump-input"]
    assert completed("inspect", "mod") == ["model.onnx"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_quiet(command: str) -> None:
    parsed = build_parser(command).parse_args([command, *NEEDED[command], "-q"])
    assert parsed.quiet


def test_quiet_leaves_the_work_the_exit_code_json_and_errors(
    hard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    assert main(["convert", str(DIGITS), "--jump", "1", "-o", str(out), "--quiet"]) == 0
    assert out.exists()
    assert main(["check", str(DIGITS), str(out), "--jump", "2", "--no-run", "-q"]) == 1
    assert main(["inspect", str(hard), "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["inspect", str(hard), "-q", "--json"]) == 0
    assert capsys.readouterr().out.startswith("{")
    assert main(["inspect", "nowhere.onnx", "-q"]) == 2
    assert capsys.readouterr().err == "jr-onnx inspect: nowhere.onnx: no such file\n"


def test_a_log_gets_a_line_of_progress_again_and_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(outputs, "_EVERY", 0.02)
    for quiet in (False, True):
        with outputs.stages_bar(quiet=quiet) as show:
            show("attack", 3, 40)
            time.sleep(0.3)  # no further call: one step takes long
        time.sleep(0.05)
        lines = capsys.readouterr().err.splitlines()
        assert not lines if quiet else len(lines) >= 2
        assert set(lines) <= {"attack: 3 of 40 (0.0 min)", "attack: 3 of 40 (0.1 min)"}


def test_a_log_says_how_much_time_is_left_once_something_was_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(outputs, "_EVERY", 0.01)
    clock = iter(range(100, 2000, 30))
    monkeypatch.setattr(outputs.time, "monotonic", lambda: next(clock))
    with outputs.stages_bar() as show:
        show("attack", 10, 40)  # from the journal
        show("attack", 12, 40)
        time.sleep(0.2)
    told = re.match(r"attack: 12 of 40, about (\d+\.\d) min left \(", capsys.readouterr().err)
    assert told is not None
    assert float(told[1]) >= 28 * 30 / 2 / 60, "two parts took half a minute at least"


def test_a_large_file_that_is_written_gets_lines_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(outputs, "_EVERY", 0.02)
    with outputs.progress_bar(tmp_path / "none", 200_000_000) as progress:
        progress(50_000_000)
        progress(50_000_000)
        time.sleep(0.2)
    assert capsys.readouterr().err.startswith("write: 100.0 MB of 200.0 MB")


def on_a_terminal(*command: object, environment: dict[str, str]) -> str:
    """What a command prints on a terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen([*map(str, command)], stdout=theirs, stderr=theirs, env={**os.environ, **environment})
    os.close(theirs)
    shown = io.BytesIO()
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown.write(part)
    os.close(ours)
    done.wait()
    return shown.getvalue().decode()


def test_check_says_the_verdict_first_and_in_colour_on_a_terminal_only(hard: Path) -> None:
    command = (sys.executable, "-m", "jr_onnx", "check", DIGITS, hard, "--no-run")
    colours = {"TERM": "xterm-256color", "NO_COLOR": ""}
    first, *_ = on_a_terminal(*command, environment=colours).splitlines()
    assert first.startswith("\x1b[1;32mclean\x1b[0m: ")
    plain = on_a_terminal(*command, environment={**colours, "NO_COLOR": "1"})
    assert plain.startswith(f"clean: {hard} against {DIGITS} (")
    assert "\x1b" not in plain
    piped = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True).stdout
    assert "\x1b" not in piped
    wrong = on_a_terminal(*command, "--jump", "2", environment=colours)
    assert re.match(r"\x1b\[1;31m\d+ errors?, \d+ warnings?\x1b\[0m: ", wrong)
