"""Every file in turn in one process, so that a machine whose speed drifts slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from jr_onnx.arguments import as_integer, as_list, as_lists, as_path, as_text
from jr_onnx.errors import ModelError, OptionError
from jr_onnx.files.source import about, check_is_file
from jr_onnx.runtime.data.dataset import Dataset
from jr_onnx.runtime.data.loading import Data, DataSource, read_data
from jr_onnx.runtime.execution import (
    Arrays,
    CannotRunError,
    Session,
    Way,
    has_use_for_kernels,
    library_problem,
    onnxruntime,
    provider_name,
    taken,
)
from jr_onnx.runtime.inputs import Sampler, by_name
from jr_onnx.runtime.measure import (
    BenchReport,
    FileCost,
    Timing,
    blamed_on,
    op_type_times,
    open_session,
    peak_memory,
    ratio,
)

#: How often all sessions are made anew: where a session's memory happens to lie can make it 10% faster or slower.
_BLOCKS = 4

_WARM_UP = 1

#: For each model, a list of seconds.
Times = tuple[list[float], ...]


def bench(
    models: Sequence[str | Path],
    *,
    provider: str = "CPU",
    batches: Sequence[int] = (),
    threads: Sequence[int] = (1,),
    rounds: int = 15,
    shapes: Mapping[str, Sequence[int]] | None = None,
    data: Dataset | DataSource | None = None,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int], None] = lambda _: None,
) -> BenchReport:
    """Measure the time and the memory of some models on the same inputs.

    All sessions live in one process and run in turn, in an order that moves on by one each round; they are made anew a
    few times on the way. JumpReLU runs by kernel where the kernel library is installed.

    Args:
        models: files; the first is the one that the others are compared with.
        provider: an execution provider, "cpu" or "CUDAExecutionProvider".
        batches: sizes of the first axis of inputs that leave it open; empty: what the model or `shapes` fix, else 1.
        threads: numbers of onnxruntime's intra-op threads.
        rounds: how often each model runs, at least 2; it runs once more in each new session to warm up.
        shapes: of inputs, by name, where other open axes must have sizes that cannot be found by trying.
        data: real inputs: all that `jr_onnx.load_data` takes or gives; others are random. An array by the name of an
            input is fed as it is, so that its first axis is the batch size; of samples (x), each batch takes the first.
        clock: what the runs are timed with. `time.process_time` leaves out what other programs take of a busy machine;
            it is for one thread, since it adds up threads.
        progress: called with the number of rounds since its last call; `steps` says how many there are.

    Raises:
        OptionError: an option makes no sense.
        ModelError: a model does not run.

    Examples:
        >>> _ = jr_onnx.convert("models/digits.onnx", jump=0.5, output="hard.onnx")
        >>> report = jr_onnx.bench(["models/digits.onnx", "hard.onnx"], rounds=2)
        >>> [pathlib.Path(one.file).name for one in report.timings]
        ['digits.onnx', 'hard.onnx']
    """
    paths = [as_path("models", model) for model in as_list("models", models)]
    batches = [as_integer("batches", batch) for batch in as_list("batches", batches)]
    threads = [as_integer("threads", number) for number in as_list("threads", threads)]
    shapes, rounds = as_lists("shapes", shapes or {}), as_integer("rounds", rounds)
    given = None if data is None else read_data(data)
    if rounds < 2:
        raise OptionError(f"`rounds` {rounds}: at least 2")
    if not paths or min(threads, default=0) < 1 or min(batches, default=1) < 1:
        raise OptionError("give at least one model, and `batches` and `threads` of 1 and more")
    for path in paths:
        with about(path):
            check_is_file(path)
    try:
        name = provider_name(as_text("provider", provider))
        run = _Bench(paths, name, rounds, clock, progress)
        feeds = run.feeds(batches, shapes, given)
        timings: list[Timing] = []
        creations: list[Times] = []
        for count in dict.fromkeys(threads):
            times, made = run.times(count, feeds)
            creations.append(made)
            timings += _timings(paths, count, times)
        files = run.costs(threads[0], next(iter(feeds.values())), creations[0])
    except CannotRunError as error:
        raise ModelError(str(error)) from error
    return BenchReport(name, onnxruntime().__version__, rounds, tuple(timings), files)


def steps(models: int, batches: int, threads: int, rounds: int) -> int:
    """How many rounds `bench` tells of, in all."""
    return batches * threads * rounds + models


class _Bench:
    """The runs of some models on one provider."""

    def __init__(
        self,
        paths: Sequence[Path],
        provider: str,
        rounds: int,
        clock: Callable[[], float],
        progress: Callable[[int], None],
    ) -> None:
        self._paths, self._provider, self._rounds = paths, provider, rounds
        self._clock, self._progress = clock, progress

    def feeds(
        self, batches: Sequence[int], shapes: Mapping[str, Sequence[int]], data: Data | None
    ) -> dict[int, Arrays]:
        """Inputs by batch size, on which every model ran before anything is measured."""
        sessions = [(path, open_session(path, self._provider, 1)) for path in self._paths]
        _check_inputs(sessions)
        # The first file may be the original, which has no input for a jump among the data.
        arrays = data.arrays if data is not None else {}
        takes_most, _ = max(sessions, key=lambda one: len(taken(one[1], arrays)))
        feeds = self._made(takes_most, batches, shapes, data)
        try:
            for path, session in sessions:
                with blamed_on(path):
                    for inputs in feeds.values():
                        session.run(None, taken(session, inputs))
        except CannotRunError as error:
            raise CannotRunError(
                f"{str(error).rstrip('.')}; give `batches`, `shapes` or `data` that every model takes"
            ) from error
        return feeds

    def _made(
        self, first: Path, batches: Sequence[int], shapes: Mapping[str, Sequence[int]], data: Data | None
    ) -> dict[int, Arrays]:
        library = has_use_for_kernels(self._provider) and not library_problem()
        session = Session(first, Way(self._provider, library))
        own: dict[str, Sequence[Any]] = {one.name: one.shape for one in session.inputs()}
        feeds = {}
        named = by_name(data, session) if data is not None else {}
        given = {**shapes, **{name: array.shape for name, array in named.items() if name in own}}
        for batch in _sizes(first, own, batches, given):
            batched = {name: _with_batch(shape, batch) for name, shape in own.items()}
            feeds[batch] = Sampler(session, {**batched, **shapes}, data).random(0, 1.0).feeds
        return feeds

    def times(self, threads: int, feeds: Mapping[int, Arrays]) -> tuple[dict[int, Times], Times]:
        """Seconds of each run by batch size, and of each making of a session."""
        paths, clock = self._paths, self._clock
        times: dict[int, Times] = {batch: tuple([] for _ in paths) for batch in feeds}
        creations: Times = tuple([] for _ in paths)
        open_session(paths[0], self._provider, threads)  # warms onnxruntime up
        blocks = min(_BLOCKS, self._rounds)
        for block in range(blocks):
            sessions: dict[int, Any] = {}
            for index in _order(len(paths), block):
                started = clock()
                sessions[index] = open_session(paths[index], self._provider, threads)
                creations[index].append(clock() - started)
            for batch, inputs in feeds.items():
                for number in range(-_WARM_UP, len(range(block, self._rounds, blocks))):
                    for index in _order(len(paths), number):
                        feed = taken(sessions[index], inputs)
                        with blamed_on(paths[index]):
                            started = clock()
                            sessions[index].run(None, feed)
                            seconds = clock() - started
                        if number >= 0:
                            times[batch][index].append(seconds)
                    self._progress(int(number >= 0))
        return times, creations

    def costs(self, threads: int, feeds: Arrays, creations: Times) -> tuple[FileCost, ...]:
        """What each file costs besides its runs."""
        costs = []
        for path, times in zip(self._paths, creations, strict=True):
            by_type = op_type_times(path, self._provider, threads, feeds)
            peak = peak_memory(path, self._provider, threads, feeds)
            costs.append(FileCost(str(path), median(times), ratio(times, creations[0]), peak, by_type))
            self._progress(1)
        return tuple(costs)


def _sizes(
    first: Path, own: Mapping[str, Sequence[Any]], batches: Sequence[int], shapes: Mapping[str, Sequence[int]]
) -> Sequence[int]:
    """The batch sizes that will be fed: those asked for, or the one that the model or `shapes` fix.

    Args:
        shapes: those that were given, of data too.

    Raises:
        OptionError: a size was asked for that is not the fixed one.
    """
    axes = {name: shape[0] for name, shape in {**own, **shapes}.items() if shape}
    left = {axis for axis in axes.values() if not isinstance(axis, int)}
    # Beside an input that is left open, only those whose first axis has the same name in the model tell its size.
    shared = {name for name, shape in own.items() if shape and isinstance(shape[0], str) and shape[0] in left}
    fixed = {name: axis for name, axis in axes.items() if isinstance(axis, int) and (not left or name in shared)}
    if left and not fixed:
        return batches or (1,)
    name, size = next(iter(fixed.items()), ("", 1))
    for batch in batches:
        if batch != size:
            by, out = (f"`shapes` or `data` of '{name}'", "one of the two") if name in shapes else (first, "`batches`")
            raise OptionError(f"`batches` {batch}: {by} has the fixed size {size} there; leave {out} out")
    return (size,)


def _check_inputs(sessions: Sequence[tuple[Path, Any]]) -> None:
    """All models take what the first one takes."""
    taken = [(path, {one.name: one.type for one in session.get_inputs()}) for path, session in sessions]
    for path, inputs in taken:
        if inputs != taken[0][1]:
            own, first = (", ".join(f"{name} {kind}" for name, kind in one.items()) for one in (inputs, taken[0][1]))
            raise OptionError(f"{path} takes {own or 'nothing'}, and {taken[0][0]} takes {first or 'nothing'}")


def _with_batch(shape: Sequence[Any], batch: int) -> list[Any]:
    return [batch, *shape[1:]] if shape and not isinstance(shape[0], int) else list(shape)


def _timings(paths: Sequence[Path], threads: int, times: Mapping[int, Times]) -> list[Timing]:
    return [
        Timing(str(path), batch, threads, median(own), ratio(own, each[0]))
        for batch, each in times.items()
        for path, own in zip(paths, each, strict=True)
    ]


def _order(models: int, number: int) -> list[int]:
    """Which model is first moves on every second time; in between the order is reversed, so that neighbours change."""
    order = [(place + number // 2) % models for place in range(models)]
    return order[::-1] if number % 2 else order
