"""Every file in turn in one process, so that a machine whose speed drifts slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from jr_onnx.benching.op_types import op_type_times
from jr_onnx.benching.peak import peak_memory
from jr_onnx.benching.report import BenchReport, FileCost, Timing, ratio
from jr_onnx.benching.sessions import open_session
from jr_onnx.checking.samples import Sampler
from jr_onnx.checking.sessions import Arrays, CannotRunError, Session, Way, library_problem, onnxruntime, provider_name
from jr_onnx.errors import ModelError, OptionError

#: Sessions that are made for the time that it takes, after one that warms the page cache.
_CREATIONS = 3

_WARM_UP = 2


def bench(
    models: Sequence[str | Path],
    *,
    provider: str = "CPU",
    batches: Sequence[int] = (1,),
    threads: Sequence[int] = (1,),
    rounds: int = 15,
    shapes: Mapping[str, Sequence[int]] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int], None] = lambda _: None,
) -> BenchReport:
    """Measure the time and the memory of some models on the same random inputs.

    All sessions of a batch size and a number of threads live in one process and run in turn, in an order that moves on
    by one each round. JumpReLU runs by kernel where the kernel library is installed.

    Args:
        models: files; the first is the one that the others are compared with.
        provider: an execution provider, "cpu" or "CUDAExecutionProvider".
        batches: sizes of the first axis of every input that leaves it open.
        threads: numbers of onnxruntime's intra-op threads.
        rounds: how often each model runs, at least 2; it runs twice more to warm up.
        shapes: of inputs, by name, where other open axes must have sizes that cannot be found by trying.
        clock: what the runs are timed with. `time.process_time` leaves out what other programs take of a busy machine;
            it is for one thread, since it adds up threads.
        progress: called with the number of rounds since its last call; `steps` says how many there are.

    Raises:
        OptionError: an option makes no sense.
        ModelError: a model does not run.
    """
    paths = [Path(model) for model in models]
    if not paths or rounds < 2 or min((*batches, *threads), default=0) < 1:
        raise OptionError("give at least one model, two rounds, and batch sizes and threads of 1 and more")
    try:
        name = provider_name(provider)
        feeds = {batch: _feeds(paths[0], name, batch, shapes or {}) for batch in batches}
        timings: list[Timing] = []
        for count in threads:
            sessions = [open_session(path, name, count) for path in paths]
            for batch in batches:
                times = _rounds(sessions, feeds[batch], rounds, clock, progress)
                timings += [
                    Timing(str(path), batch, count, median(own), ratio(own, times[0]))
                    for path, own in zip(paths, times, strict=True)
                ]
            del sessions
        files = _costs(paths, name, threads[0], feeds[batches[0]], progress)
    except CannotRunError as error:
        raise ModelError(str(error)) from error
    return BenchReport(name, onnxruntime().__version__, rounds, tuple(timings), files)


def steps(models: int, batches: int, threads: int, rounds: int) -> int:
    """How many rounds `bench` tells of, in all."""
    return batches * threads * (rounds + _WARM_UP) + _CREATIONS + 1 + models


def _feeds(first: Path, provider: str, batch: int, shapes: Mapping[str, Sequence[int]]) -> Arrays:
    session = Session(first, Way(provider, not library_problem()))
    own: dict[str, Sequence[Any]] = {one.name: one.shape for one in session.inputs()}
    batched = {name: _with_batch(shape, batch) for name, shape in own.items()}
    return Sampler(session, {**batched, **shapes}, {}).random(0, 1.0).feeds


def _with_batch(shape: Sequence[Any], batch: int) -> list[Any]:
    return [batch, *shape[1:]] if shape and not isinstance(shape[0], int) else list(shape)


def _rounds(
    sessions: Sequence[Any],
    feeds: Arrays,
    rounds: int,
    clock: Callable[[], float],
    progress: Callable[[int], None],
) -> tuple[list[float], ...]:
    """Seconds of each run, by session and round."""
    times: tuple[list[float], ...] = tuple([] for _ in sessions)
    for number in range(rounds + _WARM_UP):
        for place in range(len(sessions)):
            index = (place + number) % len(sessions)
            started = clock()
            sessions[index].run(None, feeds)
            if number >= _WARM_UP:
                times[index].append(clock() - started)
        progress(1)
    return times


def _costs(
    paths: Sequence[Path], provider: str, threads: int, feeds: Arrays, progress: Callable[[int], None]
) -> tuple[FileCost, ...]:
    creations: list[list[float]] = [[] for _ in paths]
    for number in range(_CREATIONS + 1):
        for path, times in zip(paths, creations, strict=True):
            started = time.perf_counter()
            open_session(path, provider, threads)
            if number:
                times.append(time.perf_counter() - started)
        progress(1)
    costs = []
    for path, times in zip(paths, creations, strict=True):
        by_type = op_type_times(path, provider, threads, feeds)
        peak = peak_memory(path, provider, threads, feeds)
        costs.append(FileCost(str(path), median(times), ratio(times, creations[0]), peak, by_type))
        progress(1)
    return tuple(costs)
