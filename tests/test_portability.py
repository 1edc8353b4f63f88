"""`convert --for`: the runtime is named, and the table chooses what it can run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import pytest
from outcome import Outcome, refusal
from support import relu_model

from jr_onnx.portability import RUNTIMES

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "portability.md"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(relu_model(), path)
    return path


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Run a command that must refuse; what it says after its own name."""
    return partial(refusal, tmp_path)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_that_rejects_local_functions_gets_a_model_without_them(runtime: str, model: Path) -> None:
    assert Outcome(model.parent, ("convert", model, "--jump", "0.5", "--for", runtime)).code == 0
    written = onnx.load(model.with_name("net.jumprelu.onnx"))
    assert bool(written.functions) == (runtime not in {"openvino", "opencv", "tract"})
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


def test_the_document_has_what_is_chosen_for_each_runtime_and_what_was_measured_there() -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in DOCUMENT.read_text().splitlines() if "|" in line
    ]
    chosen = {row[0].strip("`"): row[1] for row in rows if row[0].strip("`") in RUNTIMES}
    assert chosen == {
        name: f"`--target {runtime.target}{' --inline' if runtime.inline else ''}`"
        for name, runtime in RUNTIMES.items()
    }
    measured = [row for row in rows if len(row) == 5 and row[0].partition(" ")[0].removesuffix("-python-headless")]
    by_name = {row[0].partition(" ")[0].removesuffix("-python-headless"): row for row in measured}
    for name, runtime in RUNTIMES.items():
        if name in by_name:
            assert by_name[name][2 if runtime.inline else 1] == "exact", name
    assert {"onnxruntime", "onnxruntime-node", "onnxruntime-web", "openvino", "opencv", "tract"} <= set(by_name)
