"""Every operator of the differentiable copy against onnxruntime, on the node tests that come with onnx."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from support import BFLOAT16, FLOAT16, Array, make_model, node, value

torch = pytest.importorskip("torch", reason="torch is not installed: there is no differentiable copy without it")

from jr_onnx.errors import ModelError  # noqa: E402
from jr_onnx.robustness.gradients.errors import UnsupportedOperatorError  # noqa: E402 - behind the check that torch is there
from jr_onnx.robustness.differentiable.model import Evaluator  # noqa: E402
from jr_onnx.robustness.differentiable.operators import to_tensor  # noqa: E402
from jr_onnx.robustness.differentiable.program import compile_program, flatten, read_model  # noqa: E402
from jr_onnx.robustness.differentiable.table import OPERATORS  # noqa: E402

#: What these operators refuse, by a word of the message.
REFUSED = {
    "Attention": ("past keys", "more outputs", "softcap", "window_size"),
    "BatchNormalization": ("training mode",),
    "Cast": ("FLOAT8", "FLOAT4", "INT4", "INT2", "FLOAT6"),
    "Dropout": ("training mode",),
    "MaxPool": ("more outputs",),
    "QuantizeLinear": ("zero point",),
    "Resize": ("antialias", "tf_crop_and_resize"),
    "ScatterND": ("reduction",),
}

#: Cases that the copy does not claim: strings; empty reductions; pools of integers; integers of less than 8 bits that
#: are the result of something; rounding to 8-bit floating point and less.
NOT_CLAIMED = re.compile(
    "string|reduce_(max|min)_empty_set|maxpool_2d_uint8|quantizelinear_u?int[24]$"
    "|castlike.*to_(U?INT[24]|FLOAT[468])|castlike_.*FLOAT8.*_to_FLOAT8"
)

#: The cases of these take onnx seconds to make.
SLOW = {"AveragePool", "LpPool", "MaxPool"}

TOLERANCE = {FLOAT16: 2e-3, BFLOAT16: 2e-2}


@cache
def modules() -> dict[str, str]:
    """Op type -> the module of onnx that makes its cases."""
    import onnx.backend.test.case.node as package

    found = {}
    for file in Path(package.__file__).parent.glob("*.py"):
        for name in re.findall(r"^class (\w+)\(Base\)", file.read_text(), re.MULTILINE):
            found[name] = f"{package.__name__}.{file.stem}"
    return found


def cases_of(op_type: str) -> Iterator[Any]:
    """The cases whose model has that operator."""
    import onnx.backend.test.case.node as package

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, while onnx works out what it expects
        importlib.import_module(modules()[op_type])
    prefix = "test_" + op_type.lower()
    for case in package._NodeTestCases:
        kinds = {node.op_type for node in case.model.graph.node}
        if op_type in kinds and (len(kinds) == 1 or case.name.replace("_", "").startswith(prefix.replace("_", ""))):
            yield case


def array(recorded: Any) -> Array:
    """What a case has as an input or output."""
    return onnx.numpy_helper.to_array(recorded) if isinstance(recorded, onnx.TensorProto) else np.asarray(recorded)


def by_onnxruntime(model: onnx.ModelProto, inputs: list[Array], recorded: list[Array]) -> list[Array]:
    """onnxruntime's outputs; where it has no kernel, those that onnx recorded."""
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, dict(zip([i.name for i in session.get_inputs()], inputs, strict=False)))
    except Exception:  # noqa: BLE001 - onnxruntime's errors have no common root
        return recorded


def by_copy(model: onnx.ModelProto, inputs: list[Array]) -> list[Array]:
    """The copy's outputs."""
    evaluator = Evaluator(compile_program(flatten(read_model(model)), torch.float32))
    names = [value.name for value in model.graph.input]
    feeds = {name: to_tensor(array, torch.float32) for name, array in zip(names, inputs, strict=False)}
    with torch.no_grad():
        return [given.numpy() for given in evaluator(feeds)]


@pytest.mark.parametrize(
    "op_type", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in sorted(OPERATORS)]
)
def test_an_operator_gives_what_onnxruntime_gives(op_type: str) -> None:
    if op_type not in modules():
        assert op_type in {before[0] for before in BEFORE}
        return
    compared = 0
    for case in cases_of(op_type):
        if NOT_CLAIMED.search(case.name):
            continue
        if case.model.opset_import[0].version < 7:  # those of Not; it has not changed since
            case.model.opset_import[0].version = 7
        for inputs, outputs in case.data_sets:
            given_inputs = [array(one) for one in inputs]
            try:
                found = by_copy(case.model, given_inputs)
            except UnsupportedOperatorError as error:
                refused = (*REFUSED.get(op_type, ()), "not implemented for 'UInt")
                assert error.op_type != op_type or any(word in str(error) for word in refused), case.name
                continue
            expected = by_onnxruntime(case.model, given_inputs, [array(one) for one in outputs])
            for one, other, declared in zip(found, expected, case.model.graph.output, strict=False):
                tolerance = TOLERANCE.get(declared.type.tensor_type.elem_type, 1e-4)
                assert one.shape == other.shape, case.name
                np.testing.assert_allclose(
                    one.astype(np.float64), other.astype(np.float64), tolerance, tolerance / 10, err_msg=case.name
                )
            compared += 1
    assert compared or not list(cases_of(op_type)), "all cases were refused"


