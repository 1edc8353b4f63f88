"""Optimised models kept for the next session, by what they depend on."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import stat
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

from jr_onnx.cache_folder import cache_folder
from jr_onnx.errors import ModelError, OutputError
from jr_onnx.modelfile.atomic import atomic_file
from jr_onnx.modelfile.external import data_files
from jr_onnx.modelfile.source import about, open_file, open_unnamed
from jr_onnx.optimization.machine import made_for, this_machine
from jr_onnx.optimization.optimize import Level, optimize_file
from jr_onnx.optimization.verification import NotOptimizedError
from jr_onnx.version import __version__

_BLOCK = 1 << 20


def cached(path: Path) -> Path:
    """The optimised form of a hardened model, made now or before; an optimised model itself.

    It is found by SHA-256 of the model and of its external data, the machine, onnxruntime and jr-onnx, and has a
    checksum of its own, so that nothing stale or damaged is ever used. Processes may ask for it at the same time: each
    file appears whole or not at all, and its name says what is in it. Where it cannot be made or kept, a warning says
    why, and the hardened model is given back, which is right everywhere.

    Raises:
        ModelError: the file is no hardened model.
    """
    with open_file(path) as source:
        if made_for(source.skeleton) is not None:
            return path
    # Where the vector instructions are not known, a blocked layout could not be told from another machine's.
    level: Level = "all" if this_machine("all").cpu_flags else "extended"
    kept = _name_for(path, level)
    if _whole(kept):
        return kept
    try:
        made, unverified = _made(path, level)
    except (OutputError, NotOptimizedError, OSError) as error:
        warnings.warn(f"{path} is run as it is, not optimised: {error}", stacklevel=4)
        return path
    if unverified:
        warnings.warn(f"{path}: its optimised form was not compared with it: {unverified}", stacklevel=4)
    return made


def _made(path: Path, level: Level) -> tuple[Path, str]:
    """Optimise a copy: what is hashed and what is optimised are the same bytes, whatever happens to the file meanwhile.

    Returns:
        The file in the cache, and why it was not compared with the hardened model; empty if it was.
    """
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        making = tempfile.TemporaryDirectory(prefix="making-", dir=folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); set XDG_CACHE_HOME") from error
    with making as private:
        copy = Path(private) / "model.onnx"
        shutil.copyfile(path, copy)
        with about(path), open_unnamed(copy) as source:
            for data in data_files(source.skeleton, path):
                beside = copy.parent / data.location
                beside.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(data.path, beside)
        kept = _name_for(copy, level)
        # force: another process may have written the same data file by now.
        report = optimize_file(copy, kept, called=path, level=level, force=True)
    with contextlib.suppress(OSError):
        kept.chmod(stat.S_IMODE(path.stat().st_mode))  # who may not read the model may not read this either
    with atomic_file(_checksum_file(kept)) as file:
        file.write(_checksum(kept).encode())
    return kept, report.unverified


def _name_for(path: Path, level: Level) -> Path:
    """Where the optimised form of a model, with its external data as they are now, is kept."""
    digest = hashlib.sha256("\n".join((this_machine(level).to_json(), __version__)).encode())
    return cache_folder() / f"{_digest(digest, _files(path))}.onnx"


def _files(path: Path) -> tuple[Path, ...]:
    with open_file(path) as source:
        return path, *(file.path for file in data_files(source.skeleton, path))


def _digest(digest: hashlib._Hash, files: Iterable[Path]) -> str:
    for path in files:
        digest.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _checksum_file(kept: Path) -> Path:
    return kept.with_suffix(".sha256")


def _checksum(kept: Path) -> str:
    return _digest(hashlib.sha256(), _files(kept))


def _whole(kept: Path) -> bool:
    """Whether a file of the cache is there, with its data, and is what was written."""
    try:
        return _checksum_file(kept).read_text(encoding="ascii") == _checksum(kept)
    except (OSError, ValueError, ModelError):
        return False
