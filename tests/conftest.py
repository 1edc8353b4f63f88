"""What every test gets: one thread in each library, a quiet onnxruntime, and Hypothesis without a clock."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnxruntime
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from onnxruntime.capi import onnxruntime_inference_collection
from outcome import refusal

# The tests run in a process for each core, and their models are small. Torch and NumPy read this when they are
# imported, here and in the processes that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")


class SessionOptions(onnxruntime.SessionOptions):
    """Options with one thread until a test asks for more: to start a pool takes 15 times as long as a small session."""

    def __init__(self) -> None:
        super().__init__()
        self.intra_op_num_threads = 1


onnxruntime.SessionOptions = SessionOptions
onnxruntime_inference_collection.C.get_default_session_options = SessionOptions

# Errors only: the models of the backend tests have initializers that nothing uses, and onnxruntime says so each time.
onnxruntime.set_default_logger_severity(3)

# The machines that run the tests are shared: a slow example is no failure.
settings.register_profile("jr-onnx", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("jr-onnx")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """No worker processes where files or tests are named, or what they print is shown at once (-s)."""
    named = not all(Path(argument).is_dir() for argument in config.args)
    return 0 if named or config.option.capture == "no" else None


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Run a command that must refuse; what it says after its own name."""
    return partial(refusal, tmp_path)


@pytest.fixture(scope="session")
def kept_folder(request: pytest.FixtureRequest, testrun_uid: str) -> Callable[[str, Callable[[Path], None]], Path]:
    """A folder of pytest's cache that one process of each run brings up to date, and all of them use."""

    def keep(name: str, update: Callable[[Path], None]) -> Path:
        folder = Path(request.config.cache.mkdir(name))
        updated_by = folder.with_name(f"{name}.run")
        with FileLock(folder.with_name(f"{name}.lock")):
            if not updated_by.exists() or updated_by.read_text() != testrun_uid:
                update(folder)
                updated_by.write_text(testrun_uid)
        return folder

    return keep
