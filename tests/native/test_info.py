"""`jr-onnx info`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from jr_onnx import runtime
from jr_onnx.cli.main import main
from jr_onnx.runtime import library as library_module
from jr_onnx.runtime import selftest


def _run(*arguments: str) -> int:
    return main(["info", *arguments])


def test_info_shows_the_library_and_a_self_test_that_passes(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run() == 0
    facts = dict(re.split(r"  +", line) for line in capsys.readouterr().out.splitlines())
    assert facts["library"] == str(library)
    assert facts["self test CPUExecutionProvider"] == "passed"


def test_info_as_json_holds_versions_and_what_the_library_was_built_with(
    library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["library"] == str(library)
    assert facts["built_with"]["cpu"][0] == "baseline"
    assert set(facts["versions"]) >= {"python", "jr-onnx", "onnx", "numpy", "onnxruntime"}
    assert facts["self_test"]["CPUExecutionProvider"] == "passed"


def test_info_says_that_there_are_no_kernels_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(library_module, "LIBRARY", "not_there.so")
    assert _run("--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["library"].startswith("none: jr-onnx was installed without its kernels")
    assert facts["self_test"]["CPUExecutionProvider"].startswith("not run: ")


@pytest.mark.parametrize(("definition", "dtype"), [("jump_relu", "float32"), ("quantized_jump_relu", "uint8")])
def test_info_exits_with_1_where_a_kernel_gives_wrong_values(
    definition: str, dtype: str, library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest, definition, lambda x, *_, **__: x + x.dtype.type(1))
    assert runtime.library_path() == library
    assert _run() == 1
    assert f"FAILED: {dtype} gives" in capsys.readouterr().out
