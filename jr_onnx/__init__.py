"""Put JumpReLU in place of ReLU in an exported ONNX model; see README.md for what that buys and what it does not."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jr_onnx.version import __version__

if TYPE_CHECKING:
    from jr_onnx.checking.check import check
    from jr_onnx.checking.diff import DiffReport, diff
    from jr_onnx.checking.report import CheckReport, Finding
    from jr_onnx.conversion.convert import convert
    from jr_onnx.conversion.inspect import find_sites, inspect
    from jr_onnx.conversion.policy import JumpReluPolicy, PolicyRule, read_policy
    from jr_onnx.conversion.report import ConversionReport, InspectionReport, RevertReport
    from jr_onnx.conversion.revert import revert
    from jr_onnx.conversion.sites.survey import Site
    from jr_onnx.errors import JrOnnxError, ModelError, OptionError, OutputError, RuntimeMissingError, WorkerError
    from jr_onnx.robustness.attacks.target import Effort
    from jr_onnx.robustness.evaluation.evaluate import evaluate
    from jr_onnx.robustness.evaluation.report import EvaluationReport, ModelResult
    from jr_onnx.robustness.evaluation.verdict import Verdict
    from jr_onnx.robustness.tuning.report import Candidate, Confirmation, TuningReport
    from jr_onnx.robustness.tuning.robustness import AttackSettings
    from jr_onnx.robustness.tuning.tune import tune
    from jr_onnx.runtime import NodePlacement, library_path, placement, register, session
    from jr_onnx.runtime.bench import bench
    from jr_onnx.runtime.data.dataset import Dataset
    from jr_onnx.runtime.data.loading import load_data
    from jr_onnx.runtime.measure import BenchReport
    from jr_onnx.runtime.optimization.optimize import OptimizationReport, optimize
    from jr_onnx.serving.deploy import DeploymentReport, deploy

__all__ = [
    "AttackSettings",
    "BenchReport",
    "Candidate",
    "CheckReport",
    "Confirmation",
    "ConversionReport",
    "Dataset",
    "DeploymentReport",
    "DiffReport",
    "Effort",
    "EvaluationReport",
    "Finding",
    "InspectionReport",
    "JrOnnxError",
    "JumpReluPolicy",
    "ModelError",
    "ModelResult",
    "NodePlacement",
    "OptimizationReport",
    "OptionError",
    "OutputError",
    "PolicyRule",
    "RevertReport",
    "RuntimeMissingError",
    "Site",
    "TuningReport",
    "Verdict",
    "WorkerError",
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
    "load_data",
    "optimize",
    "placement",
    "read_policy",
    "register",
    "revert",
    "session",
    "tune",
]

#: Module -> what users find here of it. Each is imported on first use, so that converting does not wait for the rest.
_EXPORTS = {
    "checking.check": "check",
    "checking.diff": "DiffReport diff",
    "checking.report": "CheckReport Finding",
    "conversion.convert": "convert",
    "conversion.inspect": "find_sites inspect",
    "conversion.policy": "JumpReluPolicy PolicyRule read_policy",
    "conversion.report": "ConversionReport InspectionReport RevertReport",
    "conversion.revert": "revert",
    "conversion.sites.survey": "Site",
    "errors": "JrOnnxError ModelError OptionError OutputError RuntimeMissingError WorkerError",
    "robustness.attacks.target": "Effort",
    "robustness.evaluation.evaluate": "evaluate",
    "robustness.evaluation.report": "EvaluationReport ModelResult",
    "robustness.evaluation.verdict": "Verdict",
    "robustness.tuning.report": "Candidate Confirmation TuningReport",
    "robustness.tuning.robustness": "AttackSettings",
    "robustness.tuning.tune": "tune",
    "runtime": "NodePlacement library_path placement register session",
    "runtime.bench": "bench",
    "runtime.data.dataset": "Dataset",
    "runtime.data.loading": "load_data",
    "runtime.measure": "BenchReport",
    "runtime.optimization.optimize": "OptimizationReport optimize",
    "serving.deploy": "DeploymentReport deploy",
}
_HOMES = {name: f"jr_onnx.{module}" for module, names in _EXPORTS.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
