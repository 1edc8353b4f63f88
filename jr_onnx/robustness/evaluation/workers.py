"""How the work is dealt out and who does it: this process, a pool of processes, or a Dask cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from jr_onnx.arguments import as_integer
from jr_onnx.errors import OptionError, RuntimeMissingError, WorkerError

if TYPE_CHECKING:
    from distributed import Client


#: Samples a shard, at least and at most, and how many numbers are in them if that lets it choose. The last bits of a
#: matrix product depend on how many rows are in it, so this is no option.
_LEAST, _MOST, _NUMBERS = 8, 64, 1 << 20


@dataclass(frozen=True)
class Shard:
    """The samples start <= index < stop."""

    number: int
    start: int
    stop: int

    @property
    def samples(self) -> range:
        """The indices of its samples in the data."""
        return range(self.start, self.stop)


def shards(shape: tuple[int, ...]) -> tuple[Shard, ...]:
    """All samples in shards, in order; `shape` is [N, ...]."""
    size = min(_MOST, max(_LEAST, _NUMBERS // math.prod(shape[1:])))
    starts = range(0, shape[0], size)
    return tuple(Shard(number, start, min(start + size, shape[0])) for number, start in enumerate(starts))


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


# --- Who does the work: this process, a pool of processes, or a Dask cluster. The same parts come out of each ---------

Part = TypeVar("Part")
Done = TypeVar("Done")

#: work(payload, part): a function of a module, so that other processes can import it.
Work = Callable[[Any, Part], Done]

#: How often a worker may die before anything is finished; then it is the work that kills them.
_DEATHS = 3


def run_parts(
    work: Work[Part, Done], payload: Any, parts: Sequence[Part], *, workers: int = 1, dask: str | None = None
) -> Iterator[tuple[Part, Done]]:
    """Do every part, in whatever order; each is given back as soon as it is finished.

    Args:
        work: called with the payload and a part, in one thread.
        payload: what all parts need; sent once to each worker.
        parts: what is to be done.
        workers: processes on this machine; 1 is this process.
        dask: the address of a Dask scheduler, in place of processes here.

    Raises:
        OptionError: the number of workers is below 1, no scheduler answers at the address, or it has no worker.
        RuntimeMissingError: Dask is not installed.
        WorkerError: workers die again and again at the same work, or the scheduler is lost.
    """
    if as_integer("workers", workers) < 1:
        raise OptionError(f"`workers` {workers}: at least 1")
    if dask is not None:
        yield from _on_dask(work, payload, parts, dask)
    elif workers == 1 or len(parts) < 2:
        for part in parts:
            yield part, work(payload, part)
    else:
        yield from _in_processes(work, payload, parts, min(workers, len(parts)))


_payload: Any = None


def _receive(payload: Any) -> None:
    global _payload  # a worker process serves one campaign
    _payload = payload
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Whoever waits for work, or works, does not hear of it when the process that wants it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _with_received(work: Work[Part, Done], part: Part) -> Done:
    return work(_payload, part)


def _in_processes(
    work: Work[Part, Done], payload: Any, parts: Sequence[Part], workers: int
) -> Iterator[tuple[Part, Done]]:
    left, deaths = list(range(len(parts))), 0
    while left:
        try:
            for index, done in _in_one_pool(work, payload, parts, left, workers):
                deaths = 0
                left.remove(index)
                yield parts[index], done
        except BrokenProcessPool as error:
            deaths += 1
            if deaths >= _DEATHS:
                raise WorkerError(
                    f"a worker process died {deaths} times with nothing finished between; it may be memory: try fewer "
                    "`workers`"
                ) from error


def _in_one_pool(
    work: Work[Part, Done], payload: Any, parts: Sequence[Part], left: Sequence[int], workers: int
) -> Iterator[tuple[int, Done]]:
    """What one pool finishes before it is done, or one of its processes dies."""
    context = multiprocessing.get_context("spawn")  # torch and onnxruntime have threads, which do not survive a fork
    with _one_thread():
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_receive, initargs=(payload,))
        try:
            waiting: dict[Future[Done], int] = {pool.submit(_with_received, work, parts[at]): at for at in left}
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        finally:
            _end(pool)


def _end(pool: ProcessPoolExecutor) -> None:
    """Do not wait for work that nobody wants any more: an interrupt must not last as long as a part does."""
    processes: Mapping[int, Any] = getattr(pool, "_processes", None) or {}
    running = list(processes.values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in running:
        process.terminate()
    for process in running:
        process.join()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that start in here use one thread each: there are as many processes as the user wants cores."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _on_dask(work: Work[Part, Done], payload: Any, parts: Sequence[Part], address: str) -> Iterator[tuple[Part, Done]]:
    try:
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError
    except ImportError as error:
        raise RuntimeMissingError("Dask is not installed; pip install 'dask[distributed]'") from error
    try:
        with _no_tracebacks(), _client(address) as client:
            yield from _on_cluster(client, work, payload, parts)
    except KilledWorker as error:
        raise WorkerError(
            f"{address}: workers of the cluster died again and again at the same work; it may be their memory"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise WorkerError(
            f"{address}: the scheduler was lost; finished parts are in the journal, if there is one: start the "
            "scheduler and its workers again, and the same command takes up from there"
        ) from error


def _on_cluster(
    client: Client, work: Work[Part, Done], payload: Any, parts: Sequence[Part]
) -> Iterator[tuple[Part, Done]]:
    from distributed import as_completed

    with warnings.catch_warnings():
        # The payload goes to the scheduler as the argument of a task, and not to a worker with `scatter`, as Dask
        # advises: what was scattered is lost when that worker dies, and every part that needs it with it.
        warnings.filterwarnings("ignore", message="Sending large graph")
        shared = client.submit(_same, payload, pure=False)
    # Not pure: two campaigns are two computations, whatever their arguments look like.
    futures = {client.submit(work, shared, part, pure=False): part for part in parts}
    for future in as_completed(list(futures), loop=client.loop):  # type: ignore[no-untyped-call]
        yield futures[future], future.result()
        future.release()


@contextlib.contextmanager
def _no_tracebacks() -> Iterator[None]:
    """Dask's client prints one when it loses the scheduler, besides the error that it raises."""
    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _same(payload: Any) -> Any:
    return payload


