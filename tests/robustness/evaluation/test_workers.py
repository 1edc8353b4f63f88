"""Whoever does the work, the same comes out; and whoever dies while doing it, nothing is lost."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jr_onnx.cli.dask import dask_executor
from jr_onnx.errors import JrOnnxError, OptionError, WorkerError
from jr_onnx.robustness.evaluation.workers import run_parts

PARTS = list(range(12))


def square(payload: int, part: int) -> int:
    return payload + part * part


def die_once(folder: str, part: int) -> int:
    """The first to do part 3 is killed while it does so."""
    if part == 3:
        try:
            (Path(folder) / "died").touch(exist_ok=False)
        except FileExistsError:
            return part
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return part


def die_always(_: None, part: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return part


def complain(_: None, part: int) -> int:
    raise OptionError(f"part {part} is unfit")


def first_only(folder: str, part: int) -> int:
    """The part that comes first at once, whichever it is; the others when there is a file `over` in the folder."""
    try:
        (Path(folder) / "first").touch(exist_ok=False)
    except FileExistsError:
        while not (Path(folder) / "over").exists():
            time.sleep(0.02)
    return part


def threads(_: None, __: int) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def test_a_pool_gives_what_one_process_gives() -> None:
    expected = {part: 100 + part * part for part in PARTS}
    assert dict(run_parts(square, dict.fromkeys(PARTS, 100))) == expected
    assert dict(run_parts(square, dict.fromkeys(PARTS, 100), workers=2)) == expected


def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    assert sorted(run_parts(die_once, dict.fromkeys(PARTS, str(tmp_path)), workers=2)) == [
        (part, part) for part in PARTS
    ]
    assert (tmp_path / "died").exists()


def test_work_that_kills_every_worker_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(WorkerError, match="died 3 times"):
        list(run_parts(die_always, dict.fromkeys(PARTS), workers=2))


def test_an_error_in_a_worker_arrives_as_itself() -> None:
    with pytest.raises(OptionError, match="is unfit"):
        list(run_parts(complain, dict.fromkeys(PARTS), workers=2))


def test_workers_have_one_thread_each_and_the_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert {found for _, found in run_parts(threads, dict.fromkeys(PARTS[:4]), workers=2)} == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "forever.py").write_text(
        "import os, time\n"
        "def work(folder, part):\n"
        "    open(f'{folder}/{os.getpid()}', 'w').close()\n"
        "    time.sleep(600)\n"
    )
    script = "import sys, forever; from jr_onnx.robustness.evaluation.workers import run_parts\n"
    script += "if __name__ == '__main__': list(run_parts(forever.work, dict.fromkeys([1, 2], sys.argv[1]), workers=2))"
    (tmp_path / "main.py").write_text(script)
    (tmp_path / "workers").mkdir()
    command = [sys.executable, "main.py", "workers"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True) as process:
        while len(list((tmp_path / "workers").iterdir())) < 2:
            assert process.poll() is None
            time.sleep(0.1)
        process.kill()
        process.communicate(timeout=120)  # until all that have its stdout are gone


def test_a_number_of_workers_below_one_is_refused() -> None:
    with pytest.raises(OptionError, match="at least 1"):
        list(run_parts(square, dict.fromkeys(PARTS, 0), workers=0))


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": lambda: ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")),
}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_any_executor_gives_what_one_process_gives_and_is_still_open(kind: str) -> None:
    with EXECUTORS[kind]() as executor:
        for _ in range(2):
            found = dict(run_parts(square, dict.fromkeys(PARTS, 100), executor=executor))
            assert found == {part: 100 + part * part for part in PARTS}


def test_an_error_in_an_executor_arrives_as_itself_and_what_waits_is_dropped() -> None:
    done: list[int] = []

    def work(_: None, part: int) -> None:
        done.append(part)
        time.sleep(0.01)
        raise OptionError(f"part {part} is unfit")

    with ThreadPoolExecutor(1) as executor, pytest.raises(OptionError, match="part 0 is unfit"):
        list(run_parts(work, dict.fromkeys(range(1000)), executor=executor))
    assert len(done) < 1000


def test_an_executor_that_refuses_a_part_has_none_left_waiting() -> None:
    futures: list[Future[Any]] = []

    class Full(Executor):
        def submit(self, *_: Any, **__: Any) -> Future[Any]:
            if len(futures) == 3:
                raise RuntimeError("cannot schedule new futures after shutdown")
            futures.append(Future())
            return futures[-1]

    with pytest.raises(RuntimeError, match="after shutdown"):
        list(run_parts(square, dict.fromkeys(PARTS, 1), executor=Full()))
    assert [future.cancelled() for future in futures] == [True] * 3


def test_an_executor_that_breaks_is_one_line_and_says_where_the_finished_parts_are() -> None:
    with (
        EXECUTORS["processes"]() as executor,
        pytest.raises(WorkerError, match="ProcessPoolExecutor lost its workers; finished parts are in the journal"),
    ):
        list(run_parts(die_always, dict.fromkeys(PARTS), executor=executor))


def on_dask(work: Any, tasks: dict[int, Any], address: str) -> Iterator[tuple[int, Any]]:
    """As the command line does it."""
    with dask_executor(address) as executor:
        yield from run_parts(work, tasks, executor=executor)


def test_the_executor_of_a_dask_client_gives_what_one_process_gives(cluster: Any) -> None:
    with cluster.get_client() as client:
        found = dict(run_parts(square, dict.fromkeys(PARTS, 100), executor=client.get_executor()))
    assert found == {part: 100 + part * part for part in PARTS}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'jr-onnx[dask]'")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as made:
        yield made


def test_a_cluster_gives_what_one_process_gives(cluster: Any) -> None:
    found = dict(on_dask(square, dict.fromkeys(PARTS, 100), cluster.scheduler_address))
    assert found == {part: 100 + part * part for part in PARTS}


def test_a_worker_of_a_cluster_that_is_killed_loses_nothing(cluster: Any, tmp_path: Path) -> None:
    found = on_dask(die_once, dict.fromkeys(PARTS, str(tmp_path)), cluster.scheduler_address)
    assert sorted(found) == [(part, part) for part in PARTS]
    assert (tmp_path / "died").exists()


def test_no_scheduler_at_the_address_is_one_line() -> None:
    pytest.importorskip("distributed", reason="needs Dask: pip install 'jr-onnx[dask]'")
    with pytest.raises(JrOnnxError, match="no scheduler answers there"):
        list(on_dask(square, dict.fromkeys(PARTS, 0), "tcp://127.0.0.1:9"))


@pytest.fixture
def scheduler() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """One without workers, in a process of its own: its address, and the process."""
    pytest.importorskip("distributed", reason="needs Dask: pip install 'jr-onnx[dask]'")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    with dask("scheduler", *options) as process:
        for _ in range(1200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"tcp://127.0.0.1:{port}", process


@contextlib.contextmanager
def dask(what: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments]
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}  # to this module's functions
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=path) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_a_scheduler_without_workers_is_refused_and_not_waited_for(
    scheduler: tuple[str, subprocess.Popen[bytes]],
) -> None:
    address, _ = scheduler
    with pytest.raises(OptionError, match=f"no worker is connected; start one with `dask worker {address}`"):
        list(on_dask(square, dict.fromkeys(PARTS, 0), address))


def test_a_scheduler_that_is_killed_is_one_line_and_says_where_the_finished_parts_are(
    scheduler: tuple[str, subprocess.Popen[bytes]], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    address, process = scheduler
    with dask("worker", address, "--no-dashboard", "--no-nanny", "--nthreads", "1"):
        parts = started(address, tmp_path)
        process.kill()
        with pytest.raises(WorkerError, match="the scheduler was lost; finished parts are in the journal"):
            list(parts)
        (tmp_path / "over").touch()
    assert capfd.readouterr().err == ""


def started(address: str, folder: Path) -> Iterator[tuple[int, int]]:
    """The parts after the first, which is done as soon as there is a worker."""
    for _ in range(1200):
        parts = on_dask(first_only, dict.fromkeys(PARTS, str(folder)), address)
        with contextlib.suppress(OptionError):
            next(parts)
            return parts
        time.sleep(0.1)
    raise TimeoutError("no worker connects")


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_another_service_at_the_address_is_one_line_and_no_wait_without_end(greeting: bytes) -> None:
    pytest.importorskip("distributed", reason="needs Dask: pip install 'jr-onnx[dask]'")
    with socket.create_server(("127.0.0.1", 0)) as service:

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = service.accept()
                    connections.append(connection)
                    connection.sendall(greeting)

        connections: list[socket.socket] = []
        threading.Thread(target=greet, daemon=True).start()
        address = f"tcp://127.0.0.1:{service.getsockname()[1]}"
        with pytest.raises(OptionError, match="no scheduler answers there"):
            list(on_dask(square, dict.fromkeys(PARTS, 0), address))
        for connection in connections:
            connection.close()


def test_the_address_of_a_worker_is_told_from_that_of_the_scheduler(cluster: Any) -> None:
    worker = next(iter(cluster.workers.values())).worker_address
    with pytest.raises(OptionError, match="a Dask worker answers there; name the scheduler"):
        list(on_dask(square, dict.fromkeys(PARTS, 0), worker))


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:9", "tcp://[", "127.0.0.1:99999"])
def test_an_address_that_makes_no_sense_is_one_line_and_nothing_comes_after_it(address: str) -> None:
    pytest.importorskip("distributed", reason="needs Dask: pip install 'jr-onnx[dask]'")
    program = (
        "import sys; from jr_onnx.errors import JrOnnxError\n"
        "from jr_onnx.cli.dask import dask_executor\n"
        f"try:\n  with dask_executor({address!r}): pass\n"
        "except JrOnnxError as error: sys.exit(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"--dask {address}: no scheduler answers there")
