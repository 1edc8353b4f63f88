"""jr_onnx.runtime: sessions that run where they were told to, or say why they cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from native_models import CPU, assert_same_bits, jump_model, random_values
from onnx import helper

import jr_onnx
from jr_onnx import runtime
from jr_onnx.conversion.element_types import FLOAT
from jr_onnx.errors import JrOnnxError, ModelError, RuntimeMissingError
from jr_onnx.reference import jump_relu
from jr_onnx.runtime import library as library_module
from jr_onnx.runtime import sessions
from jr_onnx.runtime.placements import placements

CUDA = "CUDAExecutionProvider"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(jump_model(FLOAT, np.asarray(0.5, np.float32), ["n"], depth=2, body=True), path)
    return path


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "LIBRARY", "not_there.so")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("providers", [None, CPU, [("CPUExecutionProvider", {})]], ids=str)
def test_a_session_runs_by_kernel_and_placement_tells_where(model: Path, providers: Any) -> None:
    session = runtime.session(model, providers=providers, profile=True)
    x = random_values(FLOAT, (1000,))
    assert_same_bits(session.run(None, {"x": x})[0], jump_relu(x, np.float32(0.5)))
    placed = runtime.placement(session)
    assert [(place.node, place.provider, place.copies) for place in placed] == [
        ("jump0", "CPUExecutionProvider", ()),
        ("jump1", "CPUExecutionProvider", ()),
    ]


def test_without_kernels_the_function_body_runs_and_placement_lists_no_node(model: Path) -> None:
    session = runtime.session(model, kernels=False, profile=True)
    x = random_values(FLOAT, (1000,))
    assert_same_bits(session.run(None, {"x": x})[0], jump_relu(x, np.float32(0.5)))
    assert runtime.placement(session) == ()


@pytest.mark.usefixtures("library")
def test_a_session_takes_options_of_the_users_own_more_than_once(model: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    for _ in range(2):
        session = runtime.session(model, session_options=options)
        assert session.get_session_options().intra_op_num_threads == 2


@pytest.mark.usefixtures("library")
def test_placement_asks_for_a_profile_where_there_is_none(model: Path) -> None:
    with pytest.raises(RuntimeMissingError, match=r"session\(\.\.\., profile=True\)"):
        runtime.placement(runtime.session(model))
    session = runtime.session(model, profile=True)
    runtime.placement(session)
    with pytest.raises(RuntimeMissingError, match="no profile"):
        runtime.placement(session)


def test_placement_names_the_copies_around_each_node() -> None:
    def node(op: str, inputs: list[str], outputs: list[str], name: str) -> onnx.NodeProto:
        return helper.make_node(op, inputs, outputs, name=name)

    graph = helper.make_graph(
        [
            node("Relu", ["x"], ["a"], "relu"),
            node("MemcpyToHost", ["a"], ["b"], "copy_1"),
            node("JumpReLU", ["b", "jump"], ["c"], "on_cpu"),
            node("MemcpyFromHost", ["c"], ["d"], "copy_2"),
            node("JumpReLU", ["d2", "jump"], ["e"], "on_cuda"),
            node("MemcpyToHost", ["far"], ["away"], "copy_3"),
        ],
        "graph",
        [],
        [],
    )

    def event(name: str, op: str, provider: str) -> dict[str, Any]:
        return {"cat": "Node", "name": f"{name}_kernel_time", "args": {"op_name": op, "provider": provider}}

    session_event = {"cat": "Session", "name": "model_run", "args": {}}
    relu = event("relu", "Relu", CUDA)
    events = [session_event, relu, event("on_cpu", "JumpReLU", CPU[0]), event("on_cuda", "JumpReLU", CUDA)]
    model = onnx.helper.make_model(graph)
    assert [(place.node, place.provider, place.copies) for place in placements(events * 2, model)] == [
        ("on_cpu", CPU[0], ("copy_1", "copy_2")),
        ("on_cuda", CUDA, ()),
    ]


@pytest.mark.usefixtures("library")
def test_a_provider_that_onnxruntime_lacks_is_an_error_that_says_what_it_has(model: Path) -> None:
    with pytest.raises(RuntimeMissingError, match=r"has no NoSuchProvider: it has .*CPUExecutionProvider"):
        runtime.session(model, providers=["NoSuchProvider"])


@pytest.mark.usefixtures("library")
def test_a_file_that_is_missing_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: no such file$"):
        jr_onnx.session(tmp_path / "none.onnx")


def test_cuda_without_onnxruntime_gpu_is_an_error_that_names_the_package(model: Path) -> None:
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this is onnxruntime-gpu")
    with pytest.raises(RuntimeMissingError, match="onnxruntime-gpu in place of onnxruntime"):
        runtime.session(model, providers=[CUDA, *CPU])


@pytest.mark.usefixtures("library")
def test_cuda_with_kernels_for_the_cpu_alone_is_an_error_that_says_how_to_build_them(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, *CPU])
    built = runtime.BuildInfo("GNU 12", "x86_64", ("baseline",), "", ())
    monkeypatch.setattr(sessions, "build_info", lambda: built)
    with pytest.raises(RuntimeMissingError, match="JR_CUDA=ON"):
        runtime.session(model, providers=[CUDA])
    assert runtime.session(model).get_providers() == CPU


@pytest.mark.usefixtures("library")
def test_a_provider_that_does_not_start_is_an_error_and_no_silent_fallback(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime-gpu on a machine without a GPU: it lists CUDA, warns, and runs on the CPU."""
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, *CPU])
    monkeypatch.setattr(sessions, "build_info", lambda: runtime.BuildInfo("", "", (), "13.0", ("90",)))
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda path, options, **_: real(path, options, providers=CPU))
    with pytest.raises(RuntimeMissingError, match=f"could not start {CUDA}"):
        runtime.session(model, providers=[CUDA, *CPU])
    with pytest.warns(UserWarning, match=f"could not start {CUDA}; this session runs on the CPU"):
        runtime.session(model)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("providers", "by_kernel"),
    [
        (CPU, True),
        (["AzureExecutionProvider", *CPU], True),  # what onnxruntime lists in its builds for CPUs
        (["OpenVINOExecutionProvider", *CPU], False),
        ([("TensorrtExecutionProvider", {}), *CPU], False),
        (["CoreMLExecutionProvider"], False),
        ([(CUDA, {"prefer_nhwc": "1"}), *CPU], False),
        ([("AzureExecutionProvider", {"prefer_nhwc": "0"}), *CPU], True),
    ],
    ids=str,
)
@pytest.mark.parametrize("more", [{}, {"kernels": False}], ids=str)
def test_the_kernels_are_for_providers_that_run_node_by_node(
    model: Path, providers: Any, by_kernel: bool, more: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others would compile a subgraph up to each JumpReLU; of these only the names are needed here."""
    names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
    real, seen = onnxruntime.InferenceSession, []

    def on_the_cpu(path: str, options: Any, providers: Any) -> Any:
        seen.extend(providers)
        session = real(path, options, providers=CPU)
        monkeypatch.setattr(session, "get_providers", lambda: names)
        return session

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_the_cpu)
    session = runtime.session(model, providers=providers, profile=True, **more)
    x = random_values(FLOAT, (1000,))
    assert_same_bits(session.run(None, {"x": x})[0], jump_relu(x, np.float32(0.5)))
    assert len(runtime.placement(session)) == (2 if by_kernel and not more else 0)
    assert seen == providers


def test_a_missing_onnxruntime_is_an_error_that_says_how_to_install_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install onnxruntime, or onnxruntime-gpu"):
        runtime.session(model)


@pytest.mark.usefixtures("no_library")
def test_missing_kernels_are_an_error_that_names_both_ways_out(model: Path) -> None:
    for ask in (runtime.library_path, lambda: runtime.session(model, providers=CPU)):
        with pytest.raises(JrOnnxError, match=r"compiler.*kernels=False"):
            ask()
    assert runtime.session(model, providers=CPU, kernels=False)


@pytest.mark.usefixtures("library")
def test_a_source_tree_uses_the_library_of_the_same_version_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "jr_onnx" / library_module.LIBRARY
    installed.parent.mkdir()
    installed.write_bytes(runtime.library_path().read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(jr_onnx, "__path__", [str(tmp_path / "source")])
    record = tmp_path / "jr_onnx-0.dist-info" / "METADATA"
    record.parent.mkdir()
    for version, found in (("0.0.1", False), (jr_onnx.__version__, True)):
        record.write_text(f"Metadata-Version: 2.1\nName: jr-onnx\nVersion: {version}\n")
        if found:
            assert runtime.library_path() == installed
        else:
            with pytest.raises(RuntimeMissingError, match="a source tree that is not installed"):
                runtime.library_path()


def test_importing_the_package_imports_neither_onnxruntime_nor_torch(tmp_path: Path) -> None:
    code = "import sys, jr_onnx.runtime; print({'onnxruntime', 'torch'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
