"""What comes into the JumpReLUs of a model: runs of a copy in which these values are outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from jr_onnx.conversion.element_types import BFLOAT16
from jr_onnx.conversion.sites.survey import Site
from jr_onnx.errors import ModelError
from jr_onnx.files.source import Source
from jr_onnx.files.splice import Piece
from jr_onnx.robustness.dataset import Classifier, Dataset
from jr_onnx.runtime.data.dataset import batches_of
from jr_onnx.runtime.execution import CannotRunError, Session, Way, library_problem, onnxruntime
from jr_onnx.runtime.instrumented import Runnable, Workspace, as_float, exposed
from jr_onnx.runtime.sessions import default_providers

Arrays = Mapping[str, npt.NDArray[Any]]

#: Samples a run: all activations of one are in memory at once.
_BATCH = 8


def site_inputs(
    model: Runnable, classifier: Classifier, dataset: Dataset, progress: Callable[[int, int], None] = lambda *_: None
) -> Iterator[Arrays]:
    """Path of each JumpReLU of the main graph -> what comes into it, batch by batch; of integers, what they stand for.

    Sites in the body of an If, Loop or Scan are left out: their values cannot be seen from outside. So is a batch that
    was filled up, unless it is the only one.

    Raises:
        ModelError: onnxruntime does not load or run the model.
        RuntimeMissingError: there is no onnxruntime.
    """
    sites = model.in_place
    pieces = exposed(model.source, {site.input: site.element_type for _, site in sites})
    with temporary_session(model.source, pieces) as session:
        batches = list(batches_of(len(dataset), classifier.batch_size, _BATCH))
        for done, (rows, samples) in enumerate(batches):
            feeds = classifier.feed(dataset.normalise(dataset.batch(rows)))
            values = {**feeds, **run(session, feeds)}  # a site may read the input itself
            if samples == len(rows) or not done:
                yield {path: _numbers(site, values) for path, site in sites}
            progress(done + 1, len(batches))


def _numbers(site: Site, values: Arrays) -> npt.NDArray[Any]:
    found = values[as_float(site.input) if site.element_type == BFLOAT16 else site.input]
    return found if site.quantization is None else site.quantization.dequantized(found)


@contextmanager
def temporary_session(source: Source, pieces: list[Piece]) -> Iterator[Session]:
    """An edited model in a session, for as long as the context lasts.

    Raises:
        ModelError: onnxruntime does not load it.
        RuntimeMissingError: there is no onnxruntime.
    """
    library = not library_problem()
    provider = default_providers(onnxruntime(), library)[0]
    with tempfile.TemporaryDirectory(prefix="jr-onnx-") as folder:
        try:
            path = Workspace(Path(folder)).write(source, pieces, "hardened", "edited")
            session = Session(path, Way(provider, library), threads=0)
        except CannotRunError as error:
            raise ModelError(f"onnxruntime does not load the model: {error}") from error
        yield session


def run(session: Session, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
    """All outputs by name.

    Raises:
        ModelError: onnxruntime fails on these inputs.
    """
    try:
        return session.run(feeds)
    except CannotRunError as error:
        raise ModelError(f"onnxruntime does not run the model on these samples: {error}") from error
