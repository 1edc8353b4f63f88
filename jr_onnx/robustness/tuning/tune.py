"""The jump that a model can afford, and whether it is worth having: data -> candidates -> attacks -> confirmation.

The data are split. One part chooses: every candidate is measured on it without an attack, and those within the budget
with attacks. The best of them then meets jump 0 on the other part, once, so that the many tries of the choice do not
count. Only what is better there, beyond the interval, is a gain.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import onnx

from jr_onnx.arguments import as_integer, as_list, as_model, as_number
from jr_onnx.errors import OptionError
from jr_onnx.files.source import about
from jr_onnx.robustness.dataset import Classifier, Dataset, load_data, read_classifier, split
from jr_onnx.robustness.dataset.classifier import guessing
from jr_onnx.robustness.evaluation.campaign import DEFAULT_ATTACKS, checked_eps, checked_max_drop
from jr_onnx.robustness.evaluation.workers import check_workers
from jr_onnx.robustness.statistics import MAX_DROP
from jr_onnx.robustness.tuning.grid import check_grid, policy_of
from jr_onnx.robustness.tuning.jump_inputs import TunableModel, harden
from jr_onnx.robustness.tuning.report import (
    OBJECTIVES,
    Candidate,
    Objective,
    TuningReport,
    best_of,
    nothing_found,
    outcome,
)
from jr_onnx.robustness.tuning.robustness import AttackSettings, attack, check_attack_extra
from jr_onnx.robustness.tuning.runs import jump_session
from jr_onnx.robustness.tuning.stages import Attack, StageProgress, Stages
from jr_onnx.runtime.data.loading import DataSource
from jr_onnx.text import count

#: In each part of the data. Even of so few, one sample is ten points of accuracy.
_FEWEST = 10


def tune(
    model: str | Path | onnx.ModelProto,
    data: Dataset | DataSource,
    *,
    max_drop: float = MAX_DROP,
    grid: Sequence[float] | None = None,
    quantiles: Sequence[float] | None = None,
    per_layer: bool = False,
    objective: Objective = "adaptive",
    clip: bool = False,
    test_share: float = 0.5,
    attacks: AttackSettings | None = None,
    seed: int = 0,
    workers: int = 1,
    executor: Executor | None = None,
    journal: str | Path | None = None,
    progress: StageProgress = lambda *_: None,
) -> TuningReport:
    """Choose the jump on validation data, within a budget of clean accuracy.

    All candidates run in one onnxruntime session, in which the jumps are inputs; nothing is converted for them.

    Args:
        model: a classifier, a file or in memory. If it was hardened before, its jumps are replaced.
        data: samples, with labels or without (then agreement with the original model counts); see
            `jr_onnx.load_data`.
        max_drop: how many percentage points of clean accuracy a candidate may lose against jump 0. On the samples that
            confirm the choice a larger loss is a warning, unless all of its interval is larger: then nothing is chosen.
        grid: jumps to try, the same at all sites. Of those that a quantized model does not tell apart, the smallest.
        quantiles: jumps to try as quantiles of the positive activations, between 0 and 1, at jump 0. Without a grid
            these are tried, by default `jr_onnx.robustness.tuning.grid.QUANTILES`.
        per_layer: each site's jump is the quantile of its own activations, not of all sites' together.
        objective: "adaptive" takes the candidate that is right most often in the worst case over attacks that adapt to
            JumpReLU, and only if it beats jump 0 there; it needs the extra [attack]. "clean" takes the largest jump
            within the budget and measures no robustness at all.
        clip: tune Clip(0, c), such as ReLU6, too.
        test_share: the share of the samples on which the choice is confirmed.
        attacks: how strong, on how many samples; only for the objective "adaptive".
        seed: of the split and of the attacks.
        workers, executor, journal: who does the attacks, and where finished ones are kept, as in `evaluate`.
        progress: called with the name of a stage, what was done, and what there is to do.

    Raises:
        ModelError: the model cannot be read, run or converted, is no classifier, or has nothing to tune.
        OptionError: the data are unfit, or an option makes no sense.
        RuntimeMissingError: onnxruntime is not installed, or for the objective "adaptive" the extra [attack].
        OutputError, WorkerError: as `evaluate`.

    Examples:
        >>> report = jr_onnx.tune("models/digits.onnx", "models/digits_test.npz", objective="clean", grid=[0.1, 0.5])
        >>> len(report.candidates)
        3
    """
    started = time.perf_counter()
    model = as_model("model", model)
    grid = None if grid is None else as_list("grid", grid)
    quantiles = None if quantiles is None else as_list("quantiles", quantiles)
    if not isinstance(attacks, AttackSettings | None):
        raise OptionError(f"`attacks`: {attacks!r} is no jr_onnx.AttackSettings")
    check_grid(grid, quantiles, per_layer)
    settings = (attacks or AttackSettings()) if objective == "adaptive" else None
    test_share = as_number("test_share", test_share)
    _check_options(objective, max_drop, test_share, as_integer("seed", seed), settings)
    check_workers(workers, executor)
    classifier = read_classifier(model)
    dataset = _dataset(data, classifier)
    tuning, test = _parts(dataset, 1 - test_share, seed)
    with about(None if isinstance(model, onnx.ModelProto) else Path(model)):
        hardened = harden(model, clip=clip)
    attacking: Attack | None = None
    if settings is not None:
        attacking = partial(
            attack,
            model,
            settings=settings,
            max_drop=max_drop,
            clip=clip,
            seed=seed,
            workers=workers,
            executor=executor,
            journal=journal,
        )
    stages = Stages(classifier, hardened, max_drop, attacking, progress)
    choices = stages.choices(grid, quantiles, per_layer, tuning)
    with jump_session(hardened, classifier) as session:
        candidates = stages.candidates(session, tuning, choices)
        best = best_of(candidates, objective)
        confirmation = None if best is None else stages.confirmation(session, test, candidates[0], best)
    if best is None or confirmation is None:
        sentence, gained = nothing_found(candidates, max_drop), False
    else:
        sentence, gained = outcome(best, confirmation, max_drop, dataset.labels is not None)
    chosen = best if gained else None
    return TuningReport(
        source=None if isinstance(model, onnx.ModelProto) else model,
        data=dataset.name,
        objective=objective,
        labels=dataset.labels is not None,
        max_drop=max_drop,
        eps=settings.eps if settings else None,
        attacks=DEFAULT_ATTACKS if settings else (),
        seed=seed,
        tuned_on=len(tuning),
        tested_on=len(test),
        attacked=min(settings.samples, len(tuning)) if settings else 0,
        candidates=candidates,
        confirmation=confirmation,
        chosen=chosen,
        policy=None if chosen is None else policy_of(chosen.choice, hardened.fixed),
        sentence=sentence,
        notes=tuple(_notes(hardened, candidates, classifier.classes if dataset.labels is not None else None)),
        seconds=time.perf_counter() - started,
    )


def _check_options(
    objective: Objective, max_drop: float, test_share: float, seed: int, settings: AttackSettings | None
) -> None:
    if objective not in OBJECTIVES:
        raise OptionError(f"unknown objective {objective!r}; it is {' or '.join(OBJECTIVES)}")
    checked_max_drop(max_drop)
    if not 0 < test_share < 1:
        raise OptionError(f"`test_share` {test_share:g}: give a number between 0 and 1")
    if seed < 0:
        raise OptionError(f"`seed` {seed}: at least 0")
    if settings is not None:
        check_attack_extra()
        checked_eps([settings.eps])


def _dataset(data: Dataset | DataSource, classifier: Classifier) -> Dataset:
    if not isinstance(data, Dataset):
        return load_data(data, classifier=classifier)
    classifier.check_shape(data.images.shape, f"{data.name}: the samples")
    if data.labels is not None:
        classifier.check_labels(int(data.labels.max()), data.name)
    return data


def _parts(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    tuning, test = split(dataset, fraction, seed)
    if min(len(tuning), len(test)) < _FEWEST:
        raise OptionError(
            f"{dataset.name}: {count(len(tuning), 'sample')} to choose on and {len(test)} to confirm on; {_FEWEST} of "
            "each are the least, and some hundred show more"
        )
    return tuning, test


def _notes(hardened: TunableModel, candidates: Sequence[Candidate], classes: int | None) -> Iterator[str]:
    if said := guessing(candidates[0].clean.estimate, classes):
        yield said
    if hardened.fixed:
        listed = ", ".join(hardened.fixed)
        yield f"RNN, GRU and LSTM keep their Relu, for an activation's jump cannot be tried at run time: {listed}"
    unseen = len(hardened.model.sites) - len(hardened.model.in_place)
    if unseen:
        yield f"{count(unseen, 'site')} in the body of an If, Loop or Scan: what they make zero is not counted"
    masked = [candidate.choice.label for candidate in candidates if candidate.masking]
    if masked:
        yield f"attacks that adapt undo what the true gradient shows (gradient masking) at jump {', '.join(masked)}"
    worst = candidates[0].adaptive
    if worst is not None and not worst.estimate:
        yield "at this eps no sample survives even at jump 0, so nothing can be told apart: choose a smaller one"
