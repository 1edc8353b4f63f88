"""Optimised models kept for the next session, by what they depend on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from jr_onnx.errors import ModelError, OutputError
from jr_onnx.modelfile.external import data_files
from jr_onnx.modelfile.source import open_file
from jr_onnx.optimization.machine import made_for, this_machine
from jr_onnx.optimization.optimize import Level, optimize
from jr_onnx.version import __version__

_BLOCK = 1 << 20


def cached(path: Path) -> Path:
    """The optimised form of a hardened model, made now or before; an optimised model itself.

    It is found by SHA-256 of the model and of its external data, the machine, onnxruntime and jr-onnx, so that nothing
    stale is ever used. Processes may ask for it at the same time: each file appears whole or not at all, and its name
    says what is in it.

    Raises:
        ModelError: the model is none that can be optimised.
        OutputError: the cache's folder cannot be made or written.
    """
    with open_file(path) as source:
        if made_for(source.skeleton) is not None:
            return path
        files = (path, *(file.path for file in data_files(source.skeleton, path.parent)))
    # Where the vector instructions are not known, a blocked layout could not be told from another machine's.
    level: Level = "all" if this_machine("all").cpu_flags else "extended"
    digest = hashlib.sha256("\n".join((this_machine(level).to_json(), __version__)).encode())
    for file in files:
        digest.update(file.stat().st_size.to_bytes(8, "little"))
        with file.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
    kept = cache_folder() / f"{digest.hexdigest()}.onnx"
    if not _whole(kept):
        try:
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{kept.parent}: cannot be made ({error.strerror}); set XDG_CACHE_HOME") from error
        # force: another process may have written the same data file by now.
        optimize(path, output=kept, level=level, force=True)
        with contextlib.suppress(OSError):
            kept.chmod(stat.S_IMODE(path.stat().st_mode))  # who may not read the model may not read this either
    return kept


def _whole(kept: Path) -> bool:
    """Whether a file of the cache is there, and is what was written: neither damaged nor without its data."""
    try:
        with open_file(kept) as source:
            data_files(source.skeleton, kept.parent)  # raises where one is missing
            return made_for(source.skeleton) is not None
    except ModelError:
        return False


def cache_folder() -> Path:
    """`jr-onnx` in the user's cache folder; safe to delete. A relative XDG_CACHE_HOME does not count.

    Source: XDG Base Directory Specification.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "jr-onnx"
