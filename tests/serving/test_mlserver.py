"""MLServer, installed and started: what `jr-onnx deploy` wrote serves the bits that a local session gives."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc
from running import RunningServer, assert_same_bits, from_many_clients, infer, running
from server_models import BAD_REQUESTS, local, mixed_feeds, model_with_code_as_data, row_model
from tritonclient.utils import InferenceServerException

import jr_onnx
from jr_onnx.reference import jump_relu

pytestmark = pytest.mark.servers

ROWS = np.array([[0.25, 0.6, 0.9], [np.nan, np.inf, -1]], np.float32)


def start(server: RunningServer, programs: Path, folder: Path) -> None:
    ports = {"HTTP": server.http_port, "GRPC": server.grpc_port, "METRICS": server.metrics_port}
    environment = {f"MLSERVER_{name}_PORT": str(port) for name, port in ports.items()}
    server.start([programs / "mlserver", "start", "."], folder, environment)


@pytest.fixture(scope="session")
def programs(installed: Callable[[str], Path]) -> Path:
    return installed("mlserver")


@pytest.fixture(scope="module")
def server(
    programs: Path, digits: Path, mixed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server with both models."""
    folder = tmp_path_factory.mktemp("mlserver")
    jr_onnx.deploy(digits, "mlserver", folder / "models")
    jr_onnx.deploy(mixed, "mlserver", folder / "more")
    shutil.copytree(folder / "more" / "mixed", folder / "models" / "mixed")
    with running(folder / "log.txt") as started:
        start(started, programs, folder / "models")
        started.wait_until_ready("mixed")
        started.wait_until_ready("digits")
        yield started


def test_over_grpc_every_datatype_has_the_bits_of_a_local_session(server: RunningServer, mixed: Path) -> None:
    def ask(client: Any, number: int) -> None:
        feeds = mixed_feeds(1 + number % 5, number)
        answer = infer(client, "mixed", feeds)
        for name, want in local(mixed, feeds).items():
            assert_same_bits(answer.as_numpy(name), want, name)

    from_many_clients(server.grpc, ask)


def test_over_http_finite_values_have_the_bits_of_a_local_session(server: RunningServer, mixed: Path) -> None:
    def ask(client: Any, number: int) -> None:
        feeds = {
            name: np.where(np.isfinite(array), array, array.dtype.type(1)) if array.dtype.kind == "f" else array
            for name, array in mixed_feeds(1 + number % 5, number).items()
        }
        answer = infer(client, "mixed", feeds)
        for name, want in local(mixed, feeds).items():
            assert_same_bits(answer.as_numpy(name), want, name)

    from_many_clients(server.http, ask, rounds=2)


def test_the_jump_can_be_raised_for_each_request(server: RunningServer, digits: Path, images: Any) -> None:
    def ask(client: Any, number: int) -> None:
        jump = np.asarray(0.5 + number / 50, np.float32)
        x = images[number : number + 3]
        for feeds in ({"image": x}, {"image": x, "jump": jump}, {"image": x, "jump": jump.reshape(1)}):
            got = infer(client, "digits", feeds).as_numpy("logits")
            want = local(
                digits, {name: array.reshape(()) if name == "jump" else array for name, array in feeds.items()}
            )
            assert_same_bits(got, want["logits"], str(jump))

    from_many_clients(server.grpc, ask, rounds=2)


def test_only_the_outputs_that_were_asked_for_come_back(server: RunningServer) -> None:
    answer = infer(server.grpc(), "mixed", mixed_feeds(2, 0), ["f32_out", "i8_out"])
    assert [one.name for one in answer.get_response().outputs] == ["f32_out", "i8_out"]


def test_the_metadata_are_the_models(server: RunningServer) -> None:
    metadata = server.grpc().get_model_metadata("digits", as_json=True)
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "FP32", "shape": ["-1", "1", "8", "8"]},
        {"name": "jump", "datatype": "FP32"},
    ]
    assert metadata["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": ["-1", "10"]}]
    with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/v2/models/digits") as response:
        jump = json.load(response)["inputs"][1]
    assert jump["parameters"]["optional"] is True
    assert jump["parameters"]["default"] == "0.5"


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("wrong", BAD_REQUESTS)
def test_a_bad_request_gets_one_clear_line_and_the_next_one_is_served(
    wrong: str, protocol: str, server: RunningServer, digits: Path, images: Any
) -> None:
    client = server.grpc() if protocol == "grpc" else server.http()
    feeds, outputs, reason = BAD_REQUESTS[wrong]
    with pytest.raises(InferenceServerException) as refusal:
        infer(client, "digits", feeds, outputs)
    assert refusal.value.status() == ("StatusCode.INVALID_ARGUMENT" if protocol == "grpc" else "400")
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)
    good = {"image": images[:2]}
    assert_same_bits(infer(client, "digits", good).as_numpy("logits"), local(digits, good)["logits"], wrong)


