"""`jr-onnx deploy`: the folders that it writes, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from outcome import Outcome
from support import FLOAT, FLOAT16, INT64, SHIPPED, hardened, make_model, node, relu_model, run, value

import jr_onnx
from jr_onnx import ModelError, OptionError, deploy
from jr_onnx.files.source import open_proto
from jr_onnx.runtime.execution import has_use_for_kernels
from jr_onnx.serving.deploy import SERVERS
from jr_onnx.serving.layouts import BY_KERNELS, EXECUTION

TEXTS = {".md", ".json", ".pbtxt"}
EACH_SERVER = pytest.mark.parametrize("server", SERVERS)


@pytest.fixture
def model_with_data(tmp_path: Path) -> Path:
    """A hardened model with its weights in external data."""
    weights = {"w": np.arange(12, dtype=np.float32).reshape(3, 4)}
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "y")]
    original = make_model(nodes, [value("x", FLOAT, ["N", 3])], [value("y", FLOAT, ["N", 4])], initializers=weights)
    source = tmp_path / "big.onnx"
    onnx.save_model(original, source, save_as_external_data=True, location="big.data", size_threshold=0)
    jr_onnx.convert(source, jump=0.5)
    return tmp_path / "big.jumprelu.onnx"


def served_model(report: jr_onnx.DeploymentReport) -> Path:
    return report.output / next(name for name in report.files if name.endswith(".onnx"))


@EACH_SERVER
def test_the_folder_holds_the_model_and_the_library_byte_for_byte(
    server: Any, model: Path, library: Path, tmp_path: Path
) -> None:
    report = deploy(model, server, tmp_path / "out")
    assert served_model(report).read_bytes() == model.read_bytes()
    (placed,) = (tmp_path / "out").rglob("jr_onnx_ops.so")
    assert placed.read_bytes() == library.read_bytes()
    assert report.name == "net"


@EACH_SERVER
def test_external_data_come_along_and_the_model_runs_in_the_folder(
    server: Any, model_with_data: Path, tmp_path: Path
) -> None:
    report = deploy(model_with_data, server, tmp_path / "out")
    x = np.array([[1, -1, 0.5]], np.float32)
    there = onnxruntime.InferenceSession(served_model(report)).run(None, {"x": x})[0]
    here = onnxruntime.InferenceSession(model_with_data).run(None, {"x": x})[0]
    assert there.tobytes() == here.tobytes()


@EACH_SERVER
def test_the_sums_verify_with_sha256sum_and_catch_a_changed_byte(server: Any, model: Path, tmp_path: Path) -> None:
    report = deploy(model, server, tmp_path / "out")
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(command, cwd=report.output, capture_output=True).returncode == 0
    listed = {line.split("  ")[1] for line in (report.output / "SHA256SUMS").read_text().splitlines()}
    files = {file.relative_to(report.output).as_posix() for file in report.output.rglob("*") if file.is_file()}
    assert listed == files - {"SHA256SUMS"} == set(report.files)
    path = served_model(report)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert subprocess.run(command, cwd=report.output, capture_output=True).returncode == 1


@EACH_SERVER
def test_the_readme_has_five_lines_with_the_start_command_and_the_originals_digest(
    server: Any, model: Path, tmp_path: Path
) -> None:
    report = deploy(model, server, tmp_path / "out")
    lines = (report.output / "README.md").read_text().splitlines()
    assert len(lines) == 5
    assert report.start.partition(": ")[2] in lines[1]
    assert open_proto(relu_model(shape=["N", 3])).digest in lines[4]


@EACH_SERVER
@pytest.mark.parametrize("options", [{"inline": True}, {"target": "subgraph"}, {"target": "standard"}])
def test_a_model_without_the_operator_gets_no_library(server: Any, options: Any, tmp_path: Path) -> None:
    onnx.save(hardened(relu_model(), **options), tmp_path / "m.onnx")
    report = deploy(tmp_path / "m.onnx", server, tmp_path / "out")
    assert not report.library
    assert not list(report.output.rglob("*.so"))
    text = "".join(file.read_text() for file in report.output.rglob("*") if file.suffix in {".pbtxt", ".json"})
    assert "jr_onnx_ops" not in text + report.start


@EACH_SERVER
def test_without_the_library_the_function_in_the_model_serves(server: Any, model: Path, tmp_path: Path) -> None:
    report = deploy(model, server, tmp_path / "out", library=False)
    assert not list(report.output.rglob("*.so"))
    assert "jr_onnx_ops" not in report.start
    x = np.array([[0.25, 0.5, np.nan]], np.float32)
    got = onnxruntime.InferenceSession(served_model(report)).run(None, {"x": x})[0]
    assert got.tobytes() == run(onnx.load(model), {"x": x})[0].tobytes()


#: What each server's settings call a provider.
SETTING = {"mlserver": '"provider": "{}"', "kserve": " --provider={} "}


def settings_of(report: jr_onnx.DeploymentReport) -> str:
    return "".join(file.read_text() for file in report.output.rglob("*.*") if file.suffix in TEXTS)


@EACH_SERVER
@pytest.mark.parametrize(
    ("provider", "package"), [("cpu", None), ("cuda", "onnxruntime-gpu"), ("openvino", "onnxruntime-openvino")]
)
def test_the_settings_name_the_provider_and_the_readme_the_onnxruntime_that_has_it(
    provider: Any, package: str | None, server: Any, model: Path, tmp_path: Path
) -> None:
    said = settings_of(deploy(model, server, tmp_path / "out", provider=provider, library=False))
    if server != "triton":  # whose settings are in test_triton_config.py
        assert SETTING[server].format(provider) in said
    packages = {name for name in ("onnxruntime-gpu", "onnxruntime-openvino") if name in said}
    assert packages == ({package} if package and server != "triton" else set())


@EACH_SERVER
@pytest.mark.parametrize("provider", ["cuda-nhwc", "tensorrt", "openvino"])
def test_with_a_provider_that_the_kernels_are_in_the_way_of_the_function_serves(
    provider: Any, server: Any, model: Path, tmp_path: Path
) -> None:
    report = deploy(model, server, tmp_path / "out", provider=provider)
    assert (report.library, report.without) == (False, f"its function is faster with {provider}")
    assert not list(report.output.rglob("*.so"))


def test_a_provider_that_needs_the_function_is_refused_a_model_without_it(model: Path, tmp_path: Path) -> None:
    bare = onnx.load(model)
    del bare.functions[:]
    onnx.save(bare, model)
    with pytest.raises(ModelError, match="it needs the library; choose another `provider`"):
        deploy(model, "triton", tmp_path / "out", provider="cuda-nhwc")


def test_an_unknown_provider_is_refused_with_those_there_are(model: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="unknown provider 'gpu'; it is one of cpu, cuda, cuda-nhwc, tensorrt, openv"):
        deploy(model, "triton", tmp_path / "out", provider="gpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("provider", EXECUTION)
def test_the_kernels_are_for_the_providers_that_a_session_uses_them_with(provider: Any) -> None:
    first = EXECUTION[provider][0]
    name, options = first if isinstance(first, tuple) else (first, {})
    assert has_use_for_kernels(name, options) == (provider in BY_KERNELS)


@pytest.mark.parametrize(
    ("options", "more", "why"),
    [
        ({"target": "subgraph"}, (), "it has no node jr_onnx::JumpReLU"),
        ({"target": "subgraph"}, ("--no-library",), "it has no node jr_onnx::JumpReLU"),
        ({}, ("--no-library",), "none was asked for"),
        ({}, ("--provider", "cuda-nhwc"), "its function is faster with cuda-nhwc"),
    ],
)
def test_the_one_reason_for_no_kernels_is_said(
    options: dict[str, Any], more: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    onnx.save(hardened(relu_model(), **options), tmp_path / "m.onnx")
    command = ("deploy", tmp_path / "m.onnx", "--server", "kserve", "-o", tmp_path / "out")
    outcome = Outcome(tmp_path, (*command, *more))
    assert f"'m' runs without kernels: {why}" in outcome.out.splitlines()
    assert f"There is no kernel library, because {why}" in (tmp_path / "out" / "README.md").read_text()
    assert json.loads(Outcome(tmp_path, (*command, *more, "--force", "--json")).out)["without"] == why


def test_triton_is_told_that_any_client_can_lower_the_jump(tmp_path: Path) -> None:
    onnx.save(hardened(relu_model(), jump_input="jump"), tmp_path / "m.onnx")
    outcome = Outcome(tmp_path, ("deploy", tmp_path / "m.onnx", "--server", "triton", "-o", tmp_path / "out"))
    assert "warning: any client can set 'jump'" in outcome.out
    assert "any client can set 'jump'" in (tmp_path / "out" / "README.md").read_text()
    assert not deploy(tmp_path / "m.onnx", "kserve", tmp_path / "other").warnings


def test_a_mount_with_spaces_is_one_word_of_the_start_command(model: Path, tmp_path: Path) -> None:
    start = deploy(model, "triton", tmp_path / "out", mount="/srv/my: $(models)").start
    assert shlex.split(start.partition(": ")[2]) == ["tritonserver", "--model-repository=/srv/my: $(models)"]


@pytest.mark.parametrize(("options", "why"), [((), "triton can load them"), (("--no-library",), "none was")])
def test_what_runs_the_model_is_said_and_why(options: tuple[str, ...], why: str, model: Path, tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, ("deploy", model, "--server", "triton", "-o", tmp_path / "out", *options))
    assert why in outcome.out


def test_progress_counts_the_model_its_data_and_the_library(
    model_with_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    report = deploy(model_with_data, "kserve", tmp_path / "out", progress=told.append)
    copied = sum((report.output / name).stat().st_size for name in ("model.onnx", "model.data", "jr_onnx_ops.so"))
    assert sum(told) == copied

    totals: list[int] = []

    @contextlib.contextmanager
    def bar(path: Path, beside: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
        assert not quiet
        totals.append(path.stat().st_size + beside)
        yield told.append

    monkeypatch.setattr("jr_onnx.cli.deploy.progress_bar", bar)
    Outcome(tmp_path, ("deploy", model_with_data, "--server", "kserve", "-o", tmp_path / "more"))
    assert totals == [model_with_data.stat().st_size + (tmp_path / "big.data").stat().st_size]


def test_the_report_is_printed_as_json(model: Path, tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, ("deploy", model, "--server", "mlserver", "-o", tmp_path / "out", "--json"))
    printed = json.loads(outcome.out)
    assert printed["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3], "default": None}]
    assert set(printed["files"]) | {"SHA256SUMS"} == {
        file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*") if file.is_file()
    }


def test_every_file_that_is_written_is_named(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = Outcome(tmp_path, ("deploy", model, "--server", "mlserver", "-o", out))
    named = {line.removeprefix("wrote ") for line in outcome.out.splitlines() if line.startswith("wrote ")}
    assert named == {str(file) for file in out.rglob("*") if file.is_file()}


def test_the_jump_input_is_listed_with_its_default(tmp_path: Path) -> None:
    onnx.save(hardened(relu_model(FLOAT16), 0.3, jump_input="k"), tmp_path / "m.onnx")
    signature = deploy(tmp_path / "m.onnx", "kserve", tmp_path / "out").signature
    assert [(one.name, one.datatype, one.shape) for one in signature.inputs] == [
        ("x", "FP16", (10,)),
        ("k", "FP16", ()),
    ]
    assert signature.inputs[1].default == float(np.float16(0.3))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_signature_is_what_onnxruntime_reports(path: Path, tmp_path: Path) -> None:
    report = jr_onnx.convert(path, jump=0.5, output=tmp_path / "m.onnx")
    assert report.output is not None
    signature = deploy(report.output, "kserve", tmp_path / "out").signature
    session = onnxruntime.InferenceSession(report.output)
    for ours, theirs in ((signature.inputs, session.get_inputs()), (signature.outputs, session.get_outputs())):
        shapes = [tuple(size if isinstance(size, int) else -1 for size in one.shape) for one in theirs]
        assert [(one.name, one.shape) for one in ours] == list(zip([one.name for one in theirs], shapes, strict=True))


def test_an_undeclared_output_shape_is_inferred_as_onnxruntime_does(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "h"), node("MatMul", "h w", "y"), node("Shape", "x", "s")]
    outputs = [value("y", FLOAT, ["N", None]), value("s", INT64)]
    weights = {"w": np.ones((3, 4), np.float32)}
    onnx.save(
        hardened(make_model(nodes, [value("x", FLOAT, ["N", 3])], outputs, initializers=weights)), tmp_path / "m.onnx"
    )
    signature = deploy(tmp_path / "m.onnx", "triton", tmp_path / "out").signature
    assert [one.shape for one in signature.outputs] == [(-1, 4), (2,)]
