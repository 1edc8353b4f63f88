"""`olive run` finds the pass by the package configuration, and what it saves is what `convert` writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from support import MODELS

import jr_onnx

pytest.importorskip("olive", reason="runs Olive workflows: pip install olive-ai")

DIGITS = MODELS / "digits.onnx"


def olive_run(folder: Path, model: Path, *passes: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run a workflow with the output folder `out`, as docs/pipelines.md says."""
    environment = {**os.environ, "OLIVE_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    program = "import json, jr_onnx.olive; print(json.dumps(jr_onnx.olive.package_config()))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment).stdout
    (folder / "olive_config.json").write_bytes(printed)
    workflow = {
        "input_model": {"type": "ONNXModel", "model_path": str(model)},
        "passes": {f"pass{number}": one for number, one in enumerate(passes)},
        "output_dir": "out",
        "cache_dir": "cache",
    }
    (folder / "workflow.json").write_text(json.dumps(workflow))
    command = ["run", "--config", "workflow.json", "--package-config", "olive_config.json"]
    olive = [sys.executable, "-c", "from olive.cli.launcher import main; main()", *command]
    return subprocess.run(olive, cwd=folder, capture_output=True, text=True, env=environment)


def test_a_workflow_gives_what_convert_gives(tmp_path: Path) -> None:
    done = olive_run(tmp_path, DIGITS, {"type": "JumpRelu", "jump": 0.5, "exclude": ["*_3"]})
    assert done.returncode == 0, done.stdout + done.stderr
    jr_onnx.convert(DIGITS, jump=0.5, exclude=["*_3"], output=tmp_path / "hard.onnx")
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (tmp_path / "hard.onnx").read_bytes()


def test_it_runs_behind_a_pass_of_olive_and_takes_the_external_data_along(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    given = tmp_path / "given" / "model.onnx"
    onnx.save(onnx.load(DIGITS), given, save_as_external_data=True, location="weights.bin", size_threshold=0)
    tidy = {"type": "OnnxPeepholeOptimizer", "save_as_external_data": True}
    done = olive_run(tmp_path, given, tidy, {"type": "JumpRelu", "jump": 0.5})
    assert done.returncode == 0, done.stdout + done.stderr
    report = jr_onnx.check(None, tmp_path / "out" / "model.onnx")
    assert (report.findings, len(report.sites)) == ((), 4)


def test_a_mistake_in_the_workflow_is_named(tmp_path: Path) -> None:
    done = olive_run(tmp_path, DIGITS, {"type": "JumpRelu", "jump": 0.5, "exclude": ["nothing"]})
    assert "`exclude` 'nothing' matches no node" in done.stdout + done.stderr
    assert not (tmp_path / "out" / "model.onnx").exists()
