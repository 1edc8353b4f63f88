"""Put JumpReLU in place of ReLU in an exported ONNX model; see README.md for what that buys and what it does not."""

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
from jr_onnx.version import __version__

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
