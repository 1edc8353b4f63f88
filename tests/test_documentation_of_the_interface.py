"""help(jr_onnx) shows the whole interface, every function of it says what it raises, and its examples run."""

from __future__ import annotations

import doctest
import inspect
import pathlib
import pydoc
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from support import MODELS

import jr_onnx

FUNCTIONS = [name for name in jr_onnx.__all__ if inspect.isfunction(getattr(jr_onnx, name))]

#: What needs no example of its own: `session` does the first two, and has an example.
TOLD_ELSEWHERE = ("register", "placement", "library_path")


def test_help_shows_every_name_of_the_interface() -> None:
    text = pydoc.plain(pydoc.render_doc(jr_onnx))
    for name in (one for one in jr_onnx.__all__ if one != "__version__"):
        thing = getattr(jr_onnx, name)
        start = f"class {name}" if inspect.isclass(thing) else f"    {name}"
        assert start in text, name
    assert "importlib" not in text


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_it_raises_and_takes(name: str) -> None:
    function = getattr(jr_onnx, name)
    text = inspect.getdoc(function) or ""
    assert "Raises:" in text
    taken = list(inspect.signature(function).parameters)
    assert len(taken) < 2 or "Args:" in text
    if "Args:" in text:
        assert not [one for one in taken if f"{one}:" not in text and f"{one}," not in text]


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in TOLD_ELSEWHERE])
def test_the_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").symlink_to(MODELS)
    images = np.load(MODELS / "digits_test.npz")
    np.savez(tmp_path / "few.npz", x=images["x"][:8], y=images["y"][:8])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = {"jr_onnx": jr_onnx, "onnx": onnx, "np": np, "pathlib": pathlib}
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(jr_onnx, name), name, module=False, globs=names)
    assert example.examples, "it has no example"
    told: list[str] = []
    result = doctest.DocTestRunner().run(example, out=told.append)
    assert not result.failed, "".join(told)


def test_type_checkers_know_that_a_model_in_memory_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="types are checked by mypy: pip install mypy")
    (tmp_path / "user.py").write_text(
        "import onnx, jr_onnx\n"
        "print(jr_onnx.convert(onnx.ModelProto(), jump=1.0).model.graph)\n"
        'print(jr_onnx.convert("model.onnx", jump=1.0).model.graph)\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert [line.partition(": error:")[0] for line in errors] == ["user.py:3"], done.stdout + done.stderr
