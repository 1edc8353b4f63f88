"""`convert --for`: the runtime is named, and the table chooses what it can run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from outcome import Outcome
from support import relu_model

from jr_onnx.conversion.portability import PROVIDERS, RUNTIMES, UNMEASURED

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "portability.md"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(relu_model(), path)
    return path


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_that_cannot_use_local_functions_gets_a_model_without_them(runtime: str, model: Path) -> None:
    assert Outcome(model.parent, ("convert", model, "--jump", "0.5", "--for", runtime)).code == 0
    written = onnx.load(model.with_name("net.jumprelu.onnx"))
    inlined = {"openvino", "opencv", "tract", "tensorrt", "coreml", "directml", "migraphx", "qnn", "cuda-nhwc"}
    assert bool(written.functions) == (runtime not in inlined)
    assert {entry.key: entry.value for entry in written.metadata_props}["jr_onnx.target"] == (
        "custom-op" if written.functions else "custom-op inline"
    )


@pytest.mark.parametrize("option", [("--target", "custom-op"), ("--target", "standard"), ("--inline",)])
def test_a_runtime_and_a_target_contradict_each_other(
    option: tuple[str, ...], model: Path, refused: Callable[..., str]
) -> None:
    said = refused("convert", model, "--jump", "0.5", "--for", "openvino", *option)
    assert said == "--for openvino stands for --target custom-op --inline; leave out --target and --inline"


def test_an_unknown_runtime_is_refused_with_the_ones_there_are(model: Path, refused: Callable[..., str]) -> None:
    said = refused("convert", model, "--jump", "0.5", "--for", "pytorch")
    assert "pytorch" in said
    assert "openvino" in said


def document_rows(columns: int) -> list[list[str]]:
    lines = (line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ") and "| runtime |" not in line)
    rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    return [row for row in rows if len(row) == columns]


def test_the_document_has_what_is_chosen_for_each_runtime() -> None:
    chosen = {row[0].strip("`"): (row[1].strip("`"), row[2]) for row in document_rows(3) if row[0] != "`--for`"}
    assert chosen == {name: (runtime.options, runtime.why) for name, runtime in RUNTIMES.items()}


def test_every_runtime_was_exact_in_each_row_with_what_is_chosen_for_it_or_is_listed_as_not_measured() -> None:
    names = {
        "onnx": "onnx-reference",
        "onnxruntime-openvino": "onnxruntime",
        "opencv-python-headless": "opencv",
    }
    measured = [(row[0].partition(" ")[0], row) for row in document_rows(5)]
    for name, row in measured:
        runtime = RUNTIMES[names.get(name, name)]
        assert row[2 if runtime.inline else 1] == "exact", row
        assert (row[1] == "rejects") == runtime.inline, row
    assert {names.get(name, name) for name, _ in measured} == RUNTIMES.keys() - set(UNMEASURED) - set(PROVIDERS)
    shown = [row[0] for name, row in measured if name == "onnxruntime"]
    assert len({text.split()[1] for text in shown}) == 2  # the oldest and the newest
    assert sum("with the kernels" in text for text in shown) == 2
    assert f"Not measured for this table: {', '.join(UNMEASURED)}." in DOCUMENT.read_text()


def test_the_document_says_of_each_execution_provider_what_it_takes_and_whether_that_was_run() -> None:
    rows = {row[0].strip("`"): row[3] for row in document_rows(4) if row[0] != "`--for`"}
    assert set(PROVIDERS) | {"openvino"} == rows.keys()
    assert all(how.startswith(("run: ", "read: ")) for how in rows.values())


@pytest.mark.parametrize(
    ("runtime", "why"),
    [("openvino", "rejects local functions"), ("onnxruntime-web", "function"), ("cuda-nhwc", "stay in NHWC")],
)
def test_what_was_chosen_for_a_runtime_is_said_and_why(runtime: str, why: str, model: Path) -> None:
    command = ("convert", model, "--jump", "0.5", "--for", runtime)
    (said,) = (line for line in Outcome(model.parent, command).out.splitlines() if line.startswith(f"for {runtime}: "))
    assert RUNTIMES[runtime].options in said
    assert why in said
    model.with_name("net.jumprelu.onnx").unlink()
    json.loads(Outcome(model.parent, (*command, "--json")).out)
