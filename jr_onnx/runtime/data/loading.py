"""Data from wherever the user has them, checked before anything is run on them.

source                       gives
FILE.npz                     x, and y, mean and std if it has them; or arrays by the names of a model's inputs
FILE.npy                     x, without labels
FOLDER                       images, one folder a class
MODULE:FUNCTION, callable    what it returns: x, or (x, y), or a mapping as of an NPZ file
(x, y), mapping              itself

x are pixels: uint8 from 0 to 255, or floating point from 0 to 1; the model takes (x - mean) / std. An array by the name
of an input is what the model takes.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.arguments import unfit
from jr_onnx.errors import OptionError
from jr_onnx.runtime.data.arrays import read_npy, read_npz
from jr_onnx.runtime.data.dataset import Dataset, Floats, Images
from jr_onnx.runtime.data.fitting import Layout, ModelInput, check_labels, check_shape, shape_text
from jr_onnx.runtime.data.folder import ImageFiles, read_folder
from jr_onnx.text import one_line

#: Where samples come from.
DataSource = str | Path | Callable[[], Any] | tuple[Any, Any] | Mapping[str, Any]

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

#: Pixels are 1 / 255 apart: a smaller std makes inputs that no model was trained on.
_LEAST_STD = 1e-6

#: How many numbers are looked at at once.
_BLOCK = 1 << 24


@dataclass(frozen=True, eq=False)
class Data:
    """What a source gives, before it is known for which model.

    Attributes:
        name: of the source, for messages.
        arrays: by name; empty for a folder or a dataset.
        folder: of images.
        dataset: as it was given.
    """

    name: str
    arrays: Mapping[str, Any]
    folder: Path | None = None
    dataset: Dataset | None = None


def read_data(source: Dataset | DataSource) -> Data:
    """What a source gives.

    Raises:
        OptionError: there is no such source, or it cannot be read; the message says why.
    """
    if isinstance(source, Dataset):
        return Data(source.name, {}, dataset=source)
    if isinstance(source, tuple | Mapping):
        return Data("data", _returned(source, "data"))
    if callable(source):
        name = getattr(source, "__name__", "data")
        return Data(name, _returned(source(), name))
    if not isinstance(source, str | PathLike):
        raise unfit("data", source, "the name of a file, (x, y), or {'NAME': array}")
    path = Path(source)
    if path.is_dir():
        return Data(str(path), {}, folder=path)
    if path.is_file():
        return Data(str(path), {"x": read_npy(path), "y": None} if path.suffix == ".npy" else read_npz(path))
    if _FUNCTION.fullmatch(str(source)):
        return Data(str(source), _returned(_called(str(source)), str(source)))
    raise OptionError(f"{path}: no such file or folder; give an NPZ or NPY file, a folder, or module:function")


def load_data(
    source: DataSource,
    *,
    classifier: ModelInput | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    size: tuple[int, int] | None = None,
    layout: Layout | None = None,
) -> Dataset:
    """Labelled (or plain) samples, checked.

    Images are pixels: uint8 from 0 to 255, or floating point from 0 to 1. Arrays are memory-mapped where they are not
    compressed, and images in a folder are decoded when they are asked for.

    Args:
        source: an NPZ or NPY file, a folder, "module:function", a callable without arguments, (x, y) with arrays
            [N, ...] and [N] (y may be None), or a mapping with x, y, mean and std.
        classifier: what the samples must fit; its shape also says how images of a folder are read, and an array by the
            name of its input is taken for x, without mean and std.
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
    data = read_data(source)
    dataset = samples_of(data, classifier, mean=mean, std=std, size=size, layout=layout, labelled=True)
    _check_range(dataset.images, data.name)
    return dataset


def samples_of(
    data: Data,
    model: ModelInput | None,
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    size: tuple[int, int] | None = None,
    layout: Layout | None = None,
    labelled: bool = False,
) -> Dataset:
    """The samples in the data, for what a model takes, with labels if they are wanted; else as `load_data`, but pixels
    in floating point may be out of their range."""
    if data.dataset is not None:
        return data.dataset
    name, order = data.name, layout or (model.layout if model is not None else "NCHW")
    if size is not None and data.folder is None:
        raise OptionError(f"{name}: `size` is for a folder of images; arrays have the size that they have")
    arrays = data.arrays if data.folder is None else _images_in(data.folder, model, size, order)
    mean, std = arrays.get("mean") if mean is None else mean, arrays.get("std") if std is None else std
    images = arrays.get("x")
    if images is None and model is not None and model.input in arrays:
        images = _as_taken(arrays[model.input], model.input, name, preprocessed=mean is not None or std is not None)
    if images is None:
        wanted = " or ".join(f"'{one}'" for one in dict.fromkeys(("x", *([model.input] if model is not None else []))))
        raise OptionError(f"{name}: has no array {wanted}; it has {', '.join(map(str, arrays)) or 'none'}")
    _check_images(images, name)
    if model is not None:
        check_shape(images.shape, model.shape, f"{name}: the samples")
    labels = _labels(arrays.get("y"), len(images), model, name) if labelled else None
    channels = images.shape[1] if order == "NCHW" else images.shape[-1]
    centre = _numbers("mean", 0.0 if mean is None else mean, channels, name)
    scale = _numbers("std", 1.0 if std is None else std, channels, name)
    if not ((centre >= 0) & (centre <= 1)).all():
        raise OptionError(f"{name}: mean {_listed(centre)} is not in units of pixels from 0 to 1; divide it by 255?")
    if not (scale >= _LEAST_STD).all():
        raise OptionError(f"{name}: std {_listed(scale)} must be positive, and at least {_LEAST_STD:g}")
    pixel_range = (0.0, 255.0) if images.dtype == np.uint8 else (0.0, 1.0)
    return Dataset(images, labels, centre, scale, pixel_range, order, name)


