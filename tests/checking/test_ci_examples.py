"""The examples of docs/ci.md, run as they are written, from a commit of this repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
import venv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import onnx
import pytest
from checking import broken, hardened, small
from damage import leave_a_relu

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

#: Newer ones want a newer Node.js than Debian 12 has.
GITLAB_CI_LOCAL = "gitlab-ci-local@4.61.1"


def git(*arguments: str, cwd: Path) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    done = subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def example(start: str) -> str:
    """The block of docs/ci.md that starts so, with this repository's commit."""
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^```\w+\n({re.escape(start)}.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return str(found).replace("COMMIT", git("rev-parse", "HEAD", cwd=ROOT))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a model and its hardened one."""
    folder = tmp_path / "project"
    folder.mkdir()
    onnx.save(small(), folder / "model.onnx")
    onnx.save(hardened(), folder / "model.jumprelu.onnx")
    git("init", "-q", cwd=folder)
    git("remote", "add", "origin", "https://gitlab.com/someone/project.git", cwd=folder)
    return folder


def run(project: Path, *command: str | Path, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in the project; git finds this repository under the address of the published one."""
    environment = {
        **os.environ,
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": f"url.file://{ROOT}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/OWNER/jr-onnx",
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
        "JR_CUDA": "OFF",
        "PATH": f"{path}{os.pathsep}{os.environ['PATH']}",
        "PRE_COMMIT_HOME": str(project.parent / "pre-commit"),
    }
    return subprocess.run(list(map(str, command)), cwd=project, env=environment, capture_output=True, text=True)


def cases(report: Path) -> list[str]:
    return [
        str(case.get("name")) for case in ElementTree.parse(report).iter("testcase") if case.find("failure") is not None
    ]


def test_the_gitlab_job_passes_and_then_fails(project: Path) -> None:
    if not (shutil.which("npx") and shutil.which("rsync")):
        pytest.skip("gitlab-ci-local needs npm and rsync")
    (project / ".gitlab-ci.yml").write_text(example("check-model:"))
    venv.create(project.parent / "venv", with_pip=True)
    command = ["npx", "--yes", GITLAB_CI_LOCAL, "--force-shell-executor", "--shell-isolation", "check-model"]
    path = str(project.parent / "venv" / "bin")
    for relu, code in ((False, 0), (True, 1)):
        if relu:
            onnx.save(broken(leave_a_relu), project / "model.jumprelu.onnx")
        git("add", "-A", cwd=project)
        git("commit", "-qm", "a model", cwd=project)
        done = run(project, *command, path=path)
        assert done.returncode == code, done.stdout + done.stderr
        assert ("JR101" in done.stdout) == relu


def test_the_shell_step_of_the_jenkins_pipeline_passes(project: Path) -> None:
    script = example("pipeline {").split("'''")[1]
    done = run(project, "sh", "-xe", "-c", textwrap.dedent(script), path=str(Path(sys.executable).parent))
    assert done.returncode == 0, done.stdout + done.stderr
    assert cases(project / "check.xml") == []


def test_the_hook_is_installed_from_a_commit_by_pre_commit(project: Path) -> None:
    (project / ".pre-commit-config.yaml").write_text(example("repos:"))
    git("add", "-A", cwd=project)
    passed = run(project, sys.executable, "-m", "pre_commit", "run", "--all-files")
    assert passed.returncode == 0, passed.stdout + passed.stderr
    onnx.save(broken(leave_a_relu), project / "model.jumprelu.onnx")
    git("add", "-A", cwd=project)
    failed = run(project, sys.executable, "-m", "pre_commit", "run", "--all-files")
    assert failed.returncode == 1
    assert "JR101" in failed.stdout
