"""Convolutions, pools and normalisations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from jr_onnx.robustness.differentiable.operators import Call, Operator, Operators
from jr_onnx.robustness.differentiable.windows import Windows, pad_spatial, windows_of

_MAX_POOL: tuple[Callable[..., Tensor], ...] = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)


def _conv(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    windows = windows_of(call, x.shape[2:], weight.shape[2:])
    return _convolve(windows.padded(x, 0.0), weight, bias, windows, call.get("group", 1))


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, windows: Windows, groups: int = 1) -> Tensor:
    none = [0] * len(windows.kernel)
    return torch.convolution(x, weight, bias, windows.strides, none, windows.dilations, False, none, groups)


def _conv_transpose(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The full transposed convolution, then cut to the pads; what output_padding adds is 0 before the bias."""
    rank, kernel = x.dim() - 2, weight.shape[2:]
    strides, dilations = call.get("strides") or [1] * rank, call.get("dilations") or [1] * rank
    extra = call.get("output_padding") or [0] * rank
    none = [0] * rank
    full = torch.convolution(x, weight, None, strides, none, dilations, True, none, call.get("group", 1))
    mode, wanted = call.get("auto_pad", "NOTSET"), call.get("output_shape")
    if mode.startswith("SAME") and not wanted:
        wanted = [length * stride for length, stride in zip(x.shape[2:], strides, strict=True)]
    pads = call.get("pads") or [0] * 2 * rank
    before, after = list(pads[:rank]), list(pads[rank:])
    if wanted:
        total = [length + more - goal for length, more, goal in zip(full.shape[2:], extra, wanted[-rank:], strict=True)]
        small, large = [width // 2 for width in total], [width - width // 2 for width in total]
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
    elif mode == "VALID":
        before, after = none, none
    cut = pad_spatial(full, [-low for low in before], [more - high for more, high in zip(extra, after, strict=True)])
    return cut if bias is None else cut + bias.reshape(-1, *[1] * len(kernel))


def _max_pool(call: Call, x: Tensor) -> Tensor:
    call.one_output()
    windows = windows_of(call, x.shape[2:], call.get("kernel_shape"))
    padded = windows.padded(x, -math.inf)
    return _MAX_POOL[x.dim() - 3](padded, windows.kernel, windows.strides, dilation=windows.dilations)


def _sum_pool(x: Tensor, windows: Windows) -> Tensor:
    """The sum in each window, as a convolution with ones."""
    ones = torch.ones(1, 1, *windows.kernel, dtype=x.dtype, device=x.device)
    total = _convolve(x.reshape(-1, 1, *x.shape[2:]), ones, None, windows)
    return total.reshape(*x.shape[:2], *total.shape[2:])


def _average_pool(call: Call, x: Tensor) -> Tensor:
    windows = windows_of(call, x.shape[2:], call.get("kernel_shape"))
    ones = torch.ones(1, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
    if call.get("count_include_pad", 0):
        counted = pad_spatial(windows.padded(ones, 1.0, beyond=False), [0] * len(windows.kernel), windows.beyond)
    else:
        counted = windows.padded(ones, 0.0)
    return _sum_pool(windows.padded(x, 0.0), windows) / _sum_pool(counted, windows)


def _lp_pool(call: Call, x: Tensor) -> Tensor:
    windows = windows_of(call, x.shape[2:], call.get("kernel_shape"))
    power = float(call.get("p", 2))
    return _sum_pool(windows.padded(x, 0.0).abs().pow(power), windows).pow(1 / power)


def _global(function: Callable[[Tensor, list[int]], Tensor]) -> Operator:
    def pool(_call: Call, x: Tensor) -> Tensor:
        return function(x, list(range(2, x.dim())))

    return pool


def _global_lp_pool(call: Call, x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, call.get("p", 2), dim=list(range(2, x.dim())), keepdim=True)
    return norm


def _batch_normalization(call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    if call.get("training_mode", 0) or not call.get("spatial", 1):
        raise call.unsupported("training mode" if call.get("training_mode", 0) else "spatial = 0")
    return functional.batch_norm(x, mean, variance, scale, bias, eps=call.get("epsilon", 1e-5))


def _instance_normalization(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.group_norm(x, x.shape[1], scale, bias, call.get("epsilon", 1e-5))


def _group_normalization(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Before opset 21 there was one scale a group."""
    groups = call.get("num_groups")
    if call.opset < 21:
        scale, bias = (values.repeat_interleave(x.shape[1] // groups) for values in (scale, bias))
    return functional.group_norm(x, groups, scale, bias, call.get("epsilon", 1e-5))


def _layer_normalization(call: Call, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = call.get("axis", -1) % x.dim()
    over = list(range(axis, x.dim()))
    mean = x.mean(over, keepdim=True)
    inverse = torch.rsqrt((x - mean).square().mean(over, keepdim=True) + call.get("epsilon", 1e-5))
    y = (x - mean) * inverse * scale
    return y if bias is None else y + bias, mean, inverse


def _rms_normalization(call: Call, x: Tensor, scale: Tensor) -> Tensor:
    return functional.rms_norm(x, x.shape[call.get("axis", -1) :], eps=call.get("epsilon", 1e-5)) * scale


def _mean_variance_normalization(call: Call, x: Tensor) -> Tensor:
    axes = call.get("axes") or [0, 2, 3]
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred * centred).mean(axes, keepdim=True).sqrt() + 1e-9)


def _lrn(call: Call, x: Tensor) -> Tensor:
    """Across the channels from (size - 1) // 2 before to size // 2 behind."""
    size = call.get("size")
    sides = [0, 0] * (x.dim() - 2) + [(size - 1) // 2, size // 2]
    energy = functional.pad(x * x, sides).unfold(1, size, 1).sum(-1)
    scale: Tensor = call.get("bias", 1.0) + call.get("alpha", 1e-4) / size * energy
    return x / scale.pow(call.get("beta", 0.75))


def _heads(x: Tensor, number: int | None) -> Tensor:
    """[batch, heads, length, width] from that, or from [batch, length, heads * width]."""
    return x if x.dim() == 4 else x.reshape(*x.shape[:2], number or 1, -1).transpose(1, 2)


#: The attributes of Attention that are understood; softmax_precision is a precision, and there is only one here.
_ATTENTION = frozenset({"is_causal", "kv_num_heads", "q_num_heads", "scale", "softmax_precision"})


def _attention(call: Call, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *past: Tensor | None) -> Tensor:
    """Scaled dot-product attention (opset 23), without the cache of the past that generators use."""
    call.one_output()
    if any(value is not None for value in past):
        raise call.unsupported("past keys and values")
    unknown = {name for name, value in call.attributes.items() if value} - _ATTENTION
    if unknown:
        raise call.unsupported(" and ".join(sorted(unknown)))
    flat = q.dim() == 3
    q = _heads(q, call.get("q_num_heads"))
    k, v = (_heads(value, call.get("kv_num_heads")) for value in (k, v))
    causal = bool(call.get("is_causal", 0))
    if causal and mask is not None:
        allowed = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
        mask = mask & allowed if mask.dtype == torch.bool else mask.masked_fill(~allowed, -math.inf)
    y = functional.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        is_causal=causal and mask is None,
        scale=call.get("scale"),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return y.transpose(1, 2).flatten(-2) if flat else y


NEURAL: Operators = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "LpPool": _lp_pool,
    "GlobalAveragePool": _global(lambda x, axes: x.mean(axes, keepdim=True)),
    "GlobalMaxPool": _global(lambda x, axes: x.amax(axes, keepdim=True)),
    "GlobalLpPool": _global_lp_pool,
    "BatchNormalization": _batch_normalization,
    "InstanceNormalization": _instance_normalization,
    "GroupNormalization": _group_normalization,
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": _rms_normalization,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "LRN": _lrn,
    "Attention": _attention,
}
