"""How the work is dealt out and who does it: this process, processes on this machine, or any executor."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.arguments import as_integer, unfit
from jr_onnx.conversion.graph.scopes import all_scopes
from jr_onnx.conversion.graph.value_types import Dimension, ValueTypes
from jr_onnx.errors import OptionError, WorkerError
from jr_onnx.files.source import open_model

#: Samples a shard, at least and at most, and how many numbers are in them if that lets it choose.
_LEAST, _MOST, _NUMBERS = 8, 64, 1 << 20

#: So many multiplications of the forward passes take one CPU about a minute, together with their gradients.
_A_MINUTE = 5 * 10**11

#: The operators that nearly all the time goes into -> the axes of the output along which each weight is used again.
_REUSED = {"Conv": slice(2, None), "MatMul": slice(1, -1), "Gemm": slice(0, 0)}


def shards(shape: tuple[int, ...], cost: int = 0) -> tuple[range, ...]:
    """The indices of all samples in shards, in order.

    The last bits of a matrix product depend on how many rows are in it, so the size of a shard is no option, and no
    clock has a say in it.

    Args:
        shape: of the samples, [N, ...].
        cost: about how many multiplications a part makes on a sample: those of a forward pass, at each step from each
            start at each eps. A part takes about a minute at most, unless one sample takes more.
    """
    size = min(_MOST, max(_LEAST, _NUMBERS // math.prod(shape[1:])))
    size = max(1, min(size, _A_MINUTE // max(cost, 1)))
    return tuple(range(start, min(start + size, shape[0])) for start in range(0, shape[0], size))


def multiplications(model: str | Path | onnx.ModelProto) -> int:
    """About how many a sample needs in a model: those of convolutions and matrix products, where shapes are known."""
    with open_model(model) as source:
        scopes = tuple(all_scopes(source.skeleton))
        types, total = ValueTypes(source.skeleton, scopes), 0
        for scope in scopes:
            for node in scope.nodes:
                if node.op_type in _REUSED:
                    reused, weights = _REUSED[node.op_type], types.lookup(scope, node.input[1])
                    for out in types.lookup(scope, node.output[0])[:1]:
                        used = _size((out.shape or ())[reused])
                        total += sum(used * _size(one.shape or ()) for one in weights[:1])
        return total


def _size(shape: tuple[Dimension, ...]) -> int:
    return math.prod(dim for dim in shape if isinstance(dim, int))


def sample_seeds(seed: int, stream: int, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """A seed for each sample, which depends on nothing but the arguments.

    Args:
        seed: the user's, >= 0.
        stream: tells apart what else draws numbers for the same sample: the attack, >= 0. It draws the same numbers at
            every eps.
        samples: indices of samples in the whole data, [n].

    Returns:
        [n] uint64, by NumPy's SeedSequence, which keeps streams of neighbouring numbers apart.
    """
    drawn = [np.random.SeedSequence((seed, stream, int(sample))).generate_state(1, np.uint64)[0] for sample in samples]
    return np.array(drawn, np.uint64)


# --- Who does the work. The same comes out of each --------------------------------------------------------------------

Part = TypeVar("Part")
Shared = TypeVar("Shared")
Done = TypeVar("Done")

#: work(shared, part): a function of a module, so that other processes can import it.
Work = Callable[[Shared, Part], Done]

#: How often a worker may die before anything is finished; then it is the work that kills them.
_DEATHS = 3


def run_parts(
    work: Work[Shared, Part, Done],
    tasks: Mapping[Part, Shared],
    *,
    workers: int = 1,
    executor: Executor | None = None,
) -> Iterator[tuple[Part, Done]]:
    """Do every part, in whatever order; each is given back as soon as it is finished.

    Args:
        work: called with what the part shares with others, and the part.
        tasks: part -> what it shares with others; it is sent with each.
        workers: processes on this machine; 1 is this process.
        executor: who does the work in place of processes here. It is not shut down.

    Raises:
        OptionError: as `check_workers`.
        WorkerError: workers die again and again at the same work, or the executor gives up.
    """
    check_workers(workers, executor)
    if executor is not None:
        yield from _in_executor(executor, work, tasks)
    elif workers == 1 or len(tasks) < 2:
        for part, shared in tasks.items():
            yield part, work(shared, part)
    else:
        yield from _in_processes(work, tasks, min(workers, len(tasks)))


def check_workers(workers: int, executor: Executor | None) -> None:
    """Whether these arguments say who does the work.

    Raises:
        OptionError: the number of workers is below 1, or the executor is none.
    """
    if as_integer("workers", workers) < 1:
        raise OptionError(f"`workers` {workers}: at least 1")
    if not isinstance(executor, Executor | None):
        raise unfit("executor", executor, "a concurrent.futures.Executor")


def _in_executor(
    executor: Executor, work: Work[Shared, Part, Done], tasks: Mapping[Part, Shared]
) -> Iterator[tuple[Part, Done]]:
    try:
        yield from _submitted(executor, work, tasks)
    except (BrokenExecutor, CancelledError) as error:
        raise WorkerError(
            f"the {type(executor).__name__} lost its workers; finished parts are in the journal, if there is one: the "
            "same call takes up from there"
        ) from error


def _submitted(
    executor: Executor, work: Work[Shared, Part, Done], tasks: Mapping[Part, Shared]
) -> Iterator[tuple[Part, Done]]:
    waiting: dict[Future[Done], Part] = {}
    try:
        for part, shared in tasks.items():
            waiting[executor.submit(work, shared, part)] = part
        for future in as_completed(list(waiting)):
            yield waiting.pop(future), future.result()
    finally:
        for future in waiting:
            future.cancel()


def _in_processes(
    work: Work[Shared, Part, Done], tasks: Mapping[Part, Shared], workers: int
) -> Iterator[tuple[Part, Done]]:
    """In processes that end with this one; a new pool takes over where one of them dies."""
    left, deaths = dict(tasks), 0
    while left:
        try:
            with _pool(workers) as pool:
                for part, done in _submitted(pool, work, left):
                    deaths = 0
                    del left[part]
                    yield part, done
        except BrokenExecutor as error:
            deaths += 1
            if deaths >= _DEATHS:
                raise WorkerError(
                    f"a worker process died {deaths} times with nothing finished between; it may be memory: try fewer "
                    "`workers`"
                ) from error


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")  # onnxruntime has threads, which do not survive a fork
    with _one_thread():
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_watch_parent)
        try:
            yield pool
        finally:
            # Do not wait for work that nobody wants any more: an interrupt must not last as long as a part does.
            processes = list((getattr(pool, "_processes", None) or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()


def _watch_parent() -> None:
    # A terminal sends Ctrl-C to the workers too; they end when the parent ends them, and have nothing to say before.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Whoever waits for work, or works, does not hear of it when the process that wants it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that start in here use one thread each: there are as many processes as the user wants cores."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)
