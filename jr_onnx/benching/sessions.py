"""Sessions to measure: by kernel where there are kernels, and quiet while they wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jr_onnx.running.ways import Arrays, CannotRunError, library_problem, onnxruntime, runtime, session_errors


def open_session(path: Path, provider: str, threads: int, profile: str | None = None) -> Any:
    """A session on one model.

    Args:
        profile: the prefix of the file for onnxruntime's profile, if it shall keep one.

    Raises:
        CannotRunError: onnxruntime does not load the model, or the provider does not start.
    """
    options = onnxruntime().SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # Else the threads of a session that waits would spin on the cores of the one that runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    with blamed_on(path):
        return runtime().session(path, providers=[provider], session_options=options, kernels=not library_problem())


def taken(session: Any, feeds: Arrays) -> dict[str, Any]:
    """The feeds that a model has inputs for: a jump that is an input the original has not."""
    known = {one.name for one in (*session.get_inputs(), *session.get_overridable_initializers())}
    return {name: array for name, array in feeds.items() if name in known}


@contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """What onnxruntime says within is one line that names the file.

    Raises:
        CannotRunError: onnxruntime fails.
    """
    try:
        yield
    except session_errors() as error:
        raise CannotRunError(f"{path}: {' '.join(str(error).split())}") from error
