"""Arithmetic, comparisons, element-wise functions, and products of matrices."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from jr_onnx.robustness.differentiable.operators import Call, Operator, Operators


def _plain(function: Callable[..., Tensor]) -> Operator:
    """A torch function that needs nothing from the node but its inputs."""
    return lambda _call, *inputs: function(*inputs)


def _with(function: Callable[..., Tensor], **defaults: float) -> Operator:
    """A torch function of one input whose parameters are attributes, in this order, with these defaults."""
    return lambda call, x: function(x, *(call.get(name, default) for name, default in defaults.items()))


def _fold(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """A function of two inputs, for any number of them."""
    return lambda _call, *inputs: functools.reduce(function, inputs)


def _mean(_call: Call, *inputs: Tensor) -> Tensor:
    return functools.reduce(torch.add, inputs) / len(inputs)


def _div(_call: Call, x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _pow(_call: Call, x: Tensor, y: Tensor) -> Tensor:
    return torch.pow(x, y).to(x.dtype)


def _mod(call: Call, x: Tensor, y: Tensor) -> Tensor:
    return torch.fmod(x, y) if call.get("fmod", 0) else torch.remainder(x, y)


def _clip(call: Call, x: Tensor, lowest: Tensor | None = None, highest: Tensor | None = None) -> Tensor:
    low = call.get("min") if lowest is None else lowest
    high = call.get("max") if highest is None else highest
    if low is not None:
        x = torch.maximum(x, torch.as_tensor(low, dtype=x.dtype, device=x.device))
    if high is not None:
        x = torch.minimum(x, torch.as_tensor(high, dtype=x.dtype, device=x.device))
    return x


def _cast(call: Call, x: Tensor) -> Tensor:
    return x.to(call.torch_type(call.get("to")))


def _is_inf(call: Call, x: Tensor) -> Tensor:
    found = torch.zeros_like(x, dtype=torch.bool)
    if call.get("detect_positive", 1):
        found |= torch.isposinf(x)
    if call.get("detect_negative", 1):
        found |= torch.isneginf(x)
    return found


def _thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x > alpha, x, torch.zeros_like(x))


def _selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0)))


def _prelu(_call: Call, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def _gelu(call: Call, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=call.get("approximate", "none"))


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


def _swish(x: Tensor, alpha: float) -> Tensor:
    return x * torch.sigmoid(alpha * x)


def _shrink(x: Tensor, bias: float, lambd: float) -> Tensor:
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x)))


def _gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a, b = a.t() if call.get("transA", 0) else a, b.t() if call.get("transB", 0) else b
    product = call.get("alpha", 1.0) * (a @ b) if call.get("alpha", 1.0) != 1 else a @ b
    return product if c is None else product + (call.get("beta", 1.0) * c if call.get("beta", 1.0) != 1 else c)


def _einsum(call: Call, *inputs: Tensor) -> Tensor:
    return torch.einsum(call.get("equation"), *inputs)


MATH: Operators = {
    "Abs": _plain(torch.abs),
    "Neg": _plain(torch.neg),
    "Exp": _plain(torch.exp),
    "Log": _plain(torch.log),
    "Sqrt": _plain(torch.sqrt),
    "Reciprocal": _plain(torch.reciprocal),
    "Floor": _plain(torch.floor),
    "Ceil": _plain(torch.ceil),
    "Round": _plain(torch.round),
    "Sign": _plain(torch.sign),
    "Erf": _plain(torch.erf),
    "Sin": _plain(torch.sin),
    "Cos": _plain(torch.cos),
    "Tan": _plain(torch.tan),
    "Asin": _plain(torch.asin),
    "Acos": _plain(torch.acos),
    "Atan": _plain(torch.atan),
    "Sinh": _plain(torch.sinh),
    "Cosh": _plain(torch.cosh),
    "Tanh": _plain(torch.tanh),
    "Asinh": _plain(torch.asinh),
    "Acosh": _plain(torch.acosh),
    "Atanh": _plain(torch.atanh),
    "Sigmoid": _plain(torch.sigmoid),
    "Softplus": _plain(functional.softplus),
    "Softsign": _plain(functional.softsign),
    "Mish": _plain(functional.mish),
    "HardSwish": _plain(functional.hardswish),
    "LeakyRelu": _with(functional.leaky_relu, alpha=0.01),
    "Elu": _with(functional.elu, alpha=1.0),
    "Celu": _with(torch.celu, alpha=1.0),
    "Selu": _with(_selu, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "HardSigmoid": _with(_hard_sigmoid, alpha=0.2, beta=0.5),
    "ThresholdedRelu": _with(_thresholded_relu, alpha=1.0),
    "Shrink": _with(_shrink, bias=0.0, lambd=0.5),
    "Swish": _with(_swish, alpha=1.0),
    "Gelu": _gelu,
    "PRelu": _prelu,
    "Add": _plain(torch.add),
    "Sub": _plain(torch.sub),
    "Mul": _plain(torch.mul),
    "Div": _div,
    "Pow": _pow,
    "Mod": _mod,
    "Sum": _fold(torch.add),
    "Mean": _mean,
    "Max": _fold(torch.maximum),
    "Min": _fold(torch.minimum),
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": lambda _call, x, like: x.to(like.dtype),
    "Not": _plain(torch.logical_not),
    "And": _plain(torch.logical_and),
    "Or": _plain(torch.logical_or),
    "Xor": _plain(torch.logical_xor),
    "Equal": _plain(torch.eq),
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "IsNaN": _plain(torch.isnan),
    "IsInf": _is_inf,
    "Where": _plain(torch.where),
    "MatMul": _plain(torch.matmul),
    "Gemm": _gemm,
    "Einsum": _einsum,
}
