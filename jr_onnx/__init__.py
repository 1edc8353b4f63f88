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
    from jr_onnx.robustness.dataset.dataset import Dataset
    from jr_onnx.robustness.dataset.loading import load_data
    from jr_onnx.robustness.evaluation.evaluate import evaluate
    from jr_onnx.robustness.evaluation.report import EvaluationReport, ModelResult
    from jr_onnx.robustness.evaluation.verdict import Verdict
    from jr_onnx.robustness.tuning.report import Candidate, Confirmation, TuningReport
    from jr_onnx.robustness.tuning.robustness import AttackSettings
    from jr_onnx.robustness.tuning.tune import tune
    from jr_onnx.runtime import NodePlacement, library_path, placement, register, session
    from jr_onnx.runtime.bench import bench
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

#: Name -> the module it lives in. Each is imported when it is asked for: who converts does not wait for the rest.
_HOMES = {
    "AttackSettings": "jr_onnx.robustness.tuning.robustness",
    "Effort": "jr_onnx.robustness.attacks.target",
    "Dataset": "jr_onnx.robustness.dataset.dataset",
    "load_data": "jr_onnx.robustness.dataset.loading",
    "ModelResult": "jr_onnx.robustness.evaluation.report",
    "Verdict": "jr_onnx.robustness.evaluation.verdict",
    "Candidate": "jr_onnx.robustness.tuning.report",
    "Confirmation": "jr_onnx.robustness.tuning.report",
    "WorkerError": "jr_onnx.errors",
    "bench": "jr_onnx.runtime.bench",
    "BenchReport": "jr_onnx.runtime.measure",
    "check": "jr_onnx.checking.check",
    "CheckReport": "jr_onnx.checking.report",
    "Finding": "jr_onnx.checking.report",
    "convert": "jr_onnx.conversion.convert",
    "DeploymentReport": "jr_onnx.serving.deploy",
    "deploy": "jr_onnx.serving.deploy",
    "DiffReport": "jr_onnx.checking.diff",
    "diff": "jr_onnx.checking.diff",
    "JrOnnxError": "jr_onnx.errors",
    "ModelError": "jr_onnx.errors",
    "OptionError": "jr_onnx.errors",
    "OutputError": "jr_onnx.errors",
    "RuntimeMissingError": "jr_onnx.errors",
    "evaluate": "jr_onnx.robustness.evaluation.evaluate",
    "EvaluationReport": "jr_onnx.robustness.evaluation.report",
    "find_sites": "jr_onnx.conversion.inspect",
    "inspect": "jr_onnx.conversion.inspect",
    "OptimizationReport": "jr_onnx.runtime.optimization.optimize",
    "optimize": "jr_onnx.runtime.optimization.optimize",
    "JumpReluPolicy": "jr_onnx.conversion.policy",
    "PolicyRule": "jr_onnx.conversion.policy",
    "read_policy": "jr_onnx.conversion.policy",
    "ConversionReport": "jr_onnx.conversion.report",
    "InspectionReport": "jr_onnx.conversion.report",
    "RevertReport": "jr_onnx.conversion.report",
    "revert": "jr_onnx.conversion.revert",
    "NodePlacement": "jr_onnx.runtime",
    "library_path": "jr_onnx.runtime",
    "placement": "jr_onnx.runtime",
    "register": "jr_onnx.runtime",
    "session": "jr_onnx.runtime",
    "Site": "jr_onnx.conversion.sites.survey",
    "TuningReport": "jr_onnx.robustness.tuning.report",
    "tune": "jr_onnx.robustness.tuning.tune",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
