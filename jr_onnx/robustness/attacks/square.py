"""The Square attack in Linf, on the class scores of onnxruntime alone.

Source: Andriushchenko et al., arXiv 1912.00049. Ours and not ART's, which puts the same square on every image of a
batch, draws it from NumPy's global state, and asks for each of three forward passes what one can tell.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from jr_onnx.robustness.attacks.search import Indices, Search
from jr_onnx.robustness.attacks.target import Images

#: The share of the pixels that a square covers at first, and after which shares of the queries it halves.
_SHARE, _HALVINGS = 0.8, (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


def square(search: Search) -> None:
    """Put squares of +-eps where they lower the margin, until the queries are spent or the class is wrong."""
    images = search.images
    last = search.target.layout == "NHWC" and images.ndim == 4
    planes, low, high = (_planes(values, last) for values in (images, search.low, search.high))
    current, eps = planes.copy(), np.float32(search.effort.eps)
    search.judge(search.left(), images)
    for query in range(max(search.effort.queries - 1, 0)):
        index = search.left()
        if not len(index):
            return
        if query == 0:
            tried = planes[index] + eps * _signs(search, index, (planes.shape[1], 1, planes.shape[3]))
        else:
            window = _window(query / search.effort.queries, *planes.shape[2:])
            place, signs = _squares(search, index, planes.shape, window)
            tried = np.where(place, planes[index] + eps * signs, current[index])
        tried = np.clip(tried, low[index], high[index])
        candidates = (np.moveaxis(tried, 1, -1) if last else tried).reshape(len(index), *images.shape[1:])
        before = search.margins[index]
        search.judge(index, candidates)
        better = search.margins[index] < before
        current[index[better]] = tried[better]


def _planes(images: Images, channels_last: bool) -> Images:
    """[N, C, H, W]; a vector is one row, and of more than two axes behind the channels all but the last are rows."""
    if channels_last:
        return np.moveaxis(images, -1, 1)
    channels = images.shape[1] if images.ndim > 2 else 1
    return images.reshape(len(images), channels, -1, images.shape[-1])


def _window(spent: float, height: int, width: int) -> tuple[int, int]:
    """A square of the share that is due; where the plane is too low or too narrow for it, a rectangle of that share."""
    area = _SHARE / 2 ** sum(spent > limit for limit in _HALVINGS) * height * width
    side = max(round(math.sqrt(area)), 1)
    if height <= side and height < width:
        return height, max(round(area / height), 1)
    if width <= side and width < height:
        return max(round(area / width), 1), width
    return side, side


def _signs(search: Search, index: Indices, shape: tuple[int, ...]) -> Images:
    """[n, *shape] of +-1, each image's from its own generator."""
    return np.where(_uniform(search, index, shape) < 0.5, np.float32(-1), np.float32(1))


def _squares(
    search: Search, index: Indices, shape: tuple[int, ...], window: tuple[int, int]
) -> tuple[npt.NDArray[np.bool_], Images]:
    """A window for each image: where it is, [n, 1, H, W], and the sign that each channel of it gets, [n, C, 1, 1]."""
    inside = []
    for drawn, extent, length in zip(_uniform(search, index, (2,)).T, shape[2:], window, strict=True):
        first = (drawn * (extent - length + 1)).astype(np.int64)[:, None]
        at = np.arange(extent)
        inside.append((at >= first) & (at < first + length))
    rows, columns = inside
    return (rows[:, :, None] & columns[:, None, :])[:, None], _signs(search, index, (shape[1], 1, 1))


def _uniform(search: Search, index: Indices, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    return np.stack([search.generators[image].random(shape) for image in index])
