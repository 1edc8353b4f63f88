"""A server process, its clients, and requests to it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

Array = npt.NDArray[Any]

#: How many ask at once.
CLIENTS = 16


class RunningServer:
    """Where a started server listens."""

    def __init__(self, log: Path) -> None:
        self.http_port, self.grpc_port, self.metrics_port = free_ports(3)
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def grpc(self) -> Any:
        return tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{self.grpc_port}")

    def http(self, concurrency: int = 1) -> Any:
        return tritonclient.http.InferenceServerClient(f"127.0.0.1:{self.http_port}", concurrency=concurrency)

    def start(self, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*map(str, command)],
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
                start_new_session=True,
            )

    def exit_code(self, seconds: float = 90) -> int:
        """Wait until the process ends by itself."""
        assert self.process is not None
        return self.process.wait(seconds)

    def wait_until_ready(self, model: str, seconds: float = 300) -> None:
        assert self.process is not None
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the server ended: {self.log.read_text()}"
            with contextlib.suppress(InferenceServerException):
                if self.grpc().is_model_ready(model):
                    return
            time.sleep(0.2)
        raise AssertionError(f"not ready in {seconds} s: {self.log.read_text()}")

    def stop(self) -> None:
        """Ask the process to end, and see to it that it does."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def running(log: Path) -> Iterator[RunningServer]:
    """A server to start, which is stopped at the end."""
    server = RunningServer(log)
    try:
        yield server
    finally:
        server.stop()


def free_ports(number: int) -> list[int]:
    """Ports that nobody listened on a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def infer(
    client: Any, model: str, feeds: Mapping[str, Array], outputs: Sequence[str] = (), *, binary: bool = False
) -> Any:
    """One request over gRPC, or over HTTP as JSON or with binary tensors behind it; the answer."""
    module = tritonclient.grpc if isinstance(client, tritonclient.grpc.InferenceServerClient) else tritonclient.http
    form = {} if module is tritonclient.grpc else {"binary_data": binary}
    inputs = []
    for name, array in feeds.items():
        tensor = module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, **form)
        inputs.append(tensor)
    wanted = [module.InferRequestedOutput(name, **form) for name in outputs]
    return client.infer(model, inputs, outputs=wanted or None)


def from_many_clients(connect: Callable[[], Any], work: Callable[[Any, int], None], rounds: int = 4) -> None:
    """`work(client, number)` by 16 clients at once, several times each; the first exception of any is raised."""

    def one(number: int) -> None:
        client = connect()
        for turn in range(rounds):
            work(client, number * rounds + turn)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(one, number) for number in range(CLIENTS)]:
            done.result()


def assert_same_bits(got: Array, want: Array, where: str) -> None:
    """The same shape, type and bits; for text, the same characters. A NaN may be any NaN."""
    if want.dtype.kind == "O":
        got = np.array(
            [item.decode() if isinstance(item, bytes) else item for item in got.reshape(-1)], object
        ).reshape(got.shape)
        assert got.tolist() == want.tolist(), where
        return
    assert (got.dtype, got.shape) == (want.dtype, want.shape), where
    nan = np.isnan(want) if want.dtype.kind == "f" else np.zeros(want.shape, bool)
    assert np.array_equal(nan, np.isnan(got)) if nan.any() else True, where
    assert got[~nan].tobytes() == want[~nan].tobytes(), where
