"""Optimised models kept for the next session, by what they depend on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from jr_onnx.errors import OutputError
from jr_onnx.modelfile.external import data_files
from jr_onnx.modelfile.source import open_file
from jr_onnx.optimization.machine import made_for, this_machine
from jr_onnx.optimization.optimize import optimize
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
    digest = hashlib.sha256("\n".join((this_machine("all").to_json(), __version__)).encode())
    for file in files:
        digest.update(file.stat().st_size.to_bytes(8, "little"))
        with file.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
    kept = cache_folder() / f"{digest.hexdigest()}.onnx"
    if not kept.is_file():
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{kept.parent}: cannot be made ({error.strerror}); set XDG_CACHE_HOME") from error
        optimize(path, output=kept, force=True)  # another process may have written the same data file by now
    return kept


def cache_folder() -> Path:
    """`jr-onnx` in the user's cache folder; safe to delete. Source: XDG Base Directory Specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jr-onnx"