@pytest.mark.parametrize(
    ("code", "tensor", "reason"),
    [
        (400, {"datatype": "FP32", "shape": [1, 1, 8, 8], "data": [0.5]}, "is not FP32 of shape [1, 1, 8, 8]"),
        (400, {"datatype": "FP32", "shape": [1, 1, -8, 8], "data": [0.5] * 64}, "sizes are 0 or more"),
        (400, {"datatype": "FP32", "shape": [1, 1, 8, 8], "data": ["x"] * 64}, "holds what is not FP32"),
        (400, {"datatype": "INT8", "shape": [1, 1, 8, 8], "data": [300] * 64}, "holds what is not INT8"),
        (400, {"datatype": "INT8", "shape": [1, 1, 8, 8], "data": [0.5] * 64}, "holds what is not INT8"),
        (400, {"datatype": "FP32", "shape": [1, 1, 8, 8], "data": [[1], [2, 3]]}, "input 'image'"),
        (422, {"datatype": "FP99", "shape": [1, 1, 8, 8], "data": [0.5] * 64}, "FP64"),
        (422, {"datatype": "FP32", "shape": [1, 1, 8, 8]}, "data"),
        (400, {"datatype": "FP32", "shape": [1, 1, 8, 8], "data": [0.5] * 63 + [True]}, "holds what is not FP32"),
    ],
)
def test_json_that_makes_no_tensor_is_refused_as_the_clients_fault(
    code: int, tensor: Any, reason: str, server: RunningServer
) -> None:
    body = json.dumps({"inputs": [{"name": "image", **tensor}]}).encode()
    url = f"http://127.0.0.1:{server.http_port}/v2/models/digits/infer"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request)
    assert refusal.value.code == code
    assert reason in refusal.value.read().decode()


def test_two_tensors_of_one_name_are_refused(server: RunningServer, images: Any) -> None:
    tensor = tritonclient.grpc.InferInput("image", [1, 1, 8, 8], "FP32")
    tensor.set_data_from_numpy(images[:1])
    with pytest.raises(InferenceServerException, match="input 'image' is there twice") as refusal:
        server.grpc().infer("digits", [tensor, tensor])
    assert refusal.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_a_message_with_too_few_bytes_is_refused_and_the_next_one_is_served(
    server: RunningServer, digits: Path, images: Any
) -> None:
    client, feeds = server.grpc(), {"image": images[:2]}
    tensor = tritonclient.grpc.InferInput("image", [2, 1, 8, 8], "FP32")
    tensor.set_data_from_numpy(images[:2])
    tensor._raw_content = tensor._raw_content[:-1]
    with pytest.raises(InferenceServerException, match=r"buffer|size"):
        client.infer("digits", [tensor])
    assert_same_bits(infer(client, "digits", feeds).as_numpy("logits"), local(digits, feeds)["logits"], "")


# --- loading ----------------------------------------------------------------------------------------------------------


def test_a_model_that_is_loaded_again_under_load_loses_no_request(programs: Path, tmp_path: Path) -> None:
    jumps = (0.5, 0.8)
    folder = tmp_path / "models"
    onnx.save(row_model(jumps[0]), tmp_path / "rows.onnx")
    jr_onnx.deploy(tmp_path / "rows.onnx", "mlserver", folder)
    answers = {jump_relu(ROWS, np.float32(jump)).tobytes(): jump for jump in jumps}
    seen: list[float] = []
    done = threading.Event()

    def reload(server: RunningServer) -> None:
        client = server.grpc()
        try:
            for turn in range(10):
                onnx.save(row_model(jumps[(turn + 1) % 2]), tmp_path / "next.onnx")
                (tmp_path / "next.onnx").replace(folder / "rows" / "model.onnx")
                client.load_model("rows")
                got = infer(client, "rows", {"x": ROWS}).as_numpy("y")
                assert answers[got.tobytes()] == jumps[(turn + 1) % 2]
        finally:
            done.set()

    def ask(client: Any, _: int) -> None:
        while not done.is_set():
            seen.append(answers[infer(client, "rows", {"x": ROWS}).as_numpy("y").tobytes()])

    with running(tmp_path / "log.txt") as server:
        start(server, programs, folder)
        server.wait_until_ready("rows")
        with ThreadPoolExecutor(1) as pool:
            reloading = pool.submit(reload, server)
            from_many_clients(server.grpc, ask, rounds=1)
            reloading.result()
        assert set(seen) == set(jumps)

        (folder / "rows" / "model.onnx").write_bytes(b"broken")
        with pytest.raises(InferenceServerException, match="export or copy the model again"):
            server.grpc().load_model("rows")
        assert infer(server.grpc(), "rows", {"x": ROWS}).as_numpy("y").tobytes() in answers
        assert server.process is not None
        assert server.process.poll() is None


def test_data_that_a_model_calls_settings_or_python_files_are_neither_read_nor_run(
    programs: Path, tmp_path: Path
) -> None:
    model, feeds = model_with_code_as_data(tmp_path / "evil"), {"x": np.ones((2, 1), np.float32)}
    jr_onnx.deploy(model, "mlserver", tmp_path / "models")
    with running(tmp_path / "log.txt") as server:
        start(server, programs, tmp_path / "models")
        server.wait_until_ready("net")
        assert_same_bits(infer(server.grpc(), "net", feeds).as_numpy("y"), local(model, feeds)["y"], "")
        assert [one.name for one in server.grpc().get_model_repository_index().models] == ["net"]


@pytest.mark.parametrize("fault", ["model", "library", "damaged library"])
def test_a_model_that_cannot_be_loaded_makes_the_start_fail_loudly(fault: str, programs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    onnx.save(row_model(0.5), tmp_path / "rows.onnx")
    jr_onnx.deploy(tmp_path / "rows.onnx", "mlserver", folder)
    if fault == "library":
        (folder / "rows" / "jr_onnx_ops.so").unlink()
    else:
        (folder / "rows" / ("model.onnx" if fault == "model" else "jr_onnx_ops.so")).write_bytes(b"broken")
    with running(tmp_path / "log.txt") as server:
        start(server, programs, folder)
        assert server.exit_code() == 1
    assert "model 'rows' cannot be loaded: " in server.log.read_text()
