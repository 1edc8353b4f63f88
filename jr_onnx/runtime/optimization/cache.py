"""Optimised models kept for the next session, by the state of the files that they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import stat
import time
import warnings
from pathlib import Path

from jr_onnx.errors import ModelError, OutputError
from jr_onnx.files.atomic import cache_folder, temporary_folder
from jr_onnx.files.external import data_files
from jr_onnx.files.source import open_file
from jr_onnx.runtime.optimization.machine import made_for, this_machine
from jr_onnx.runtime.optimization.optimize import Level, NotOptimizedError, optimize
from jr_onnx.version import __version__

#: What is in the folder of a kept model, beside external data.
_MODEL, _STAMP = "model.onnx", "stamp"

#: Two writes in less time than this may get the same timestamp.
_TICK = 0.05


def cached(path: Path) -> Path:
    """The optimised form of a hardened model, made now or before; an optimised model itself.

    It is found by the model's path, the sizes and timestamps of the model and its external data, the model's structure,
    the machine, onnxruntime and jr-onnx: no weights are read for that. Processes may ask for it at the same time: it
    appears whole or not at all. Where it cannot be made or kept, a warning says why, and the hardened model is given
    back, which is right everywhere.

    Raises:
        ModelError: the file is not a hardened model.
    """
    with open_file(path) as source:
        if made_for(source.skeleton) is not None:
            return path
    # Where the vector instructions are not known, a blocked layout could not be told from another machine's.
    level: Level = "all" if this_machine("all").cpu_flags else "extended"
    kept = _kept(path, level)
    if _whole(kept):
        return kept / _MODEL
    try:
        kept, unverified = _made(path, level)
    except (OutputError, NotOptimizedError, OSError) as error:
        warnings.warn(f"{path} is run as it is, not optimised: {error}", stacklevel=4)
        return path
    if unverified:
        warnings.warn(f"{path}: its optimised form was not compared with it: {unverified}", stacklevel=4)
    return kept / _MODEL


def _made(path: Path, level: Level) -> tuple[Path, str]:
    """Make the optimised form of one state of the model; where another comes meanwhile, nothing is kept.

    Returns:
        The folder in the cache, and why its model was not compared with the hardened one; empty if it was.
    """
    folder = cache_folder()
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            private = stack.enter_context(temporary_folder(folder / "making"))
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({error.strerror}); set XDG_CACHE_HOME") from error
        made = private / "made"
        made.mkdir(0o700)
        time.sleep(_TICK)  # so that a write to the files from here on changes their timestamps
        kept = _kept(path, level)
        report = optimize(path, output=made / _MODEL, level=level)
        if _kept(path, level) != kept:
            raise OutputError("it was written to meanwhile")
        with contextlib.suppress(OSError):  # no more permissions than the model has
            (made / _MODEL).chmod(stat.S_IMODE(path.stat().st_mode))
        (made / _STAMP).write_text(_stamp(made / _MODEL), encoding="ascii")
        if not _whole(kept):
            with contextlib.suppress(FileNotFoundError):
                kept.rename(private / "damaged")
            try:
                made.rename(kept)
            except OSError:
                if not _whole(kept):  # else another process was first
                    raise
    return kept, report.unverified


def _kept(path: Path, level: Level) -> Path:
    """The folder in the cache for the optimised form of a model as it is now."""
    known = (this_machine(level).to_json(), __version__, str(path.absolute()), _stamp(path))
    return cache_folder() / hashlib.sha256("\n".join(known).encode("utf-8", "surrogateescape")).hexdigest()


def _stamp(path: Path) -> str:
    """What changes when a model or its external data are written to.

    The time of the last change of the file's status is more than that of its content: tools set the latter, to that of
    another file or to a fixed one.
    """
    with open_file(path) as source:
        files = (path, *(file.path for file in data_files(source.skeleton, path)))
        states = (file.stat() for file in files)
        times = (f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}" for state in states)
        return "\n".join((source.digest, *times))


def _whole(kept: Path) -> bool:
    """Whether a model is in the cache, with its data, as it was written."""
    try:
        return (kept / _STAMP).read_text(encoding="ascii") == _stamp(kept / _MODEL)
    except (OSError, ValueError, ModelError):
        return False
