"""What `jr-onnx deploy` refuses, and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import FLOAT, MODELS, hardened, make_model, node, relu_model, value

import jr_onnx
from jr_onnx import ModelError, OptionError, deploy, runtime
from jr_onnx.serving.deploy import SERVERS

# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_a_model_that_is_not_hardened_is_refused(server: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    onnx.save(relu_model(), tmp_path / "plain.onnx")
    said = refused("deploy", tmp_path / "plain.onnx", "--server", server, "-o", tmp_path / "out")
    assert "plain.onnx: is not hardened; run jr-onnx convert first" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"\xff" * 40, "damaged"), (None, "no such file")],
    ids=["empty", "damaged", "missing"],
)
def test_an_unreadable_model_is_refused(
    content: bytes | None, reason: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    assert reason in refused("deploy", path, "--server", "triton", "-o", tmp_path / "out")


@pytest.mark.parametrize("name", ["", "a/b", "../up", "..", ".hidden", "a b", "a\nb", "-x", "café"])
def test_a_name_that_is_no_plain_folder_name_is_refused(name: str, model: Path, refused: Callable[..., str]) -> None:
    said = refused("deploy", model, "--server", "triton", "-o", model.parent / "out", f"--name={name}")
    assert said.startswith("--name") or "--name" in said


@pytest.mark.parametrize("mount", ["models", "./models", "", "/models/../etc", "/a\nb"])
def test_a_mount_that_is_no_absolute_path_is_refused(mount: str, model: Path, refused: Callable[..., str]) -> None:
    assert "--mount" in refused("deploy", model, "--server", "triton", "-o", model.parent / "out", f"--mount={mount}")


@pytest.mark.parametrize("server", ["mlserver", "kserve"])
def test_a_mount_is_for_triton_only(server: str, model: Path, refused: Callable[..., str]) -> None:
    said = refused("deploy", model, "--server", server, "-o", model.parent / "out", "--mount", "/models")
    assert "--mount is for triton" in said


@pytest.mark.parametrize("size", [-1, 2**31])
def test_a_batch_size_out_of_range_is_refused(size: int, model: Path, refused: Callable[..., str]) -> None:
    said = refused("deploy", model, "--server", "triton", "-o", model.parent / "out", f"--max-batch-size={size}")
    assert "--max-batch-size" in said


@pytest.mark.parametrize(("server", "reason"), [("mlserver", "joins requests before"), ("kserve", "batches outside")])
def test_batching_is_for_triton_alone(server: str, reason: str, model: Path, refused: Callable[..., str]) -> None:
    said = refused("deploy", model, "--server", server, "-o", model.parent / "out", "--max-batch-size=4")
    assert said.startswith("--max-batch-size: ")
    assert reason in said


@pytest.mark.parametrize("shape", [[4, 3], []])
def test_batching_needs_a_free_first_dimension(shape: list[Any], tmp_path: Path) -> None:
    onnx.save(hardened(relu_model(shape=shape)), tmp_path / "m.onnx")
    with pytest.raises(OptionError, match="`max_batch_size`"):
        deploy(tmp_path / "m.onnx", "triton", tmp_path / "out", max_batch_size=4)
    assert not (tmp_path / "out").exists()


def test_batching_is_refused_where_requests_may_differ_in_the_jump(tmp_path: Path) -> None:
    onnx.save(hardened(relu_model(shape=["N", 3]), jump_input="jump"), tmp_path / "m.onnx")
    with pytest.raises(OptionError, match="`max_batch_size`"):
        deploy(tmp_path / "m.onnx", "triton", tmp_path / "out", max_batch_size=4)


def test_types_that_no_server_carries_are_refused(tmp_path: Path) -> None:
    onnx.save(hardened(relu_model(onnx.TensorProto.BFLOAT16)), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="input 'x' is bfloat16"):
        deploy(tmp_path / "m.onnx", "triton", tmp_path / "out")


def test_inputs_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    sequence = onnx.helper.make_tensor_sequence_value_info("s", FLOAT, [3])
    nodes = [node("SequenceAt", "s i", "x"), node("Relu", "x", "y")]
    made = make_model(nodes, [sequence], [value("y", FLOAT, [3])], initializers={"i": np.asarray(0, np.int64)})
    onnx.save(hardened(made), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="input 's' is a sequence"):
        deploy(tmp_path / "m.onnx", "kserve", tmp_path / "out")


def test_an_input_of_unknown_rank_is_refused(tmp_path: Path) -> None:
    onnx.save(hardened(make_model([node("Relu", "x", "y")], [value("x")], [value("y")])), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="input 'x' declares no shape"):
        deploy(tmp_path / "m.onnx", "triton", tmp_path / "out")


def test_a_model_without_the_function_cannot_go_without_the_library(tmp_path: Path) -> None:
    made = hardened(relu_model())
    del made.functions[:]
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="leave out `library=False`"):
        deploy(tmp_path / "m.onnx", "triton", tmp_path / "out", library=False)


@pytest.mark.parametrize("jump", [np.zeros(2, np.float32), np.array(["x"], object), "external"])
def test_a_recorded_jump_that_is_no_number_is_refused(jump: Any, tmp_path: Path) -> None:
    made = hardened(relu_model(), jump_input="jump")
    (tensor,) = (one for one in made.graph.initializer if one.name == "jump")
    if isinstance(jump, str):
        (tmp_path / "data").write_bytes(bytes(4))
        onnx.external_data_helper.set_external_data(tensor, "data", 0, 4)
        tensor.ClearField("raw_data")
    else:
        tensor.CopyFrom(onnx.numpy_helper.from_array(jump, "jump"))
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="its default is not a number"):
        deploy(tmp_path / "m.onnx", "triton", tmp_path / "out")


@pytest.mark.parametrize("library", [True, False])
def test_a_function_that_is_not_jump_relu_is_refused(library: bool, tmp_path: Path) -> None:
    made = hardened(relu_model())
    made.functions[0].node[0].op_type = "Less"
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="not the one that jr-onnx ships"):
        deploy(tmp_path / "m.onnx", "triton", tmp_path / "out", library=library)


def test_a_gpu_needs_a_library_with_cuda(model: Path, tmp_path: Path) -> None:
    if runtime.build_info().cuda:
        pytest.skip("this library was built with CUDA")
    with pytest.raises(OptionError, match="JR_CUDA=ON"):
        deploy(model, "triton", tmp_path / "out", provider="cuda")
    deploy(model, "triton", tmp_path / "out", provider="cuda", library=False)


@pytest.mark.parametrize("server", SERVERS)
def test_a_model_that_was_optimised_for_this_machine_comes_with_a_warning(server: str, tmp_path: Path) -> None:
    hard, fast = tmp_path / "hard.onnx", tmp_path / "fast.onnx"
    jr_onnx.convert(MODELS / "digits.onnx", jump=0.5, output=hard)
    jr_onnx.optimize(hard, output=fast)
    assert not [one for one in deploy(hard, server, tmp_path / "any").warnings if "optimised" in one]
    report = deploy(fast, server, tmp_path / "here")
    (warning,) = (one for one in report.warnings if "was optimised for this machine's processor and onnxruntime" in one)
    text = (tmp_path / "here" / "README.md").read_text()
    assert warning in text
    (checked,) = re.findall(r"`jr-onnx check (\S+)`", text)  # against its original it would be refused
    assert jr_onnx.check(None, tmp_path / "here" / checked).findings == ()
