"""The GitHub action and the pre-commit hook, as far as they go without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import yaml
from checking import broken, hardened, small
from damage import leave_a_relu

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), check=False, cwd=cwd, env={**ENVIRONMENT, **variables}, capture_output=True, text=True
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(small(), tmp_path / "a.onnx")
    onnx.save(hardened(), tmp_path / "a.jumprelu.onnx")
    return tmp_path


@pytest.mark.parametrize("good", [True, False])
def test_the_actions_script_annotates_reports_and_fails(folder: Path, good: bool) -> None:
    if not good:
        onnx.save(broken(leave_a_relu), folder / "a.jumprelu.onnx")
    summary = folder / "summary.md"
    summary.write_text("before\n")
    result = run(
        ROOT / "ci" / "action.sh",
        cwd=folder,
        JR_ORIGINAL="a.onnx",
        JR_HARDENED="a.jumprelu.onnx",
        JR_SARIF="out.sarif",
        JR_JUNIT="out.xml",
        JR_FAIL_ON="warning",
        JR_ARGUMENTS="--no-library --random-inputs 1",
        GITHUB_STEP_SUMMARY=str(summary),
    )
    assert result.returncode == (0 if good else 1), result.stderr
    assert ("::error file=a.jumprelu.onnx,title=JR101" in result.stdout) != good
    assert (folder / "out.sarif").stat().st_size
    assert (folder / "out.xml").stat().st_size
    verdict = "clean" if good else "1 error, 0 warnings"
    assert summary.read_text().startswith(f"before\n```\n{verdict}: a.jumprelu.onnx against a.onnx (")


def test_an_input_of_the_action_is_never_code(folder: Path) -> None:
    result = run(ROOT / "ci" / "action.sh", cwd=folder, JR_HARDENED="$(touch gotcha); a.onnx", JR_SARIF="")
    assert result.returncode == 2
    assert not (folder / "gotcha").exists()


def test_the_action_is_valid_and_hands_every_input_to_its_script() -> None:
    validated = run(
        sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-actions", "action.yml", cwd=ROOT
    )
    assert validated.returncode == 0, validated.stdout
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    script = (ROOT / "ci" / "action.sh").read_text(encoding="utf-8")
    step = action["runs"]["steps"][-1]
    assert {f"${{{{ inputs.{name} }}}}" for name in action["inputs"] if name != "install"} == set(step["env"].values())
    assert all(name in script for name in step["env"])
    assert "${{" not in step["run"]


def test_the_workflow_to_copy_is_a_workflow(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    workflow = next(part for part in text.split("```yaml\n")[1:] if part.startswith("name:")).split("```")[0]
    path = tmp_path / "workflow.yml"
    path.write_text(workflow)
    validated = run(
        sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", path, cwd=tmp_path
    )
    assert validated.returncode == 0, validated.stdout
    used = yaml.safe_load(workflow)["jobs"]["check"]["steps"][2]["with"]
    assert set(used) <= set(yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["inputs"])


def test_the_hook_runs_in_pre_commit_on_models_only(folder: Path) -> None:
    manifest = run(sys.executable, "-m", "pre_commit", "validate-manifest", ROOT / ".pre-commit-hooks.yaml", cwd=folder)
    assert manifest.returncode == 0, manifest.stdout
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    # As published, but in this environment: language python would install the package from an index.
    local = {**hook, "language": "system"}
    del local["additional_dependencies"]
    (folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [{"repo": "local", "hooks": [local]}]}))
    (folder / "notes.txt").write_text("not a model\n")
    run("git", "init", "-q", cwd=folder)
    run("git", "add", "-A", cwd=folder)
    cache = {"PRE_COMMIT_HOME": str(folder / ".cache")}
    passed = run(sys.executable, "-m", "pre_commit", "run", "--all-files", cwd=folder, **cache)
    assert passed.returncode == 0, passed.stdout
    assert "Passed" in passed.stdout
    onnx.save(broken(leave_a_relu), folder / "a.jumprelu.onnx")
    run("git", "add", "-A", cwd=folder)
    failed = run(sys.executable, "-m", "pre_commit", "run", "--all-files", cwd=folder, **cache)
    assert failed.returncode == 1
    assert "JR101" in failed.stdout
