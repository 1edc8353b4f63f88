"""KServe's model server, installed and started: what was deployed serves the bits of a local session."""

from __future__ import annotations

import json
import shlex
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from running import RunningServer, assert_same_bits, from_many_clients, infer, running
from server_models import BAD_REQUESTS, local, mixed_feeds, model_with_code_as_data
from tritonclient.utils import InferenceServerException

import jr_onnx

pytestmark = pytest.mark.servers


@pytest.fixture(scope="session")
def programs(installed: Callable[[str], Path]) -> Path:
    return installed("kserve")


def start(server: RunningServer, programs: Path, report: jr_onnx.DeploymentReport) -> None:
    """The start command of the folder's README, with ports of our own."""
    python, *arguments = shlex.split(report.start.partition(": ")[2])
    ports = [f"--http_port={server.http_port}", f"--grpc_port={server.grpc_port}"]
    server.start([programs / python, *arguments, *ports], report.output)


@pytest.fixture(scope="module", params=["digits", "mixed"])
def served(
    request: pytest.FixtureRequest, programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningServer, Path]]:
    """A server with one of the models."""
    model: Path = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp("kserve")
    report = jr_onnx.deploy(model, "kserve", folder / "model")
    with running(folder / "log.txt") as server:
        start(server, programs, report)
        server.wait_until_ready(request.param)
        yield server, model


@pytest.mark.parametrize("served", ["mixed"], indirect=True)
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_every_datatype_has_the_bits_of_a_local_session(protocol: str, served: tuple[RunningServer, Path]) -> None:
    server, model = served

    def ask(client: Any, number: int) -> None:
        feeds = mixed_feeds(1 + number % 5, number)
        answer = infer(client, "mixed", feeds, binary=True)
        for name, want in local(model, feeds).items():
            assert_same_bits(answer.as_numpy(name), want, name)

    from_many_clients(server.grpc if protocol == "grpc" else server.http, ask)


@pytest.mark.parametrize("served", ["digits"], indirect=True)
def test_the_jump_can_be_raised_for_each_request(served: tuple[RunningServer, Path], images: Any) -> None:
    server, model = served

    def ask(client: Any, number: int) -> None:
        jump = np.asarray(0.5 + number / 50, np.float32)
        for feeds in ({"image": images[:3]}, {"image": images[:3], "jump": jump}):
            got = infer(client, "digits", feeds, binary=True).as_numpy("logits")
            assert_same_bits(got, local(model, feeds)["logits"], str(jump))

    from_many_clients(server.grpc, ask, rounds=2)
    ask(server.http(), 40)


@pytest.mark.parametrize("served", ["digits"], indirect=True)
def test_the_metadata_are_the_models(served: tuple[RunningServer, Path]) -> None:
    metadata = served[0].grpc().get_model_metadata("digits", as_json=True)
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "FP32", "shape": ["-1", "1", "8", "8"]},
        {"name": "jump", "datatype": "FP32"},
    ]
    assert metadata["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": ["-1", "10"]}]


@pytest.mark.parametrize("served", ["digits"], indirect=True)
@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("wrong", BAD_REQUESTS)
def test_a_bad_request_gets_one_clear_line_and_the_next_one_is_served(
    wrong: str, protocol: str, served: tuple[RunningServer, Path], images: Any
) -> None:
    server, model = served
    client = server.grpc() if protocol == "grpc" else server.http()
    feeds, outputs, reason = BAD_REQUESTS[wrong]
    with pytest.raises(InferenceServerException) as refusal:
        infer(client, "digits", feeds, outputs, binary=True)
    assert refusal.value.status() == ("StatusCode.INVALID_ARGUMENT" if protocol == "grpc" else "400")
    assert reason in str(refusal.value)
    good = {"image": images[:2]}
    got = infer(client, "digits", good, binary=True).as_numpy("logits")
    assert_same_bits(got, local(model, good)["logits"], wrong)


@pytest.mark.parametrize("served", ["digits"], indirect=True)
@pytest.mark.parametrize("number", [{}, {"id": "seventeen"}, {"id": ""}])
def test_a_plain_json_request_is_answered_with_and_without_an_id(
    number: dict[str, str], served: tuple[RunningServer, Path], images: Any
) -> None:
    server, model = served
    tensor = {"name": "image", "datatype": "FP32", "shape": [2, 1, 8, 8], "data": images[:2].reshape(-1).tolist()}
    url = f"http://127.0.0.1:{server.http_port}/v2/models/digits/infer"
    body = json.dumps({**number, "inputs": [tensor]}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as response:
        answer = json.load(response)
    assert answer["id"] == number["id"] if number.get("id") else answer["id"]
    got = np.array(answer["outputs"][0]["data"], np.float32).reshape(2, 10)
    assert_same_bits(got, local(model, {"image": images[:2]})["logits"], "json")


@pytest.mark.parametrize("served", ["digits"], indirect=True)
def test_a_message_with_too_few_bytes_is_refused_and_the_next_one_is_served(
    served: tuple[RunningServer, Path], images: Any
) -> None:
    server, model = served
    client, feeds = server.grpc(), {"image": images[:2]}
    tensor = tritonclient.grpc.InferInput("image", [2, 1, 8, 8], "FP32")
    tensor.set_data_from_numpy(images[:2])
    tensor._raw_content = tensor._raw_content[:-1]
    with pytest.raises(InferenceServerException, match=r"buffer|size"):
        client.infer("digits", [tensor])
    assert_same_bits(infer(client, "digits", feeds).as_numpy("logits"), local(model, feeds)["logits"], "")


def test_data_that_a_model_calls_python_files_are_not_run(programs: Path, tmp_path: Path) -> None:
    model, feeds = model_with_code_as_data(tmp_path / "evil"), {"x": np.ones((2, 1), np.float32)}
    report = jr_onnx.deploy(model, "kserve", tmp_path / "model")
    with running(tmp_path / "log.txt") as server:
        start(server, programs, report)
        server.wait_until_ready("net")
        assert_same_bits(infer(server.grpc(), "net", feeds).as_numpy("y"), local(model, feeds)["y"], "")


@pytest.mark.parametrize("fault", ["model.onnx", "jr_onnx_ops.so"])
def test_a_model_that_cannot_be_loaded_makes_the_start_fail_loudly(
    fault: str, programs: Path, digits: Path, tmp_path: Path
) -> None:
    report = jr_onnx.deploy(digits, "kserve", tmp_path / "model")
    (report.output / fault).write_bytes(b"broken")
    with running(tmp_path / "log.txt") as server:
        start(server, programs, report)
        assert server.exit_code() == 1
    assert fault in server.log.read_text()
