"""Put JumpReLU in place of ReLU in an exported ONNX model; see README.md for what that buys and what it does not."""

__version__ = "0.1.0"

from jr_onnx.convert import convert
from jr_onnx.errors import JrOnnxError, ModelError, OptionError, OutputError
from jr_onnx.inspect import find_sites, inspect
from jr_onnx.policy import JumpReluPolicy, PolicyRule, read_policy
from jr_onnx.report import ConversionReport, InspectionReport
from jr_onnx.sites import Site

__all__ = [
    "ConversionReport",
    "InspectionReport",
    "JrOnnxError",
    "JumpReluPolicy",
    "ModelError",
    "OptionError",
    "OutputError",
    "PolicyRule",
    "Site",
    "convert",
    "find_sites",
    "inspect",
    "read_policy",
]
