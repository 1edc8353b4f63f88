"""The samples of `tune` and `evaluate`, from the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from jr_onnx.cli.numbers import numbers
from jr_onnx.dataset import Classifier, Dataset, load
from jr_onnx.errors import OptionError
from jr_onnx.text import printable

#: The numbers of channels that images have.
_CHANNELS = (1, 3, 4)


def add_inputs_argument(parser: argparse.ArgumentParser) -> None:
    """Real inputs to run a model on."""
    parser.add_argument("--data", metavar="NPZ", type=Path, help="real inputs, an array for each input of the model")


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Where samples come from, and how they become the model's input."""
    parser.add_argument(
        "--data",
        metavar="DATA",
        required=True,
        help="an NPZ file (x, y, mean, std), an NPY file, a folder with one folder of images a class, or a Python "
        "MODULE:FUNCTION that returns (x, y); pixels are uint8, or float from 0 to 1",
    )
    parser.add_argument("--mean", metavar="M,M", help="of each channel, in pixels from 0 to 1 (default: DATA's, or 0)")
    parser.add_argument("--std", metavar="S,S", help="the model takes (pixels - mean) / std (default: DATA's, or 1)")
    parser.add_argument("--size", metavar="H,W", help="of images from a folder (default: the model's)")
    parser.add_argument("--layout", choices=("NCHW", "NHWC"), help="default: as the model's input shape tells")


def read_data(arguments: argparse.Namespace, classifier: Classifier) -> Dataset:
    """The samples that the arguments name, checked against the model.

    Raises:
        OptionError: they are unfit; the message says why.
    """
    dataset = load(
        arguments.data,
        classifier=classifier,
        mean=None if arguments.mean is None else numbers("--mean", arguments.mean),
        std=None if arguments.std is None else numbers("--std", arguments.std),
        size=None if arguments.size is None else _size(arguments.size),
        layout=arguments.layout,
    )
    _warn_of_layout(arguments.layout, dataset)
    return dataset


def drawn(dataset: Dataset, samples: int | None, seed: int) -> Dataset:
    """So many of the samples, drawn by the seed; all where there are no more, or None is given.

    Raises:
        OptionError: there are none to draw, or the seed is negative.
    """
    if samples is None or samples >= len(dataset):
        return dataset
    if samples < 1 or seed < 0:
        raise OptionError(f"--samples {samples} --seed {seed}: at least one sample, and a seed of at least 0")
    rows = np.random.default_rng(seed).permutation(len(dataset))[:samples].astype(np.int64)
    return dataset.take(np.sort(rows))


def _warn_of_layout(given: str | None, dataset: Dataset) -> None:
    """No refusal: signals and feature maps have as many channels as they like."""
    shape = dataset.images.shape
    if given is None or len(shape) != 4:
        return
    channels, other = (shape[1], shape[3]) if given == "NCHW" else (shape[3], shape[1])
    if channels not in _CHANNELS and other in _CHANNELS:
        warning = f"warning: --layout {given} makes {channels} channels of {dataset.name}, not {other}; is it right?"
        print(printable(warning), file=sys.stderr)


def _size(text: str) -> tuple[int, int]:
    words = text.split(",")
    if len(words) > 2 or not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise OptionError(f"--size {text}: write it as 224 or 224,320 (height, width)")
    return int(words[0]), int(words[-1])
