"""A folder of images, one folder a class: decoded when they are asked for, never all in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.errors import OptionError
from jr_onnx.runtime.data.fitting import Layout

_ENDINGS = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"))

#: Their formats, by Pillow's names. Whatever a file is called, no other decoder is run on it: for EPS, Pillow starts
#: Ghostscript.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files as an array, uint8.

    An image is scaled (bilinear) until it just covers the size, and cut to it around its middle, as is usual for
    classifiers; its shape is not distorted.

    Attributes:
        paths: one a row.
        channels: 1 reads as grey, 3 as RGB.
        size: height and width.
        layout: [N, C, H, W] or [N, H, W, C].
    """

    paths: tuple[Path, ...]
    channels: int
    size: tuple[int, int]
    layout: Layout

    @property
    def shape(self) -> tuple[int, ...]:
        inner = (self.channels, *self.size) if self.layout == "NCHW" else (*self.size, self.channels)
        return (len(self.paths), *inner)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Any, /) -> npt.NDArray[Any]:
        wanted = np.arange(len(self.paths))[rows]
        images = np.stack([self._read(self.paths[row]) for row in wanted.reshape(-1)])
        return images.reshape(*wanted.shape, *self.shape[1:])

    def _read(self, path: Path) -> npt.NDArray[np.uint8]:
        pillow, ops = _pillow()
        height, width = self.size
        try:
            with pillow.open(path, formats=_FORMATS) as image:
                plain = _in_bytes(image, path).convert("L" if self.channels == 1 else "RGB")
        except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
            raise OptionError(f"{path}: not an image that can be read: {' '.join(str(error).split())}") from error
        pixels = np.asarray(ops.fit(plain, (width, height), pillow.Resampling.BILINEAR), np.uint8)
        pixels = pixels.reshape(height, width, self.channels)
        return pixels.transpose(2, 0, 1) if self.layout == "NCHW" else pixels


def _in_bytes(image: Any, path: Path) -> Any:
    """An image of 16 bits in grey with 8: Pillow's own conversion would cut off all that is above 255."""
    if image.mode in ("I", "F"):
        raise OptionError(
            f"{path}: has pixels of 32 bits (Pillow's mode {image.mode}), whose range is not known; store 8 or 16 bits"
        )
    if not image.mode.startswith("I;16"):
        return image
    return _pillow()[0].fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))  # 65535 / 255


def read_folder(folder: Path, classes: int | None) -> tuple[tuple[Path, ...], npt.NDArray[np.int64] | None]:
    """The image files of a folder in the order of their names, and their labels.

    Each folder in it is a class. If the names of all are numbers, they are the labels; else the classes are numbered
    in the order of the names, and there must be as many as the model has. Images without a folder have no labels.

    Args:
        classes: how many the model has; None where that is not known.

    Raises:
        OptionError: there is no image, or the folders do not tell the labels.
    """
    _pillow()
    groups = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    loose = _images(folder)
    if groups and loose:
        raise OptionError(f"{folder}: has images beside its folders ('{loose[0].name}'); put each into its class")
    if not groups:
        if not loose:
            raise OptionError(f"{folder}: no image in it; put images into one folder a class")
        return tuple(loose), None
    labels = _labels(folder, groups, classes)
    files = [(path, label) for group, label in zip(groups, labels, strict=True) for path in _images(group)]
    if not files:
        raise OptionError(f"{folder}: no image in its {len(groups)} folders")
    return tuple(path for path, _ in files), np.array([label for _, label in files], np.int64)


def _labels(folder: Path, groups: Sequence[Path], classes: int | None) -> Sequence[int]:
    names = [group.name for group in groups]
    if all(name.isascii() and name.isdigit() for name in names):
        return [int(name) for name in names]
    if classes is not None and len(groups) != classes:
        raise OptionError(
            f"{folder}: {len(groups)} folders for {classes} classes; name each by its label (0, 1, ...), "
            "so that it is clear which is which"
        )
    return range(len(groups))


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS and path.is_file())


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise OptionError(
            f"a folder of images needs Pillow ({error}); pip install pillow, or give an NPZ file"
        ) from error
    return Image, ImageOps
