"""Sliding windows: the padding that convolutions and pools ask for, in every way ONNX has of saying it.

Source: ONNX operators Conv, ConvTranspose, MaxPool, AveragePool.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from jr_onnx.robustness.differentiable.operators import Call


@dataclass(frozen=True)
class Windows:
    """The windows of one node, one entry a spatial axis.

    Attributes:
        before: the padding before the first element.
        after: the padding behind the last.
        beyond: what the last window of ceil_mode takes behind the padding; it counts for nothing in an average.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    beyond: tuple[int, ...]

    def padded(self, x: Tensor, value: float, *, beyond: bool = True) -> Tensor:
        """The input with its padding."""
        after = [a + b for a, b in zip(self.after, self.beyond, strict=True)] if beyond else self.after
        return pad_spatial(x, self.before, after, value)


def pad_spatial(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """Pad the last axes; a negative width cuts off."""
    if not any(before) and not any(after):
        return x
    widths = [width for pair in zip(reversed(before), reversed(after), strict=True) for width in pair]
    return functional.pad(x, widths, value=value)


def windows_of(call: Call, size: Sequence[int], kernel: Sequence[int]) -> Windows:
    """The windows of a node on an input with this spatial size."""
    rank = len(size)
    strides = tuple(call.get("strides") or [1] * rank)
    dilations = tuple(call.get("dilations") or [1] * rank)
    spans = [(length - 1) * dilation + 1 for length, dilation in zip(kernel, dilations, strict=True)]
    pads = call.get("pads") or [0] * 2 * rank
    before, after = list(pads[:rank]), list(pads[rank:])
    mode = call.get("auto_pad", "NOTSET")
    if mode.startswith("SAME"):
        total = [
            max((math.ceil(length / stride) - 1) * stride + span - length, 0)
            for length, stride, span in zip(size, strides, spans, strict=True)
        ]
        small, large = [width // 2 for width in total], [width - width // 2 for width in total]
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
    elif mode == "VALID":
        before, after = [0] * rank, [0] * rank
    beyond = [0] * rank
    if call.get("ceil_mode", 0):
        for axis in range(rank):
            length = before[axis] + size[axis] + after[axis]
            number = math.ceil((length - spans[axis]) / strides[axis]) + 1
            if (number - 1) * strides[axis] >= size[axis] + before[axis]:
                number -= 1  # a window that starts in the padding at the end is left out
            beyond[axis] = max((number - 1) * strides[axis] + spans[axis] - length, 0)
    return Windows(tuple(kernel), strides, dilations, tuple(before), tuple(after), tuple(beyond))
