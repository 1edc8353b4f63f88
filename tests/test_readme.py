"""What README.md shows, run from top to bottom as a new user would: in a fresh clone and a fresh environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: What takes many minutes or gigabytes, and what is run instead.
SHORTER = {
    "pip install '.[test]' && pytest  ": "pip install '.[test]' && pytest tests/test_reference.py  ",
    "--eps 8/255,0.1 --workers 2": "--eps 8/255,0.1 --workers 2 --attacks square --samples 40 --queries 20",
    "--eps 0.1 --report tune.html": "--objective clean --report tune.html",
}

#: What the text says is printed.
PRINTED = {
    "InferenceSession": r"0\.961\d+\n",
    "--jump 0.5      # the main job": r"wrote models/digits\.jump",
}


def blocks(text: str) -> list[tuple[str, str]]:
    """The language and the content of each block that has a language, and each `pip install` within the text."""
    pattern = r"^```(sh|python|yaml)\n(.*?)^```|\(`(pip install [^`]*)`\)"
    found = re.findall(pattern, text, flags=re.MULTILINE | re.DOTALL)
    return [(language or "sh", content or installs) for language, content, installs in found]


def test_what_is_run_instead_stands_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(text.count(part) == 1 for part in SHORTER)
    assert all(text.count(part) for part in PRINTED)


@pytest.mark.slow
def test_every_snippet_runs_in_order(tmp_path: Path) -> None:
    clone, venv = tmp_path / "clone", tmp_path / "venv"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    environment = {**os.environ, "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}", "JR_CUDA": "OFF"}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    environment.pop("PYTHONPATH", None)
    seen = []
    for language, content in blocks((clone / "README.md").read_text(encoding="utf-8")):
        if language == "yaml":
            (clone / "policy.yaml").write_text(content)
            continue
        shown = content
        for part, instead in SHORTER.items():
            content = content.replace(part, instead)
        command = ["bash", "-euo", "pipefail", "-c", content] if language == "sh" else ["python", "-c", content]
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{content}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        for part, printed in PRINTED.items():
            assert part not in shown or re.search(printed, done.stdout), done.stdout
        seen.append(language)
    assert (seen.count("sh"), seen.count("python")) >= (4, 2)
