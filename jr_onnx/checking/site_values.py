"""What a JumpReLU gave against what its definition gives, bit for bit; forms are held to what they document."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.element_types import NUMPY_TYPES
from jr_onnx.forms.table import HARD_SIGMOID, JUMP_RELU, RELU_GREATER, THRESHOLDED_RELU, Form
from jr_onnx.reference import jump_relu
from jr_onnx.sites.survey import Site

Array = npt.NDArray[Any]

_UNSIGNED = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def wrong_value(site: Site, form: Form, x: Array, y: Array, jump: Array, *, unrounded: bool = False) -> str:
    """The first value that is wrong; empty if all are right.

    NaN is NaN whatever its payload is. Relu*Greater and Relu*HardSigmoid may keep the sign of a zero; ThresholdedRelu
    gives 0 for NaN.
    `unrounded` says that the site may have read a wider value than `x`, which is that value rounded: what is rounded to
    the jump itself may have been above it.
    """
    dtype = NUMPY_TYPES[site.element_type]
    values, got = x.astype(dtype), y.astype(dtype)
    if values.shape != got.shape:
        return f"the output has the shape {list(got.shape)}, the input {list(values.shape)}"
    wanted = jump_relu(values, jump)
    if form is THRESHOLDED_RELU:
        wanted = np.where(np.isnan(values), dtype.type(0), wanted)
    same = _bits(got) == _bits(wanted)
    same |= np.isnan(got) & np.isnan(wanted)
    if form in (RELU_GREATER, HARD_SIGMOID):
        same |= (got == 0) & (wanted == 0)
    if unrounded:
        same |= (values == jump) & (got == values)
    if same.all():
        return ""
    place = tuple(int(i) for i in np.argwhere(~same)[0])
    x0, y0, w0 = (float(array[place]) for array in (values, got, wanted))
    return f"gives {y0!r} for {x0!r} at {list(place)}, JumpReLU {w0!r} ({int((~same).sum())} of {same.size} wrong)"


def _bits(array: Array) -> Array:
    return np.ascontiguousarray(array).view(_UNSIGNED[array.dtype.itemsize]).reshape(array.shape)


def effective_form(site: Site, body: Form | None, *, library: bool) -> Form:
    """The form that runs: of JumpReLU without the library its function body."""
    form = site.hardened.form if site.hardened is not None else JUMP_RELU
    return body if form is JUMP_RELU and body is not None and not library else form


def edge_values(site: Site, jump: Array) -> Array:
    """Every value at which something could go wrong, for each jump of a site: [number of values, *jump.shape]."""
    dtype = NUMPY_TYPES[site.element_type]
    k = np.asarray(jump).astype(dtype)
    infinity = dtype.type(np.inf)
    largest, smallest = np.nextafter(infinity, dtype.type(0)), np.nextafter(dtype.type(0), infinity)
    fixed = [-np.inf, -1.0, -0.0, 0.0, 1.0, np.inf, np.nan, float(largest), -float(largest), float(smallest)]
    around = [np.nextafter(k, -infinity), k, np.nextafter(k, infinity), (k / dtype.type(2)).astype(dtype), -k]
    rows = [np.broadcast_to(dtype.type(value), k.shape) for value in fixed] + around
    values = np.stack([np.asarray(row, dtype) for row in rows])
    # Behind a Relu or a Clip the form is without a Relu of its own, so nothing negative may reach it.
    return np.where(values < 0, -values, values) if site.rectified else values