def _as_taken(array: Any, input_name: str, name: str, *, preprocessed: bool) -> npt.NDArray[Any]:
    """An array by the name of the model's input."""
    images = _array(array, f"array '{input_name}' is", name)
    if preprocessed:
        raise OptionError(
            f"{name}: '{input_name}' is what the model takes, and `mean` and `std` are for pixels; name the array x"
        )
    if images.dtype.kind != "f":
        raise OptionError(f"{name}: '{input_name}' is {images.dtype}, the model takes floating point; {SAVE_SO}")
    return images


#: What to do about pixels that have the name of a floating-point input.
SAVE_SO = "save it so, or name it x if it holds pixels"


def _called(name: str) -> Any:
    """What a function of the user's gives; whatever it raises is the user's mistake."""
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
        found["x"] = _array(found["x"], "samples are", name)
    return found


def _array(given: Any, what: str, name: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(given)
    except Exception as error:  # NumPy's of a ragged list, or whatever the tensors of a library raise
        raise OptionError(f"{name}: the {what} not an array: {type(error).__name__}: {one_line(error)}") from error


def _images_in(
    folder: Path, model: ModelInput | None, size: tuple[int, int] | None, layout: Layout
) -> Mapping[str, Any]:
    """The images of a folder as x, and their classes as y."""
    paths, labels = read_folder(folder, model.classes if model is not None else None)
    shape = model.shape if model is not None else (None,) * 4
    if len(shape) != 4:
        raise OptionError(f"{folder}: the model takes {shape_text(shape)}, no images; give an NPZ file")
    channels, height, width = (shape[axis] for axis in ((1, 2, 3) if layout == "NCHW" else (3, 1, 2)))
    count = channels if isinstance(channels, int) else 3
    if count not in (1, 3):
        raise OptionError(f"{folder}: the model takes {count} channels, images have 1 or 3; `layout`, or an NPZ file")
    if size is None:
        if not isinstance(height, int) or not isinstance(width, int):
            raise OptionError(
                f"{folder}: the model takes images of any size; say which with `size`, or give an NPZ file"
            )
        size = height, width
    return {"x": ImageFiles(paths, count, size, layout), "y": labels}


def _check_images(images: Images, name: str) -> None:
    shape = images.shape
    if len(shape) < 2:
        raise OptionError(f"{name}: the samples have the shape {shape_text(shape)}; [N, ...] is needed")
    if 0 in shape:
        raise OptionError(f"{name}: is empty: the samples have the shape {shape_text(shape)}")
    if images.dtype.newbyteorder("=") not in (np.uint8, np.float16, np.float32, np.float64):
        raise OptionError(f"{name}: the samples are {images.dtype}; store uint8 from 0 to 255, or float from 0 to 1")


def _check_range(images: Images, name: str) -> None:
    """Refuse pixels in floating point that are not from 0 to 1."""
    step = max(1, _BLOCK // int(np.prod(images.shape[1:])))
    for start in range(0, len(images), step) if images.dtype != np.uint8 else ():
        _check_block(images[start : start + step], start, name)


def _check_block(block: npt.NDArray[Any], first: int, name: str) -> None:
    finite = np.isfinite(block)
    if not finite.all():
        row = first + int(np.argmin(finite.reshape(len(block), -1).all(axis=1)))
        raise OptionError(f"{name}: sample {row} has NaN or infinity in it")
    low, high = float(block.min()), float(block.max())
    if low < 0 or high > 1:
        hint = "store them as uint8" if low >= 0 and high <= 255 else "undo the normalisation, and give mean and std"
        raise OptionError(f"{name}: pixels in floating point go from 0 to 1, here from {low:g} to {high:g}; {hint}")


def _labels(given: Any, samples: int, model: ModelInput | None, name: str) -> npt.NDArray[np.int64] | None:
    if given is None:
        return None
    labels = _array(given, "labels are", name)
    if labels.shape != (samples,):
        hint = "; one class number a sample is needed (one-hot labels: y.argmax(axis=1))" if labels.ndim != 1 else ""
        raise OptionError(f"{name}: labels of shape {shape_text(labels.shape)} for {samples} samples{hint}")
    if labels.dtype.kind not in "iu":
        raise OptionError(f"{name}: the labels are {labels.dtype}; class numbers (int64) are needed")
    if labels.min() < 0:
        raise OptionError(f"{name}: the label {labels.min()} is negative; classes are numbered from 0")
    if model is not None:
        check_labels(int(labels.max()), model.classes, name)
    if (labels == labels[0]).all():
        raise OptionError(f"{name}: all samples are of class {labels[0]}; accuracy on one class says nothing")
    return labels.astype(np.int64)


def _numbers(what: str, given: Any, channels: int, name: str) -> Floats:
    try:
        numbers = np.atleast_1d(np.asarray(given, np.float32))
    except (TypeError, ValueError) as error:
        plain = given.tolist() if isinstance(given, np.ndarray) else given
        raise OptionError(f"{name}: {what} {plain!r} is not a list of numbers") from error
    if numbers.ndim != 1 or numbers.size not in (1, channels):
        wanted = "one number" if channels == 1 else f"one number, or {channels}, one a channel"
        raise OptionError(f"{name}: {what} has the shape {shape_text(numbers.shape)}; give {wanted}")
    if not np.isfinite(numbers).all():
        raise OptionError(f"{name}: {what} {_listed(numbers)} is not finite")
    return numbers


def _listed(numbers: Floats) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
