"""What every test gets: small models in folders of their own, quiet onnxruntime, and Hypothesis without a clock."""

from __future__ import annotations

import onnxruntime
from hypothesis import HealthCheck, settings

# Errors only: the models of the backend tests have initializers that nothing uses, and onnxruntime says so each time.
onnxruntime.set_default_logger_severity(3)

# The machines that run the tests are shared: a slow example is no failure.
settings.register_profile("jr-onnx", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("jr-onnx")
