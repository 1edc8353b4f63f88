"""Put JumpReLU in place of ReLU in an exported ONNX model; see README.md for what that buys and what it does not."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jr_onnx.version import __version__

if TYPE_CHECKING:
    from jr_onnx.benching.bench import bench
    from jr_onnx.benching.report import BenchReport
    from jr_onnx.checking.check import check
    from jr_onnx.checking.findings import CheckReport, Finding
    from jr_onnx.conversion import convert
    from jr_onnx.deployment.deploy import DeploymentReport, deploy
    from jr_onnx.diffing.diff import DiffReport, diff
    from jr_onnx.errors import JrOnnxError, ModelError, OptionError, OutputError, RuntimeMissingError
    from jr_onnx.evaluation.evaluate import evaluate
    from jr_onnx.evaluation.results import EvaluationReport
    from jr_onnx.inspection import find_sites, inspect
    from jr_onnx.optimization.optimize import OptimizationReport, optimize
    from jr_onnx.policy import JumpReluPolicy, PolicyRule, read_policy
    from jr_onnx.report import ConversionReport, InspectionReport
    from jr_onnx.runtime import NodePlacement, library_path, placement, register, session
    from jr_onnx.sites.survey import Site
    from jr_onnx.tuning.report import TuningReport
    from jr_onnx.tuning.tune import tune

__all__ = [
    "BenchReport",
    "CheckReport",
    "ConversionReport",
    "DeploymentReport",
    "DiffReport",
    "EvaluationReport",
    "Finding",
    "InspectionReport",
    "JrOnnxError",
    "JumpReluPolicy",
    "ModelError",
    "NodePlacement",
    "OptimizationReport",
    "OptionError",
    "OutputError",
    "PolicyRule",
    "RuntimeMissingError",
    "Site",
    "TuningReport",
    "__version__",
    "bench",
    "check",
    "convert",
    "deploy",
    "diff",
    "evaluate",
    "find_sites",
    "inspect",
    "library_path",
    "optimize",
    "placement",
    "read_policy",
    "register",
    "session",
    "tune",
]

#: Name -> the module it lives in. Each is imported when it is asked for: who converts does not wait for the rest.
_HOMES = {
    "bench": "jr_onnx.benching.bench",
    "BenchReport": "jr_onnx.benching.report",
    "check": "jr_onnx.checking.check",
    "CheckReport": "jr_onnx.checking.findings",
    "Finding": "jr_onnx.checking.findings",
    "convert": "jr_onnx.conversion",
    "DeploymentReport": "jr_onnx.deployment.deploy",
    "deploy": "jr_onnx.deployment.deploy",
    "DiffReport": "jr_onnx.diffing.diff",
    "diff": "jr_onnx.diffing.diff",
    "JrOnnxError": "jr_onnx.errors",
    "ModelError": "jr_onnx.errors",
    "OptionError": "jr_onnx.errors",
    "OutputError": "jr_onnx.errors",
    "RuntimeMissingError": "jr_onnx.errors",
    "evaluate": "jr_onnx.evaluation.evaluate",
    "EvaluationReport": "jr_onnx.evaluation.results",
    "find_sites": "jr_onnx.inspection",
    "inspect": "jr_onnx.inspection",
    "OptimizationReport": "jr_onnx.optimization.optimize",
    "optimize": "jr_onnx.optimization.optimize",
    "JumpReluPolicy": "jr_onnx.policy",
    "PolicyRule": "jr_onnx.policy",
    "read_policy": "jr_onnx.policy",
    "ConversionReport": "jr_onnx.report",
    "InspectionReport": "jr_onnx.report",
    "NodePlacement": "jr_onnx.runtime",
    "library_path": "jr_onnx.runtime",
    "placement": "jr_onnx.runtime",
    "register": "jr_onnx.runtime",
    "session": "jr_onnx.runtime",
    "Site": "jr_onnx.sites.survey",
    "TuningReport": "jr_onnx.tuning.report",
    "tune": "jr_onnx.tuning.tune",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
