"""What every test gets: one thread in each library, a quiet onnxruntime, and Hypothesis without a clock."""

from __future__ import annotations

import os

import onnxruntime
import pytest
from hypothesis import HealthCheck, settings
from onnxruntime.capi import onnxruntime_inference_collection

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
    """No worker processes for a test that is named on the command line, or for output that is shown at once (-s)."""
    named = any("::" in argument for argument in config.args)
    return 0 if named or config.option.capture == "no" else None
