"""Data from wherever the user has them, checked before anything is run on them.

source                       gives
FILE.npz                     x, and y, mean and std if it has them
FILE.npy                     x, without labels
FOLDER                       images, one folder a class
MODULE:FUNCTION, callable    what it returns: x, or (x, y), or a mapping with x, y, mean and std
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.arguments import as_path
from jr_onnx.errors import OptionError
from jr_onnx.robustness.dataset.classifier import Classifier, Layout, shape_text
from jr_onnx.robustness.dataset.dataset import Dataset, Floats, Images
from jr_onnx.robustness.dataset.folder import ImageFiles, read_folder
from jr_onnx.runtime.arrays import read_npy, read_npz
from jr_onnx.text import one_line

#: Where samples come from.
DataSource = str | Path | Callable[[], Any] | tuple[Any, Any]

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

#: Pixels are 1 / 255 apart: a smaller std makes inputs that no model was trained on.
_LEAST_STD = 1e-6

#: How many numbers are looked at at once.
_BLOCK = 1 << 24


def load_data(
    source: DataSource,
    *,
    classifier: Classifier | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    size: tuple[int, int] | None = None,
    layout: Layout | None = None,
) -> Dataset:
    """Labelled (or plain) samples, checked.

    Images are pixels: uint8 from 0 to 255, or floating point from 0 to 1. Arrays are memory-mapped where they are not
    compressed, and images in a folder are decoded when they are asked for.

    Args:
        source: an NPZ or NPY file, a folder, "module:function", a callable without arguments, or (x, y) with arrays
            [N, ...] and [N] (y may be None).
        classifier: what the samples must fit; its shape also says how images of a folder are read.
        mean, std: one a channel or one for all, in units of pixels from 0 to 1; the model takes (pixels - mean) / std.
            By default what the source says, else 0 and 1.
        size: height and width of images from a folder; by default the model's.
        layout: where the channels are; by default as the model's input shape tells.

    Raises:
        OptionError: there are no such data, or they are unfit; the message says why.

    Examples:
        >>> len(jr_onnx.load_data("models/digits_test.npz", mean=0.5, std=0.25))
        360
    """
    order: Layout = layout or (classifier.layout if classifier is not None else "NCHW")
    name, arrays = _read(source, classifier, size, order)
    images = arrays.get("x")
    if images is None:
        raise OptionError(f"{name}: has no array 'x' with the samples; it has {', '.join(arrays) or 'none'}")
    _check_images(images, name)
    if classifier is not None:
        classifier.check_shape(images.shape, f"{name}: the samples")
    labels = _labels(arrays.get("y"), len(images), classifier, name)
    channels = images.shape[1] if order == "NCHW" else images.shape[-1]
    centre = _numbers("mean", arrays.get("mean", 0.0) if mean is None else mean, channels, name)
    scale = _numbers("std", arrays.get("std", 1.0) if std is None else std, channels, name)
    if not ((centre >= 0) & (centre <= 1)).all():
        raise OptionError(f"{name}: mean {_listed(centre)} is not in units of pixels from 0 to 1; divide it by 255?")
    if not (scale >= _LEAST_STD).all():
        raise OptionError(f"{name}: std {_listed(scale)} must be positive, and at least {_LEAST_STD:g}")
    pixel_range = (0.0, 255.0) if images.dtype == np.uint8 else (0.0, 1.0)
    return Dataset(images, labels, centre, scale, pixel_range, order, name)


def _read(
    source: DataSource, classifier: Classifier | None, size: tuple[int, int] | None, layout: Layout
) -> tuple[str, Mapping[str, Any]]:
    if isinstance(source, tuple):
        return "data", _returned(source, "data")
    if callable(source):
        name = getattr(source, "__name__", "data")
        return name, _returned(source(), name)
    path = as_path("data", source)
    if path.is_dir():
        paths, labels = read_folder(path, classifier.classes if classifier is not None else None)
        images = ImageFiles(paths, *_shape_of_images(classifier, size, layout, path), layout)
        return str(path), {"x": images, "y": labels}
    if size is not None:
        raise OptionError(f"{path}: `size` is for a folder of images; arrays have the size that they have")
    if path.is_file():
        if path.suffix == ".npy":
            return str(path), {"x": read_npy(path)}
        return str(path), read_npz(path)
    if _FUNCTION.fullmatch(str(source)):
        return str(source), _returned(_called(str(source)), str(source))
    raise OptionError(f"{path}: no such file or folder; give an NPZ or NPY file, a folder, or module:function")


def _called(name: str) -> Any:
    """What a function of the user's gives; whatever it raises is the user's to mend."""
    module, _, attribute = name.partition(":")
    try:
        with _current_folder_first():
            function = getattr(importlib.import_module(module), attribute, None)
            if callable(function):
                return function()
    except Exception as error:
        raise OptionError(f"{name}: {type(error).__name__}: {one_line(error)}") from error
    raise OptionError(f"{name}: the module has no function '{attribute}'")


@contextlib.contextmanager
def _current_folder_first() -> Iterator[None]:
    """Import from where the user stands, as `python -m` does."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _returned(value: Any, name: str) -> Mapping[str, Any]:
    """What a function gave, as arrays by name."""
    if isinstance(value, tuple) and len(value) != 2:
        raise OptionError(f"{name}: gives {len(value)} values; give (x, y), or a mapping with x, y, mean and std")
    pair = value if isinstance(value, tuple) else (value, None)
    found = dict(value) if isinstance(value, Mapping) else {"x": pair[0], "y": pair[1]}
    if "x" in found and not isinstance(getattr(found["x"], "dtype", None), np.dtype):  # lists, or tensors of torch
        found["x"] = _array(found["x"], "samples", name)
    return found


