"""Attack several models on the same samples at equal effort."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from jr_onnx.arguments import as_integer, as_list, as_number, as_path, unfit
from jr_onnx.errors import ModelError, OptionError
from jr_onnx.robustness.attacks.target import ATTACKS, Effort
from jr_onnx.robustness.dataset import Dataset
from jr_onnx.robustness.evaluation.journal import Journal
from jr_onnx.robustness.evaluation.judge import Shipped, judge_of, ship
from jr_onnx.robustness.evaluation.part import Arrays, Campaign, Part, attack_part, gradients
from jr_onnx.robustness.evaluation.report import EvaluationReport, examples, model_result
from jr_onnx.robustness.evaluation.rounds import Attacked, attack_all, runs
from jr_onnx.robustness.evaluation.verdict import judge
from jr_onnx.robustness.evaluation.workers import check_workers, run_parts, shards
from jr_onnx.robustness.gradients.errors import NoGradientError
from jr_onnx.robustness.statistics import MAX_DROP
from jr_onnx.version import __version__

#: What is run unless told otherwise: the strongest of each kind. ifgsm and the attacks that look for the smallest
#: perturbation belong to the paper's protocol; they find nothing that these do not.
DEFAULT_ATTACKS = ("pgd", "smooth", "bpda", "transfer", "square")

#: Goes up when the same settings give other numbers than before, so that an old journal is not taken for a new one.
_METHOD = 6

#: Samples on which the model that gives gradients is compared with the file, and the share on which they must agree.
#: Not all: in 16 bits a value near its jump may fall on the other side.
_COMPARED, _AGREEMENT = 32, 0.9

_BLACK_BOX = "without gradients black-box attacks can be run (`attacks=['square']`), which give no verdict"

_NUMBERS_DEPEND_ON = ("onnxruntime", "onnx-ad", "numpy")


def run_campaign(
    models: Mapping[str, str | Path | onnx.ModelProto],
    dataset: Dataset,
    *,
    eps: Sequence[float],
    attacks: Sequence[str] = DEFAULT_ATTACKS,
    effort: Effort | None = None,
    max_drop: float = MAX_DROP,
    seed: int = 0,
    workers: int = 1,
    executor: Executor | None = None,
    journal: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> EvaluationReport:
    """Attack several models on the same samples at equal effort, and judge each against the first.

    Args:
        models: name -> file, or model in memory. The first is the original: attacks transfer from it, the others are
            compared with it, and where the data have no labels, its answers are the labels.
        dataset, eps, attacks, effort, max_drop, seed, workers, executor, journal, progress: as in `jr_onnx.evaluate`.

    Raises:
        JrOnnxError: as `jr_onnx.evaluate`.
    """
    started = time.perf_counter()
    campaign = Campaign(
        models={name: ship(model) for name, model in models.items()},
        eps=checked_eps(eps),
        attacks=_checked_attacks(attacks),
        effort=_checked_effort(effort or Effort()),
        seed=_checked_seed(seed),
    )
    checked_max_drop(max_drop)
    check_workers(workers, executor)
    _check_models(campaign, dataset)
    kept = None if journal is None else Journal(as_path("journal", journal), _digest(campaign, dataset))
    labelled, attacked = attack_all(campaign, dataset, _Work(campaign, kept, workers, executor, progress))
    labels = "given" if dataset.labels is not None else "the original's answers"
    return _report(campaign, labelled, labels, attacked, max_drop, time.perf_counter() - started)


def checked_eps(eps: Sequence[float]) -> tuple[float, ...]:
    """Radii in ascending order, each once.

    Raises:
        OptionError: there is none, or one is none of a ball of pixels.
    """
    eps = as_list("eps", eps)
    if not eps:
        raise OptionError("`eps` is empty; give at least one, such as 8/255")
    for one in eps:
        if not 0 < one <= 1:
            hint = ": write 8/255, not 8" if one > 1 else ""
            raise OptionError(f"`eps` {one:g} is not in (0, 1]; it is in pixel units from 0 to 1{hint}")
    return tuple(sorted(set(map(float, eps))))


def checked_max_drop(max_drop: float) -> float:
    """How many percentage points of clean accuracy may be lost.

    Raises:
        OptionError: it is no number of at least 0.
    """
    if not as_number("max_drop", max_drop) >= 0:
        raise OptionError(f"`max_drop` {max_drop:g}: give a number >= 0")
    return max_drop


def _checked_attacks(attacks: Sequence[str]) -> tuple[str, ...]:
    attacks = as_list("attacks", attacks)
    for name in attacks:
        if name not in ATTACKS:
            raise OptionError(f"`attacks`: there is no {name!r}; there are {', '.join(ATTACKS)}")
    if not attacks:
        raise OptionError("`attacks` is empty; give at least one")
    return runs(attacks)


def _checked_effort(effort: Effort) -> Effort:
    if not isinstance(effort, Effort):
        raise unfit("effort", effort, "a jr_onnx.Effort")
    for name, least in (("steps", 1), ("restarts", 1), ("queries", 1)):
        if getattr(effort, name) < least:
            raise OptionError(f"`{name}` {getattr(effort, name)}: at least {least}")
    return replace(effort, eps=1.0)  # not used, and so not to show in a digest


def _checked_seed(seed: int) -> int:
    if as_integer("seed", seed) < 0:
        raise OptionError(f"`seed` {seed}: at least 0")
    return seed


def _check_models(campaign: Campaign, dataset: Dataset) -> None:
    """That the models fit the data, and that there are gradients of them."""
    if not campaign.models:
        raise OptionError("no model; give at least one")
    first = dataset.batch(slice(0, min(_COMPARED, len(dataset))))
    for name, shipped in campaign.models.items():
        called = str(shipped.path or name)
        classifier = judge_of(shipped).classifier
        classifier.check_shape(dataset.images.shape, f"{dataset.name}: the samples")
        if dataset.labels is not None:
            classifier.check_labels(int(dataset.labels.max()), dataset.name)
        if any(ATTACKS[attack].needs_gradient for attack in campaign.attacks):
            _check_gradients(called, shipped, dataset, first)


def _check_gradients(called: str, shipped: Shipped, dataset: Dataset, pixels: np.ndarray[Any, Any]) -> None:
    """That there are gradients, of a model that has the file's answers."""
    try:
        model, x = gradients(shipped, dataset.images.shape[1:]), dataset.normalise(pixels)
        scores, _ = model(x, np.zeros((len(x), model.classes, 1), np.float32))
    except NoGradientError as error:
        raise ModelError(f"{called}: {error}; {_BLACK_BOX}") from error
    same = float(np.mean(scores.argmax(1) == judge_of(shipped).scores(pixels, dataset).argmax(1)))
    if same < _AGREEMENT:
        raise ModelError(
            f"{called}: the model that gives gradients has the file's answer on {same:.0%} of the samples only, so "
            f"they would say nothing about the file; {_BLACK_BOX}"
        )


