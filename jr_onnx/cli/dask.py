"""`--dask ADDRESS`: a Dask cluster as an executor. The library knows executors only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

from jr_onnx.errors import OptionError, RuntimeMissingError, WorkerError

if TYPE_CHECKING:
    from distributed import Client


@contextlib.contextmanager
def dask_executor(address: str | None) -> Iterator[Executor | None]:
    """The executor of a Dask cluster, for as long as the context lasts; None without an address.

    Raises:
        OptionError: no scheduler answers at the address, or it has no worker.
        RuntimeMissingError: Dask is not installed.
        WorkerError: workers die again and again at the same work, or the scheduler is lost.
    """
    if address is None:
        yield None
        return
    try:
        from distributed import Client, KilledWorker
        from distributed.comm.core import CommClosedError
    except ImportError as error:
        raise RuntimeMissingError("Dask is not installed; pip install 'dask[distributed]'") from error
    _check_scheduler(address)
    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # it prints a traceback when the scheduler is lost, besides the error
    try:
        with Client(address, timeout=5, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            yield _Cluster(client)
    except KilledWorker as error:
        raise WorkerError(
            f"{address}: workers of the cluster died again and again at the same work; it may be their memory"
        ) from error
    except (WorkerError, CommClosedError) as error:
        raise WorkerError(
            f"{address}: the scheduler was lost; finished parts are in the journal, if there is one: start the "
            "scheduler and its workers again, and the same command takes up from there"
        ) from error
    finally:
        logger.setLevel(before)


class _Cluster(Executor):
    """Dask's own executor, but what several parts share goes to the cluster once, not with each part."""

    def __init__(self, client: Client) -> None:
        self._client, self._executor = client, client.get_executor(pure=False)  # type: ignore[no-untyped-call]
        self._sent: dict[int, tuple[Any, Any]] = {}

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        shared, *rest = arguments
        if id(shared) not in self._sent:
            with warnings.catch_warnings():
                # As the argument of a task, and not with `scatter`, as Dask advises: what was scattered is lost when
                # the worker that has it dies, and every part that needs it with it.
                warnings.filterwarnings("ignore", message="Sending large graph")
                self._sent[id(shared)] = shared, self._client.submit(_same, shared, pure=False)
        future: Future[Any] = self._executor.submit(work, self._sent[id(shared)][1], *rest, **named)
        return future


def _same(shared: Any) -> Any:
    return shared


def _check_scheduler(address: str) -> None:
    """Ask first: a client that met no scheduler hangs, or prints a traceback when it goes, long after its error."""
    try:
        kind, workers = asyncio.run(_who_answers(address))
    except Exception as error:  # whatever Dask makes of what another service says
        raise OptionError(
            f"--dask {address}: no scheduler answers there; start one with `dask scheduler`, and write its address as "
            "tcp://HOST:8786"
        ) from error
    if kind != "Scheduler":
        raise OptionError(f"--dask {address}: a Dask {kind.lower()} answers there; name the scheduler")
    if not workers:  # Dask would wait for one without a word
        raise OptionError(f"--dask {address}: no worker is connected; start one with `dask worker {address}`")


async def _who_answers(address: str) -> tuple[str, int]:
    """ "Scheduler", or what else of Dask listens there; and how many workers it has."""
    from distributed import rpc
    from distributed.security import Security

    security = Security().get_connection_args("client")  # type: ignore[no-untyped-call]
    async with rpc(address, timeout=5, connection_args=security) as other:  # type: ignore[no-untyped-call]
        answer = await asyncio.wait_for(other.identity(), 8)
    return str(answer["type"]), len(answer.get("workers", ()))