def _client(address: str) -> Client:
    from distributed import Client

    # First a question: a client that met no scheduler hangs, or prints a traceback when it goes, long after its error.
    try:
        with ThreadPoolExecutor(1) as elsewhere:  # a notebook has an event loop in this thread
            kind, workers = elsewhere.submit(asyncio.run, _who_answers(address)).result()
    except Exception as error:  # whatever Dask makes of what another service says
        raise OptionError(
            f"`dask` {address}: no scheduler answers there; start one with `dask scheduler`, and write its address as "
            "tcp://HOST:8786"
        ) from error
    if kind != "Scheduler":
        raise OptionError(f"`dask` {address}: a Dask {kind.lower()} answers there; name the scheduler")
    if not workers:  # Dask would wait for one without a word
        raise OptionError(f"`dask` {address}: no worker is connected; start one with `dask worker {address}`")
    return Client(address, timeout=5, set_as_default=False)  # type: ignore[no-untyped-call]


async def _who_answers(address: str) -> tuple[str, int]:
    """ "Scheduler", or what else of Dask listens there; and how many workers it has."""
    from distributed import rpc
    from distributed.security import Security

    security = Security().get_connection_args("client")  # type: ignore[no-untyped-call]
    async with rpc(address, timeout=5, connection_args=security) as other:  # type: ignore[no-untyped-call]
        answer = await asyncio.wait_for(other.identity(), 8)
    return str(answer["type"]), len(answer.get("workers", ()))
