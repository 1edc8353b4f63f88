"""`jr-onnx deploy` loads the model that it packages, by its function and by the kernels, and runs both."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from outcome import Outcome
from support import FLOAT, hardened, make_model, node, value

from jr_onnx import ModelError, RuntimeMissingError, deploy
from jr_onnx.runtime import agreement, execution
from jr_onnx.serving.deploy import SERVERS

EACH_SERVER = pytest.mark.parametrize("server", SERVERS)


@pytest.fixture
def kernels(library: Path) -> None:
    """The real library, and no stand-in."""
    if library.read_bytes() == b"kernels":
        pytest.skip("the kernel library was not built: there is no C++ compiler")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """What jr-onnx takes and onnxruntime does not load: no runtime has the operator behind the Relu."""
    nodes = [node("Relu", "x", "h"), node("Unknown", "h", "y", domain="of.the.server")]
    model = make_model(nodes, [value("x", FLOAT, [3])], [value("y", FLOAT, [3])], domains=["of.the.server"])
    onnx.save(hardened(model), tmp_path / "broken.onnx")
    return tmp_path / "broken.onnx"


class Wrong(agreement.Session):
    """The kernels give other values than the function."""

    def __init__(self, path: Path, way: Any) -> None:
        super().__init__(path, way)
        self._kernels = way.library

    def run(self, feeds: Any) -> dict[str, Any]:
        outputs = super().run(feeds)
        return {name: array + 1 if self._kernels else array for name, array in outputs.items()}


@pytest.mark.usefixtures("kernels")
def test_a_sound_model_is_served_by_the_kernels_and_nothing_is_said(model: Path, tmp_path: Path) -> None:
    report = deploy(model, "mlserver", tmp_path / "out")
    assert (report.library, report.warnings) == (True, ())


@EACH_SERVER
@pytest.mark.usefixtures("kernels")
def test_kernels_that_give_other_values_are_left_out(
    server: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "Session", Wrong)
    report = deploy(model, server, tmp_path / "out")
    assert not report.library
    (warning,) = report.warnings
    assert warning.startswith("the kernels are left out")
    assert "output 'y' of the model with the kernels differs by" in warning
    assert warning in (report.output / "README.md").read_text()
    texts = [file for file in report.output.rglob("*") if file.suffix in {".pbtxt", ".json"}]
    assert not any("jr_onnx_ops" in file.read_text() for file in texts)
    assert "jr_onnx_ops" not in report.start
    assert not list(report.output.rglob("*.so"))


@pytest.mark.usefixtures("kernels")
def test_kernels_that_do_not_load_are_left_out_and_the_command_says_so(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("libcudart.so.13: no such file")

    monkeypatch.setattr(execution, "register", fails)
    outcome = Outcome(tmp_path, ("deploy", model, "--server", "kserve", "-o", tmp_path / "out"))
    assert outcome.code == 0
    (warning,) = (line for line in outcome.out.splitlines() if line.startswith("warning: the kernels are left out"))
    assert "onnxruntime does not load the model with the kernels: libcudart" in warning
    assert "runs without kernels: it fails with them on this machine (the warning says how)" in outcome.out
    assert "jr_onnx_ops.so" not in outcome.new


@EACH_SERVER
@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("more", [(), ("--no-library",)])
def test_a_model_that_onnxruntime_does_not_load_is_refused(
    server: str, more: tuple[str, ...], broken: Path, refused: Callable[..., str]
) -> None:
    said = refused("deploy", broken, "--server", server, "-o", broken.parent / "out", *more)
    assert said.startswith(f"{broken}: onnxruntime does not load it: ")
    assert "of.the.server" in said
    assert "--no-check" in said
    assert ".jr-onnx." not in said, "the folder in which it was tried has no meaning for the user"


@pytest.mark.parametrize("more", [(), ("--no-library",)])
def test_without_a_check_it_is_packaged_and_one_line_says_that(
    more: tuple[str, ...], broken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = Outcome(tmp_path, ("deploy", broken, "--server", "kserve", "-o", out, "--no-check", *more))
    assert outcome.code == 0
    warnings = [line for line in outcome.out.splitlines() if line.startswith("warning")]
    assert warnings == ["warning: it was not loaded here (--no-check): whether it runs shows when the server starts"]
    assert ("jr_onnx_ops.so" in outcome.new) == (not more)


@pytest.mark.usefixtures("kernels")
def test_where_there_is_no_onnxruntime_the_line_names_both_ways_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install onnxruntime.*; or add `check=False`"):
        deploy(model, "triton", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert deploy(model, "triton", tmp_path / "out", check=False).library


@pytest.mark.usefixtures("kernels")
def test_a_model_that_draws_random_numbers_is_loaded_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs(*_: object) -> None:
        raise AssertionError("what it gives cannot be compared")

    monkeypatch.setattr(agreement.Session, "run", runs)
    nodes = [node("Relu", "x", "h"), node("RandomNormalLike", "h", "n", "noise"), node("Add", "h n", "y")]
    onnx.save(hardened(make_model(nodes, [value("x", FLOAT, [3])], [value("y", FLOAT, [3])])), tmp_path / "random.onnx")
    report = deploy(tmp_path / "random.onnx", "kserve", tmp_path / "out")
    assert report.library
    (warning,) = report.warnings
    assert "not compared" in warning
    assert "node 'noise' (RandomNormalLike) draws numbers" in warning


@pytest.mark.usefixtures("kernels")
def test_a_model_without_the_function_is_served_by_the_kernels_alone(model: Path, tmp_path: Path) -> None:
    bare = onnx.load(model)
    del bare.functions[:]
    onnx.save(bare, model)
    report = deploy(model, "kserve", tmp_path / "out")
    assert report.library
    assert "not compared" in report.warnings[0]


@pytest.mark.usefixtures("kernels")
def test_what_neither_loads_is_refused_though_it_needs_the_library(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("not a shared object")

    bare = onnx.load(model)
    del bare.functions[:]
    onnx.save(bare, model)
    monkeypatch.setattr(execution, "register", fails)
    with pytest.raises(ModelError, match="onnxruntime does not load it"):
        deploy(model, "kserve", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("kernels")
def test_the_copy_with_its_data_is_what_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the model that it was made from, whose data have other names."""
    weights = {"w": np.arange(12, dtype=np.float32).reshape(3, 4)}
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "y")]
    made = hardened(
        make_model(nodes, [value("x", FLOAT, ["N", 3])], [value("y", FLOAT, ["N", 4])], initializers=weights)
    )
    path = tmp_path / "big.onnx"
    onnx.save_model(made, path, save_as_external_data=True, location="big.data", size_threshold=0)
    loaded: list[Path] = []

    class Noted(agreement.Session):
        def __init__(self, path: Path, way: Any) -> None:
            loaded.append(path)
            super().__init__(path, way)

    monkeypatch.setattr(agreement, "Session", Noted)
    report = deploy(path, "kserve", tmp_path / "out")
    assert (report.library, report.warnings) == (True, ())
    assert {(one.name, one.parent == tmp_path) for one in loaded} == {("model.onnx", False)}
