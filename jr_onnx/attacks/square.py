"""The Square attack in Linf, on the class scores of onnxruntime alone; no torch.

Source: Andriushchenko et al., arXiv 1912.00049. Ours and not ART's, which puts the same square on every image of a
batch, draws it from NumPy's global state, and asks for each of three forward passes what one can tell.
"""

from __future__ import annotations

import math

import numpy as np

from jr_onnx.attacks.attack import Images
from jr_onnx.attacks.search import Search

#: The share of the pixels that a square covers at first, and after which shares of the queries it halves.
_SHARE, _HALVINGS = 0.8, (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


def square(search: Search) -> None:
    """Put squares of +-eps where they lower the margin, until the queries are spent or the class is wrong."""
    images = search.images
    last = search.target.layout == "NHWC" and images.ndim == 4
    planes, low, high = (_planes(values, last) for values in (images, search.low, search.high))
    current = planes.copy()
    search.judge(search.left(), images)
    for query in range(max(search.effort.queries - 1, 0)):
        index = search.left()
        if not len(index):
            return
        side = _side(query / search.effort.queries, planes.shape)
        tried = np.stack(
            [
                _stripes(search, i, planes[i]) if query == 0 else _with_square(search, i, planes[i], current[i], side)
                for i in index
            ]
        )
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


def _side(spent: float, shape: tuple[int, ...]) -> int:
    share = _SHARE / 2 ** sum(spent > limit for limit in _HALVINGS)
    return max(round(math.sqrt(share * shape[2] * shape[3])), 1)


def _stripes(search: Search, image: int, plane: Images) -> Images:
    """The image with a column of +-eps in each place, by channel."""
    signs = search.generators[image].choice([-1.0, 1.0], (plane.shape[0], 1, plane.shape[2]))
    return (plane + search.effort.eps * signs).astype(np.float32)


def _with_square(search: Search, image: int, plane: Images, current: Images, side: int) -> Images:
    """The current candidate with one more square, whose sign is drawn for each channel."""
    generator = search.generators[image]
    tall, wide = min(side, plane.shape[1]), min(side, plane.shape[2])
    top = int(generator.integers(plane.shape[1] - tall + 1))
    left = int(generator.integers(plane.shape[2] - wide + 1))
    signs = generator.choice([-1.0, 1.0], (plane.shape[0], 1, 1))
    place = (slice(None), slice(top, top + tall), slice(left, left + wide))
    tried = current.copy()
    tried[place] = plane[place] + search.effort.eps * signs
    return tried
