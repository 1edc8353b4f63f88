"""How much of each layer JumpReLU makes zero, in the model as it ships."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.dataset import Dataset, read_classifier
from jr_onnx.element_types import BFLOAT16
from jr_onnx.errors import ModelError
from jr_onnx.evaluation.results import ZeroedLayer
from jr_onnx.inspection import find_sites
from jr_onnx.modelfile.source import Source, open_file, open_proto
from jr_onnx.running.copies import Runnable, Workspace, as_float, exposed, runnable
from jr_onnx.running.ways import CannotRunError, Session, Way, library_problem
from jr_onnx.runtime.sessions import CPU
from jr_onnx.sites.jumps import jump_of, text_of_jump
from jr_onnx.sites.survey import Site
from jr_onnx.tuning.runs import batches_of

#: A share needs no more samples than this, and all activations of a batch are in memory at once.
_SAMPLES, _BATCH = 256, 8


def zeroed_layers(model: str | Path | onnx.ModelProto, dataset: Dataset) -> tuple[ZeroedLayer, ...]:
    """The JumpReLUs of a model with the share of their positive inputs that they make zero, in the order of the nodes.

    Sites in the body of an If, Loop or Scan are left out, and so are jumps that are no constant: their values cannot be
    seen from outside.

    Args:
        model: the hardened model.
        dataset: samples; the first 256 are used.

    Raises:
        ModelError: it cannot be read or run.
        RuntimeMissingError: there is no onnxruntime.
    """
    sites = find_sites(model)
    if isinstance(model, onnx.ModelProto):
        return _measured(runnable(open_proto(model), sites), model, dataset)
    with open_file(Path(model)) as source:
        return _measured(runnable(source, sites), model, dataset)


def _measured(opened: Runnable, model: str | Path | onnx.ModelProto, dataset: Dataset) -> tuple[ZeroedLayer, ...]:
    jumps = {path: (site, jump) for path, site in opened.in_place if (jump := jump_of(site)) is not None}
    if not jumps:
        return ()
    positive, lost = dict.fromkeys(jumps, 0), dict.fromkeys(jumps, 0)
    classifier = read_classifier(model)
    with tempfile.TemporaryDirectory(prefix="jr-onnx-") as folder:
        session = _session(opened.source, [site for site, _ in jumps.values()], Path(folder))
        for rows, samples in batches_of(min(len(dataset), _SAMPLES), classifier.batch_size, _BATCH):
            feeds = classifier.feed(dataset.normalise(dataset.batch(rows)))
            try:
                values = {**feeds, **session.run(feeds)}
            except CannotRunError as error:
                raise ModelError(f"onnxruntime does not run the model on these samples: {error}") from error
            for path, (site, jump) in jumps.items():
                given = values[as_float(site.input) if site.element_type == BFLOAT16 else site.input][:samples]
                above = given > 0
                positive[path] += int(above.sum())
                lost[path] += int((above & (given <= _broadcast(jump, given))).sum())
    return tuple(
        ZeroedLayer(path, text_of_jump(site) or "", lost[path] / positive[path] if positive[path] else 0.0)
        for path, (site, _) in jumps.items()
    )


def _session(source: Source, sites: list[Site], folder: Path) -> Session:
    pieces = exposed(source, {site.input: site.element_type for site in sites})
    try:
        path = Workspace(folder).write(source, pieces, "hardened", "exposed")
        return Session(path, Way(CPU, not library_problem()))
    except CannotRunError as error:
        raise ModelError(f"onnxruntime does not load the model: {error}") from error


def _broadcast(jump: npt.NDArray[np.generic], given: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """A jump as it is applied to values [N, C, ...]: by ONNX's rules; where these do not allow it, one a channel."""
    try:
        return np.broadcast_to(jump, given.shape)
    except ValueError:
        return jump.reshape(-1, *(1,) * (given.ndim - 2))