def _array(given: Any, what: str, name: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(given)
    except Exception as error:  # NumPy's of a ragged list, or whatever the tensors of a library raise
        raise OptionError(f"{name}: the {what} make no array: {type(error).__name__}: {one_line(error)}") from error


def _shape_of_images(
    classifier: Classifier | None, size: tuple[int, int] | None, layout: Layout, folder: Path
) -> tuple[int, tuple[int, int]]:
    """Channels, height and width of a folder's images."""
    shape = classifier.shape if classifier is not None else (None,) * 4
    if len(shape) != 4:
        raise OptionError(f"{folder}: the model takes {shape_text(shape)}, no images; give an NPZ file")
    channels, height, width = (shape[axis] for axis in ((1, 2, 3) if layout == "NCHW" else (3, 1, 2)))
    count = channels if isinstance(channels, int) else 3
    if count not in (1, 3):
        raise OptionError(f"{folder}: the model takes {count} channels, images have 1 or 3; `layout`, or an NPZ file")
    if size is not None:
        return count, size
    if not isinstance(height, int) or not isinstance(width, int):
        raise OptionError(f"{folder}: the model takes images of any size; say which with `size`")
    return count, (height, width)


def _check_images(images: Images, name: str) -> None:
    shape = images.shape
    if len(shape) < 2:
        raise OptionError(f"{name}: the samples have the shape {shape_text(shape)}; [N, ...] is needed")
    if 0 in shape:
        raise OptionError(f"{name}: is empty: the samples have the shape {shape_text(shape)}")
    if images.dtype == np.uint8:
        return
    if images.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        raise OptionError(f"{name}: the samples are {images.dtype}; store uint8 from 0 to 255, or float from 0 to 1")
    step = max(1, _BLOCK // int(np.prod(shape[1:])))
    for start in range(0, len(images), step):
        _check_range(images[start : start + step], start, name)


def _check_range(block: npt.NDArray[Any], first: int, name: str) -> None:
    finite = np.isfinite(block)
    if not finite.all():
        row = first + int(np.argmin(finite.reshape(len(block), -1).all(axis=1)))
        raise OptionError(f"{name}: sample {row} has NaN or infinity in it")
    low, high = float(block.min()), float(block.max())
    if low < 0 or high > 1:
        hint = "store them as uint8" if low >= 0 and high <= 255 else "undo the normalisation, and give mean and std"
        raise OptionError(f"{name}: pixels in floating point go from 0 to 1, here from {low:g} to {high:g}; {hint}")


def _labels(given: Any, samples: int, classifier: Classifier | None, name: str) -> npt.NDArray[np.int64] | None:
    if given is None:
        return None
    labels = _array(given, "labels", name)
    if labels.shape != (samples,):
        hint = "; one class number a sample is needed (one-hot labels: y.argmax(axis=1))" if labels.ndim != 1 else ""
        raise OptionError(f"{name}: labels of shape {shape_text(labels.shape)} for {samples} samples{hint}")
    if labels.dtype.kind not in "iu":
        raise OptionError(f"{name}: the labels are {labels.dtype}; class numbers (int64) are needed")
    if labels.min() < 0:
        raise OptionError(f"{name}: the label {labels.min()} is negative; classes are numbered from 0")
    if classifier is not None:
        classifier.check_labels(int(labels.max()), name)
    if (labels == labels[0]).all():
        raise OptionError(f"{name}: all samples are of class {labels[0]}; accuracy on one class says nothing")
    return labels.astype(np.int64)


def _numbers(what: str, given: Any, channels: int, name: str) -> Floats:
    try:
        numbers = np.atleast_1d(np.asarray(given, np.float32))
    except (TypeError, ValueError) as error:
        plain = given.tolist() if isinstance(given, np.ndarray) else given
        raise OptionError(f"{name}: {what} {plain!r} is no list of numbers") from error
    if numbers.ndim != 1 or numbers.size not in (1, channels):
        wanted = "one number" if channels == 1 else f"one number, or {channels}, one a channel"
        raise OptionError(f"{name}: {what} has the shape {shape_text(numbers.shape)}; give {wanted}")
    if not np.isfinite(numbers).all():
        raise OptionError(f"{name}: {what} {_listed(numbers)} is not finite")
    return numbers


def _listed(numbers: Floats) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
