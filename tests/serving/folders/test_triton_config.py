"""config.pbtxt, read with Triton's own schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from support import DOUBLE, FLOAT, FLOAT16, INT64, hardened, make_model, node, relu_model, value
from tritonclient.grpc import model_config_pb2 as schema

import jr_onnx
from jr_onnx.serving.deploy import MOUNT
from jr_onnx.serving.layouts import Deployment, triton_layout
from jr_onnx.serving.signature import DATATYPES, Signature, Tensor


def config_of(model: onnx.ModelProto, folder: Path, **options: Any) -> Any:
    """The config.pbtxt of a hardened model, without needing a library that can be loaded."""
    onnx.save(model, folder / "m.onnx")
    report = jr_onnx.deploy(folder / "m.onnx", "triton", folder / "out", library=False, **options)
    return parsed((report.output / "m" / "config.pbtxt").read_text())


def parsed(text: str) -> Any:
    return text_format.Parse(text, schema.ModelConfig())


def deployment_of(*inputs: Tensor, library: bool = True, **more: Any) -> Deployment:
    outputs = (Tensor("y", FLOAT, (-1,)),)
    options: dict[str, Any] = {
        "name": "m",
        "provider": "cpu",
        "mount": MOUNT,
        "max_batch_size": 0,
        **more,
    }
    return Deployment(signature=Signature(inputs, outputs), without="" if library else "not asked for", **options)


def text_of(deployment: Deployment) -> str:
    return triton_layout(deployment).texts[f"{deployment.name}/config.pbtxt"]


def test_a_free_first_dimension_is_no_batch(tmp_path: Path) -> None:
    config = config_of(hardened(relu_model(shape=["N", 3])), tmp_path)
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert [(one.name, list(one.dims)) for one in config.input] == [("x", [-1, 3])]
    assert [(one.name, list(one.dims)) for one in config.output] == [("y", [-1, 3])]
    assert config.backend == "onnxruntime"


def test_a_batch_that_was_asked_for_takes_the_first_dimension_away(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "y"), node("ReduceMax", "x axes", "top", keepdims=0)]
    outputs = [value("y", FLOAT, ["N", 3]), value("top", FLOAT, ["N"])]
    axes = {"axes": np.array([1], np.int64)}
    model = hardened(make_model(nodes, [value("x", FLOAT, ["N", 3])], outputs, initializers=axes))
    config = config_of(model, tmp_path, max_batch_size=16)
    assert config.max_batch_size == 16
    assert config.HasField("dynamic_batching")
    assert [list(one.dims) for one in (*config.input, *config.output)] == [[3], [3], [1]]
    assert [one.HasField("reshape") for one in config.output] == [False, True]
    assert list(config.output[1].reshape.shape) == []


def test_a_scalar_is_one_element(tmp_path: Path) -> None:
    config = config_of(hardened(relu_model(shape=[])), tmp_path)
    assert [list(one.dims) for one in (*config.input, *config.output)] == [[1], [1]]
    assert not config.input[0].HasField("reshape")  # the backend knows scalars; Triton refuses an empty shape


def test_a_size_of_0_is_refused(tmp_path: Path) -> None:
    with pytest.raises(jr_onnx.ModelError, match=r"'x' has the shape \[0, 3\]"):
        config_of(hardened(relu_model(shape=[0, 3])), tmp_path)


def test_the_jump_input_is_optional(tmp_path: Path) -> None:
    config = config_of(hardened(relu_model(shape=["N", 3]), jump_input="jump"), tmp_path)
    assert [(one.name, list(one.dims), one.optional) for one in config.input] == [
        ("x", [-1, 3], False),
        ("jump", [1], True),
    ]
    assert config.max_batch_size == 0  # the backend takes no optional input otherwise


def test_strings_and_integers_beside_the_relu_keep_their_types(tmp_path: Path) -> None:
    inputs = [value("x", FLOAT16, [2]), value("s", onnx.TensorProto.STRING, ["N"]), value("i", INT64, [1])]
    nodes = [node("Relu", "x", "y"), node("Identity", "s", "t"), node("Cast", "i", "d", to=DOUBLE)]
    outputs = [value("y", FLOAT16, [2]), value("t", onnx.TensorProto.STRING, ["N"]), value("d", DOUBLE, [1])]
    config = config_of(hardened(make_model(nodes, inputs, outputs)), tmp_path)
    assert [one.data_type for one in config.input] == [schema.TYPE_FP16, schema.TYPE_STRING, schema.TYPE_INT64]
    assert [one.data_type for one in config.output] == [schema.TYPE_FP16, schema.TYPE_STRING, schema.TYPE_FP64]


@pytest.mark.parametrize("element_type", DATATYPES, ids=DATATYPES.get)
def test_every_datatype_is_one_of_tritons(element_type: int) -> None:
    config = parsed(text_of(deployment_of(Tensor("x", element_type, (2,)))))
    assert config.input[0].data_type != schema.TYPE_INVALID


@pytest.mark.parametrize("mount", ["/models", "/srv/my models", '/a"b\\c', "/"])
def test_the_library_is_named_once_by_its_absolute_path(mount: str) -> None:
    deployment = deployment_of(Tensor("x", FLOAT, (1,)), mount=type(MOUNT)(mount))
    (path,) = parsed(text_of(deployment)).model_operations.op_library_filename
    assert path == f"{mount.rstrip('/')}/m/jr_onnx_ops.so"


def test_without_the_library_none_is_named() -> None:
    assert not parsed(text_of(deployment_of(Tensor("x", FLOAT, (1,)), library=False))).HasField("model_operations")


@pytest.mark.parametrize(
    ("provider", "kind", "accelerator", "parameters"),
    [
        ("cuda", "gpu", "cuda", {}),
        ("cuda-nhwc", "gpu", "cuda", {"prefer_nhwc": "1"}),
        ("tensorrt", "gpu", "tensorrt", {}),
        ("openvino", "cpu", "openvino", {}),
    ],
)
def test_a_provider_is_asked_for_by_instance_and_accelerator(
    provider: str, kind: str, accelerator: str, parameters: dict[str, str]
) -> None:
    config = parsed(text_of(deployment_of(Tensor("x", FLOAT, (1,)), provider=provider)))
    (group,) = config.instance_group
    assert group.kind == getattr(schema.ModelInstanceGroup, f"KIND_{kind.upper()}")
    (one,) = getattr(config.optimization.execution_accelerators, f"{kind}_execution_accelerator")
    assert (one.name, dict(one.parameters)) == (accelerator, parameters)


def test_the_cpu_has_no_accelerator() -> None:
    config = parsed(text_of(deployment_of(Tensor("x", FLOAT, (1,)))))
    assert [group.kind for group in config.instance_group] == [schema.ModelInstanceGroup.KIND_CPU]
    assert not config.HasField("optimization")


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=3, unique=True))
def test_any_name_of_a_tensor_comes_through(names: list[str]) -> None:
    config = parsed(text_of(deployment_of(*(Tensor(name, FLOAT, (-1,)) for name in names))))
    assert [one.name for one in config.input] == names