class _Work:
    """Does the parts of a campaign, but for those that the journal has."""

    def __init__(
        self,
        campaign: Campaign,
        journal: Journal | None,
        workers: int,
        executor: Executor | None,
        progress: Callable[[int, int], None],
    ) -> None:
        self._shared = {name: campaign.of(name) for name in campaign.models}
        self._journal, self._workers, self._executor, self._progress = journal, workers, executor, progress
        self._done = 0

    def __call__(self, parts: Sequence[Part], later: int) -> Iterator[tuple[Part, Arrays]]:
        """Each part and what came of it; `later` is how many more may come at most."""
        last, left = self._done + len(parts), {}
        for part in parts:
            kept = self._journal.get(part.key) if self._journal is not None else None
            if kept is None:
                left[part] = self._shared[part.model]
            else:
                self._done += 1
                yield part, kept
        self._progress(self._done, last + later)
        for part, arrays in run_parts(attack_part, left, workers=self._workers, executor=self._executor):
            if self._journal is not None:
                self._journal.put(part.key, arrays)
            self._done += 1
            self._progress(self._done, last + later)
            yield part, arrays


def _digest(campaign: Campaign, dataset: Dataset) -> str:
    """Of everything that the numbers depend on."""
    digest = hashlib.sha256()
    said = {
        "models": [(name, shipped.digest) for name, shipped in campaign.models.items()],
        "eps": campaign.eps,
        "attacks": campaign.attacks,
        "effort": asdict(campaign.effort),
        "seed": campaign.seed,
        "data": [dataset.images.shape, str(dataset.images.dtype), dataset.pixel_range, dataset.layout],
        "preprocessing": [dataset.mean.tolist(), dataset.std.tolist()],
        "method": _METHOD,
        "versions": _versions(),
    }
    digest.update(json.dumps(said, sort_keys=True).encode())
    if dataset.labels is not None:
        digest.update(dataset.labels.tobytes())
    for rows in shards(dataset.images.shape):
        digest.update(np.ascontiguousarray(dataset.images[rows.start : rows.stop]).tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {"jr-onnx": __version__}
    for name in _NUMBERS_DEPEND_ON:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _report(
    campaign: Campaign,
    dataset: Dataset,
    labels: str,
    attacked: Mapping[str, Attacked],
    max_drop: float,
    seconds: float,
) -> EvaluationReport:
    results = {
        name: model_result(name, shipped.path, campaign.eps, attacked[name])
        for name, shipped in campaign.models.items()
    }
    reference, *others = results.values()
    effort = campaign.effort
    return EvaluationReport(
        models=results,
        eps=campaign.eps,
        samples=len(dataset),
        attacks=campaign.attacks,
        settings={
            "steps": effort.steps,
            "restarts": effort.restarts,
            "queries": effort.queries,
            "max_drop": max_drop,
            "seed": campaign.seed,
            "data": dataset.name,
            "labels": labels,
            "versions": _versions(),
        },
        verdicts={one.name: judge(reference, one, campaign.eps, max_drop=max_drop) for one in others},
        zeroed={},
        examples=examples(campaign, dataset, attacked),
        seconds=seconds,
    )