def one_node(
    op_type: str, inputs: dict[str, Array], opset: int, constants: dict[str, Array], **attributes: Any
) -> onnx.ModelProto:
    """A model of one node; the constants are its last inputs."""
    names = " ".join([*inputs, *constants])
    types = [
        value(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in inputs.items()
    ]
    output = onnx.helper.make_empty_tensor_value_info("y")
    return make_model(
        [node(op_type, names, "y", **attributes)], types, [output], opset=opset, initializers=constants, ir_version=8
    )


X = np.random.default_rng(5).normal(size=(2, 4, 6, 6)).astype(np.float32)


def longs(*values: int) -> Array:
    """An int64 tensor."""
    return np.asarray(values, np.int64)


#: What operators looked like before: op type, opset, constants behind x, attributes.
BEFORE: list[tuple[str, int, dict[str, Array], dict[str, Any]]] = [
    ("Softmax", 12, {}, {}),
    ("Softmax", 11, {}, {"axis": 2}),
    ("LogSoftmax", 12, {}, {"axis": -2}),
    ("Clip", 7, {}, {"min": -0.25, "max": 0.5}),
    ("Clip", 10, {}, {"max": 0.5}),
    ("Squeeze", 11, {}, {"axes": [0]}),
    ("Unsqueeze", 11, {}, {"axes": [0, 5]}),
    ("ReduceSum", 11, {}, {"axes": [1, -1], "keepdims": 0}),
    ("ReduceMean", 17, {}, {"axes": [2, 3]}),
    ("ReduceMax", 11, {}, {}),
    ("ReduceL2", 13, {}, {"axes": [-2]}),
    ("Slice", 9, {}, {"starts": [0, 1], "ends": [1, -1], "axes": [0, 2]}),
    ("Pad", 10, {}, {"pads": [0, 0, 1, 2, 0, 0, 0, 3], "mode": "reflect"}),
    ("Pad", 7, {}, {"pads": [0, 0, 1, 2, 0, 0, 0, 3], "value": 1.5}),
    ("Upsample", 9, {"s": np.asarray([1, 1, 2, 3], np.float32)}, {"mode": "nearest"}),
    ("Upsample", 9, {"s": np.asarray([1, 1, 2, 2], np.float32)}, {"mode": "linear"}),
    ("Upsample", 7, {}, {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 2.0]}),
    ("Resize", 10, {"s": np.asarray([1, 1, 0.5, 2], np.float32)}, {"mode": "nearest"}),
    ("Resize", 10, {"s": np.asarray([1, 1, 2, 2], np.float32)}, {"mode": "linear"}),
    ("Dropout", 7, {}, {"ratio": 0.3}),
    ("Dropout", 10, {}, {"ratio": 0.3}),
    ("ArgMax", 11, {}, {"axis": 1, "keepdims": 0}),
    ("Flatten", 9, {}, {"axis": 2}),
    ("Gemm", 9, {}, {}),
    ("GroupNormalization", 18, {"s": np.ones(2, np.float32), "b": np.arange(2, dtype=np.float32)}, {"num_groups": 2}),
    ("GroupNormalization", 21, {"s": np.arange(4, dtype=np.float32), "b": np.ones(4, np.float32)}, {"num_groups": 2}),
    ("Reshape", 14, {"s": longs(0, -1, 3)}, {}),
    ("LRN", 13, {}, {"size": 5, "alpha": 0.2, "bias": 2.0}),
    ("GlobalLpPool", 13, {}, {"p": 3}),
    ("LpNormalization", 13, {}, {"axis": 1, "p": 1}),
    ("Split", 11, {}, {"axis": 1}),
]  # fmt: skip


@pytest.mark.parametrize("op_type, opset, constants, attributes", BEFORE)
def test_an_operator_of_an_older_opset_gives_what_onnxruntime_gives(
    op_type: str, opset: int, constants: dict[str, Array], attributes: dict[str, Any]
) -> None:
    x = X[:1] if op_type == "Squeeze" else X
    if op_type == "Gemm":
        x, constants = X[0, 0], {"w": X[1, 0], "c": X[0, 1, :1]}
    model = one_node(op_type, {"x": x}, opset, constants, **attributes)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for found, expected in zip(by_copy(model, [x]), session.run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(found, expected, 1e-5, 1e-6)


def test_an_operator_that_there_is_none_of_is_named() -> None:
    model = one_node("Hardmax", {"x": X}, 18, {})
    with pytest.raises(UnsupportedOperatorError, match="no gradients through Hardmax; only black-box attacks"):
        by_copy(model, [X])


def test_an_operator_of_another_domain_is_named_with_its_domain() -> None:
    x = value("x", shape=[2])
    nodes = [node("Gelu", "x", "y", domain="com.microsoft")]
    model = make_model(nodes, [x], [value("y", shape=[2])], domains=["com.microsoft"])
    with pytest.raises(UnsupportedOperatorError) as caught:
        by_copy(model, [np.zeros(2, np.float32)])
    assert caught.value.op_type == "com.microsoft.Gelu"


def test_what_no_output_needs_may_be_anything() -> None:
    x = value("x", shape=[2])
    model = make_model([node("Hardmax", "x", "unused"), node("Neg", "x", "y")], [x], [value("y", shape=[2])])
    np.testing.assert_array_equal(by_copy(model, [np.ones(2, np.float32)])[0], [-1, -1])


def test_an_opset_that_is_too_old_is_refused() -> None:
    with pytest.raises(ModelError, match="opset 6 is older than 7"):
        by_copy(one_node("Neg", {"x": X}, 6, {}), [X])
