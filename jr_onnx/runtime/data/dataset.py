"""Images in pixels, with what turns them into a model's input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jr_onnx.errors import OptionError
from jr_onnx.runtime.data.fitting import Layout

Rows = npt.NDArray[np.int64]


def batches_of(samples: int, fixed: int | None, size: int) -> Iterator[tuple[Rows, int]]:
    """Rows for each run, and how many of them are samples; the rest is padding.

    A model with a fixed batch size gets just that. Activations of a padded batch are not counted, unless it is the
    only one.
    """
    size = fixed or size
    for start in range(0, samples, size):
        rows = np.arange(start, min(start + size, samples))
        yield (np.resize(rows, size) if fixed else rows), len(rows)


Floats = npt.NDArray[np.float32]


class Images(Protocol):
    """What is needed of an array of images: a NumPy array, a memory map, or files that are read when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, C, H, W], [N, H, W, C], or [N, ...] for other samples."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """As stored: uint8, or floating point."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> npt.NDArray[Any]: ...


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels, as `jr_onnx.load_data` gives them.

    Attributes:
        images: as stored, in pixels.
        labels: int64 [N]; None where there are none: what is measured then is agreement with the original model.
        mean, std: float32, one a channel or one for all ([C] or [1]), in units of pixels from 0 to 1.
        pixel_range: the stored values that mean 0 and 1.
        layout: where the channels are.
        name: where the data come from, for messages.
    """

    images: Images
    labels: npt.NDArray[np.int64] | None
    mean: Floats
    std: Floats
    pixel_range: tuple[float, float]
    layout: Layout = "NCHW"
    name: str = "data"

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64] | slice) -> Floats:
        """Some images in pixel space: float32, [n, ...], from 0 to 1."""
        low, high = self.pixel_range
        stored = np.asarray(self.images[indices], np.float32)
        return stored if (low, high) == (0, 1) else (stored - np.float32(low)) / np.float32(high - low)

    def normalise(self, pixels: Floats) -> Floats:
        """Pixels from 0 to 1 as the model takes them: (pixels - mean) / std, float32, in the same shape."""
        mean, std = per_channel(self.mean, self.layout, pixels.ndim), per_channel(self.std, self.layout, pixels.ndim)
        result: Floats = (pixels - mean) / std
        return result

    def take(self, rows: npt.NDArray[np.int64]) -> Dataset:
        """The dataset of these rows, in this order; no image is read."""
        labels = None if self.labels is None else self.labels[rows]
        images = self.images
        chosen = _Rows(images.images, images.rows[rows]) if isinstance(images, _Rows) else _Rows(images, rows)
        return replace(self, images=chosen, labels=labels)

    def sample(self, samples: int, seed: int) -> Dataset:
        """At most this many of the samples, drawn by the seed, in their order."""
        if samples >= len(self):
            return self
        rows = np.random.default_rng(seed).permutation(len(self))[:samples].astype(np.int64)
        return self.take(np.sort(rows))


def split(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """A part to tune on and a part to test on: disjoint, together everything, the same for the same seed.

    Args:
        fraction: the share of the samples to tune on; at least one sample comes into either part.

    Raises:
        OptionError: the fraction is not between 0 and 1, or there are less than two samples.
    """
    if not 0 < fraction < 1:
        raise OptionError(f"a fraction of {fraction:g} is not between 0 and 1: nothing is left to tune or to test on")
    if len(dataset) < 2:
        raise OptionError(f"{dataset.name}: one sample cannot be split; give more")
    size = min(max(round(len(dataset) * fraction), 1), len(dataset) - 1)
    order = np.random.default_rng(seed).permutation(len(dataset)).astype(np.int64)
    # In the order of the file, which is how a disk likes to be read.
    return dataset.take(np.sort(order[:size])), dataset.take(np.sort(order[size:]))


def per_channel(values: Floats, layout: Layout, rank: int) -> Floats:
    """Numbers, one a channel or one for all, in a shape that broadcasts to a batch of that rank."""
    if values.size == 1 or layout == "NHWC":
        return values
    return values.reshape(-1, *(1,) * (rank - 2))


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some rows of images, without a copy of them."""

    images: Images
    rows: npt.NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.images.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.images.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any, /) -> npt.NDArray[Any]:
        return self.images[self.rows[rows]]

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process go these rows and not all that they are of; files stay files."""
        if isinstance(self.images, np.ndarray):
            return np.asarray, (np.asarray(self[:]),)
        return _Rows, (self.images, self.rows)
