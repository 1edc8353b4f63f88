"""The operators of the copy: ONNX op type -> what it is in torch. Relu and JumpReLU are sites, not in here."""

from __future__ import annotations

from jr_onnx.robustness.differentiable.operators import Operators
from jr_onnx.robustness.differentiable.ops_math import MATH
from jr_onnx.robustness.differentiable.ops_neural import NEURAL
from jr_onnx.robustness.differentiable.ops_quantize import QUANTIZATION
from jr_onnx.robustness.differentiable.ops_reduce import REDUCTIONS
from jr_onnx.robustness.differentiable.ops_resize import RESIZING
from jr_onnx.robustness.differentiable.ops_tensor import TENSORS

OPERATORS: Operators = {**MATH, **REDUCTIONS, **TENSORS, **NEURAL, **RESIZING, **QUANTIZATION}
