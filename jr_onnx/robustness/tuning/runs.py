"""Runs of a model whose jumps are inputs: one session for all candidates, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.conversion.element_types import NUMPY_TYPES, round_jump
from jr_onnx.robustness.activations import run, site_inputs, temporary_session
from jr_onnx.robustness.dataset import Classifier, Dataset
from jr_onnx.robustness.statistics import PositiveHistogram
from jr_onnx.robustness.tuning.jump_inputs import COUNT, TunableModel, TunableSite, with_jump_inputs
from jr_onnx.runtime.data.dataset import Rows, batches_of
from jr_onnx.runtime.execution import Session

#: Samples a run.
_BATCH = 64

#: What becomes zero is counted on about so many samples, in batches from everywhere among them.
_COUNTED = 256

#: Called with what was done, and what there is to do.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Counts:
    """What one choice of jumps did.

    Attributes:
        predictions: int64 [samples]; -1 where a score was NaN.
        positive: path -> how many positive numbers came into the site; sites in bodies are left out.
        kept: path -> how many of them came out.
    """

    predictions: npt.NDArray[np.int64]
    positive: Mapping[str, int]
    kept: Mapping[str, int]


class JumpSession:
    """A session in which the jumps are inputs."""

    def __init__(self, session: Session, classifier: Classifier, sites: Sequence[TunableSite]) -> None:
        self._session = session
        self._classifier = classifier
        self._sites = sites

    def run(self, dataset: Dataset, choices: Sequence[Mapping[str, float]], progress: Progress) -> tuple[Counts, ...]:
        """Every choice of jumps (path -> jump) on every sample; each batch is read once.

        Activations are counted on some 256 of the samples, in whole batches; on all where they are less than 512.

        Raises:
            ModelError: the model does not run, or its scores do not have one column a class.
        """
        feeds = [self._jumps(choice) for choice in choices]
        predictions: list[list[Rows]] = [[] for _ in choices]
        totals = [dict.fromkeys(self._counted(), 0) for _ in choices]
        batches = list(batches_of(len(dataset), self._classifier.batch_size, _BATCH))
        stride = max(1, len(dataset) // _COUNTED)
        for done, (rows, samples) in enumerate(batches):
            inputs = self._classifier.feed(dataset.normalise(dataset.batch(rows)))
            counted = not done % stride and (samples == len(rows) or not done)
            inputs[COUNT] = np.asarray(counted)
            for number, jumps in enumerate(feeds):
                outputs = run(self._session, {**inputs, **jumps})
                predictions[number].append(self._classifier.predictions(outputs[self._classifier.output])[:samples])
                for name in totals[number]:
                    totals[number][name] += int(outputs[name])
                progress(done * len(feeds) + number + 1, len(batches) * len(feeds))
        return tuple(self._collected(found, counts) for found, counts in zip(predictions, totals, strict=True))

    def _jumps(self, choice: Mapping[str, float]) -> dict[str, npt.NDArray[Any]]:
        return {
            site.jump: np.asarray(round_jump(choice[site.path], site.element_type), NUMPY_TYPES[site.jump_type])
            for site in self._sites
        }

    def _counted(self) -> Iterator[str]:
        return (name for site in self._sites for name in (site.positive, site.kept) if name)

    def _collected(self, predictions: Sequence[Rows], counts: Mapping[str, int]) -> Counts:
        positive: dict[str, int] = {}
        kept: dict[str, int] = {}
        for site in self._sites:
            if site.positive:
                positive[site.path] = positive.get(site.path, 0) + counts[site.positive]
                kept[site.path] = kept.get(site.path, 0) + counts[site.kept]
        return Counts(np.concatenate(predictions), positive, kept)


@contextmanager
def jump_session(hardened: TunableModel, classifier: Classifier) -> Iterator[JumpSession]:
    """The model with jump inputs in a session, for as long as the context lasts.

    Raises:
        ModelError: onnxruntime does not load it.
        RuntimeMissingError: there is no onnxruntime.
    """
    pieces, sites = with_jump_inputs(hardened.model)
    with temporary_session(hardened.model.source, pieces) as session:
        yield JumpSession(session, classifier, sites)


def calibrate(
    hardened: TunableModel, classifier: Classifier, dataset: Dataset, progress: Progress
) -> dict[str, PositiveHistogram]:
    """The positive numbers that come into each site at jump 0: path -> their histogram, from one pass over the samples.

    Sites in the body of an If, Loop or Scan are left out.
    """
    histograms = {path: PositiveHistogram() for path, _ in hardened.model.in_place}
    for inputs in site_inputs(hardened.model, classifier, dataset, progress):
        for path, values in inputs.items():
            histograms[path].add(values)
    return histograms
