"""A model as it ships, run by onnxruntime: the only judge of whether an attack succeeded."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.errors import ModelError, RuntimeMissingError
from jr_onnx.files.external import data_files
from jr_onnx.files.source import open_file
from jr_onnx.robustness.dataset import Classifier, Dataset, read_classifier
from jr_onnx.robustness.dataset.dataset import batches_of
from jr_onnx.runtime.execution import onnxruntime
from jr_onnx.runtime.library import register
from jr_onnx.runtime.sessions import CPU
from jr_onnx.text import one_line

#: A model with more bytes than this is opened where it lies; a smaller one travels to the workers.
_TRAVELS = 1 << 30


@dataclass(frozen=True)
class Shipped:
    """A model that can be sent to a worker.

    Attributes:
        digest: SHA-256 of the file and of its external data.
        path: the file; None for a model in memory.
        data: its bytes; None where it has external data or is large, and every worker must find it at `path`.
    """

    digest: str
    path: Path | None = field(compare=False)
    data: bytes | None = field(compare=False, repr=False)

    @property
    def model(self) -> Path | onnx.ModelProto:
        """What the rest of the library takes as a model."""
        if self.data is not None:
            model: onnx.ModelProto = onnx.ModelProto.FromString(self.data)
            return model
        if self.path is None:
            raise TypeError("a model in memory has its bytes")
        return self.path


def ship(model: str | Path | onnx.ModelProto) -> Shipped:
    """Read a model once.

    Raises:
        ModelError: it cannot be read, or is not an ONNX model.
    """
    if isinstance(model, onnx.ModelProto):
        data = model.SerializeToString()
        return Shipped(hashlib.sha256(data).hexdigest(), None, data)
    path = Path(model).absolute()
    with open_file(path) as source:
        beside = data_files(source.skeleton, path)
    digest = hashlib.sha256()
    for file in (path, *sorted({one.path for one in beside})):
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    travels = not beside and path.stat().st_size <= _TRAVELS
    return Shipped(digest.hexdigest(), path, path.read_bytes() if travels else None)


class Judge:
    """A shipped model in an onnxruntime session, on the CPU in one thread: the same bits wherever it runs.

    Raises:
        ModelError: it is no classifier, or onnxruntime cannot load it.
        RuntimeMissingError: there is no onnxruntime.
    """

    def __init__(self, shipped: Shipped) -> None:
        ort = onnxruntime()
        self.shipped = shipped
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        with contextlib.suppress(RuntimeMissingError):
            register(options, cuda=False)  # without the library the model's own function gives the same values
        try:
            given = shipped.data if shipped.data is not None else str(shipped.path)
            self._session: Any = ort.InferenceSession(given, options, providers=[CPU])
        except Exception as error:  # onnxruntime's errors have no common class of their own
            said = one_line(error)
            raise ModelError(f"{shipped.path or 'the model'}: onnxruntime cannot load it: {said}") from error

    @cached_property
    def classifier(self) -> Classifier:
        """The outside of the model."""
        return read_classifier(self.shipped.model)

    def scores(self, pixels: npt.NDArray[np.float32], dataset: Dataset) -> npt.NDArray[Any]:
        """One score a class, [n, classes], for pixels [n, ...] in [0, 1]; the data's mean and std are applied."""
        batches = batches_of(len(pixels), self.classifier.batch_size, len(pixels))
        return np.concatenate([self._run(dataset.normalise(pixels[rows]))[:samples] for rows, samples in batches])

    def answers(self, pixels: npt.NDArray[np.float32], dataset: Dataset) -> npt.NDArray[np.int64]:
        """The class of each sample, [n]; -1 where a score is NaN."""
        if not len(pixels):
            return np.zeros(0, np.int64)
        return self.classifier.predictions(self.scores(pixels, dataset))

    def _run(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        scores: npt.NDArray[Any] = self._session.run([self.classifier.output], self.classifier.feed(inputs))[0]
        return scores


@lru_cache(maxsize=4)
def judge_of(shipped: Shipped) -> Judge:
    """The session of a model, kept: a worker gets many shards of the same few models."""
    return Judge(shipped)
