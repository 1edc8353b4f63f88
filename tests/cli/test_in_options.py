"""The library names parameters, the command line names options: `in_options` puts one in place of the other."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import MODELS

import jr_onnx
from jr_onnx.cli.main import build_parser, main
from jr_onnx.cli.outputs import in_options

PACKAGE = Path(jr_onnx.__file__).parent


def parser_of(command: str) -> argparse.ArgumentParser:
    return build_parser(command).parse_args([command, *REQUIRED.get(command, ("m.onnx",))]).parser  # type: ignore[no-any-return]


REQUIRED = {
    "convert": ("m.onnx", "--jump", "1"),
    "check": ("a.onnx", "b.onnx"),
    "deploy": ("m.onnx", "--server", "triton", "-o", "out"),
}


@pytest.mark.parametrize(
    ("command", "said", "expected"),
    [
        ("convert", "`jump_input`: no site", "--jump-input: no site"),
        ("convert", "choose another `output`, or add `force=True`", "choose another --output, or add --force"),
        ("convert", "try `target='standard'`", "try --target standard"),
        ("convert", "`model`: is no model", "MODEL: is no model"),
        ("optimize", "give `level='extended'`", "give --level extended"),
        ("check", "not asked for (`library=False`)", "not asked for (--no-library)"),
        ("check", "give `shapes` or `data`", "give --shape or --data"),
        ("deploy", "convert without `jump_input`", "convert without --jump-input"),
        ("deploy", "`check=False`", "--no-check"),
        ("convert", "start one with `dask scheduler`", "start one with `dask scheduler`"),
        ("convert", "`nothing_of_ours`", "`nothing_of_ours`"),
        ("convert", "output 'force'", "output 'force'"),
    ],
)
def test_parameters_become_the_options_of_the_command(command: str, said: str, expected: str) -> None:
    assert in_options(said, parser_of(command)) == expected


def test_an_error_names_the_parameter_in_python_and_the_option_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = MODELS / "digits.onnx"
    with pytest.raises(jr_onnx.OptionError, match=r"^`include` 'nothing' matches no node"):
        jr_onnx.convert(path, jump=1, include=["nothing"], output=tmp_path / "out.onnx")
    assert main(["convert", str(path), "--jump", "1", "--include", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("jr-onnx convert: --include 'nothing' matches no node")


def messages() -> Iterator[tuple[Path, str]]:
    """The literal texts of all errors that the library raises."""
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and node.exc is not None:
                text = "".join(
                    str(part.value) for part in ast.walk(node.exc) if isinstance(part, ast.Constant) and part.value
                )
                yield path, text


def test_no_error_of_the_library_names_an_option() -> None:
    said = list(messages())
    assert len(said) > 100
    # A whole command to type is a command, wherever it is read.
    named = [(path, text) for path, text in said if re.search(r"--[a-z]", text) and not re.search("jr-onnx|pip", text)]
    assert not named
