"""The pages of docs/ that show a way through: their snippets run in order, as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support import MODELS

import jr_onnx

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

PAGES = ("start", "convert", "optimize", "evaluate", "torch", "graphsurgeon")

#: What takes long, and what is run instead.
SHORTER = {
    "--eps 0.1 --report report.html": "--eps 0.1 --report report.html --attacks square --samples 20 --queries 10",
    "models/digits_test.npz --eps 0.1\n": "models/digits_test.npz --objective clean\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_snippets_of_a_page_run_in_order(page: str, tmp_path: Path) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    if page == "torch":
        pytest.importorskip("torch", reason="the page exports from torch: pip install torch onnxscript")
        pytest.importorskip("onnxscript", reason="torch exports with it: pip install onnxscript")
    (tmp_path / "models").mkdir()
    for name in ("digits.onnx", "digits_test.npz", "residual.torchscript.onnx"):
        (tmp_path / "models" / name).symlink_to(MODELS / name)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    ran = 0
    for language, content in re.findall(r"^```(sh|python|yaml)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        if language == "yaml":
            (tmp_path / "policy.yaml").write_text(content)
            continue
        for part, instead in SHORTER.items():
            content = content.replace(part, instead)
        content = re.sub(r"^pip install .*\n", "", content, flags=re.MULTILINE)  # the environment of the tests has it
        command = ["bash", "-euo", "pipefail", "-c", content] if language == "sh" else ["python", "-c", content]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{content}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        ran += 1
    assert ran


def test_what_is_run_instead_stands_in_a_page() -> None:
    text = "".join((DOCS / f"{page}.md").read_text(encoding="utf-8") for page in PAGES)
    assert all(part in text for part in SHORTER)


def test_the_version_is_the_same_everywhere() -> None:
    project = re.findall(
        r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    assert project == [citation] == [jr_onnx.__version__]


def test_the_site_has_every_page_and_no_broken_link() -> None:
    pytest.importorskip("zensical", reason="it builds the site: pip install '.[docs]'")
    tool = ROOT / "tools" / "docs_site.py"
    done = subprocess.run([sys.executable, tool], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    site = ROOT / "build" / "site"
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert "--jump-input" in pages[site / "cli" / "index.html"]
    assert "jr_onnx.convert" in pages[site / "api" / "index.html"]
    loaded = r"""<(?:script|link|img|iframe)[^>]*(?:src|href)="?https?://"""
    assert not [path for path, text in pages.items() if re.search(loaded, text)]
