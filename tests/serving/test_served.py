"""A served model without a server: tensors that come as Python's numbers, and requests that do not fit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from running import assert_same_bits
from server_models import mixed_feeds, mixed_model, row_model
from support import FLOAT, hardened, make_model, node, relu_model, value

from jr_onnx.errors import RequestError
from jr_onnx.reference import jump_relu
from jr_onnx.serving.layouts import EXECUTION
from jr_onnx.serving.served import ServedModel, by_name, decoded
from jr_onnx.serving.signature import DATATYPES

NUMBERS = {
    name: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element_type))
    for element_type, name in DATATYPES.items()
    if name != "BYTES"
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    path = tmp_path_factory.mktemp("served") / "mixed.onnx"
    onnx.save(mixed_model(0.5), path)
    return ServedModel(path, None)


@pytest.mark.parametrize("provider", EXECUTION)
def test_the_session_gets_what_stands_for_the_provider(
    provider: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("jr_onnx.serving.served.session", lambda *_, providers, **__: seen.append(providers))
    onnx.save(mixed_model(0.5), tmp_path / "m.onnx")
    ServedModel(tmp_path / "m.onnx", None, provider)
    assert seen == [EXECUTION[provider]]


@pytest.mark.parametrize("datatype", NUMBERS)
@given(data=st.data())
def test_a_tensor_survives_the_way_through_pythons_numbers(datatype: str, data: Any) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    array = data.draw(arrays.arrays(NUMBERS[datatype], shape))
    for values in (array.reshape(-1).tolist(), array.tolist() if shape else [array.item()]):
        assert_same_bits(decoded("x", datatype, shape, values), array, datatype)


@given(st.lists(st.text()))
def test_text_comes_as_text_and_as_bytes(texts: list[str]) -> None:
    for values in (texts, [text.encode() for text in texts]):
        assert decoded("x", "BYTES", [len(texts)], values).tolist() == values


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("INT8", [128]),
        ("UINT64", [-1]),
        ("UINT64", [2**64]),
        ("INT32", [0.5]),
        ("INT32", [1.0]),
        ("INT32", [True]),
        ("INT32", [None]),
        ("BOOL", [1]),
        ("FP32", ["1"]),
        ("FP64", [True]),
        ("FP32", [[1, 2], [3]]),
        ("FP32", [{}]),
        ("BYTES", [1]),
        ("FP32", [1, 2]),
        ("FP32", []),
        ("BF16", [1]),
        ("", [1]),
    ],
)
def test_what_is_not_of_the_datatype_is_refused_and_nothing_is_cut(datatype: str, values: list[Any]) -> None:
    with pytest.raises(RequestError, match="input 'x'"):
        decoded("x", datatype, [1], values)


@pytest.mark.parametrize(
    "values", [[True, 0.5], [[0.5], [True]], ["1", None], [None, "x"], [b"1", 1], [[["1", 0.5]]], [[1], [None, 2], 3]]
)
def test_among_numbers_nothing_else_is_taken_for_one(values: list[Any]) -> None:
    with pytest.raises(RequestError, match="input 'x'"):
        decoded("x", "FP32", [2], values)


def test_null_is_nan_and_what_is_too_large_is_infinite() -> None:
    assert np.isnan(decoded("x", "FP32", [1], [None]))
    assert decoded("x", "FP16", [1], [1e30]) == np.inf


def test_all_outputs_come_back_where_none_is_named(served: ServedModel) -> None:
    feeds = mixed_feeds(2, 0)
    results = served.run(feeds)
    assert list(results) == [f"{name}_out" for name in feeds]
    for name, array in feeds.items():
        want = jump_relu(array, np.asarray(0.5, array.dtype)) if name.startswith("f") else array
        assert_same_bits(results[f"{name}_out"], want, name)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"f32": np.zeros((2, 4), np.float64)}, "input 'f32' is FP64; the model takes f32"),
        ({"f32": np.zeros((2, 5), np.float32)}, r"has the shape \[2, 5\]"),
        ({"f32": np.zeros(4, np.float32)}, r"has the shape \[4\]"),
        ({"s": np.array([[b"\xff"] * 4], object)}, "input 's' is not UTF-8"),
        ({"s": np.array([[1.5] * 4], object)}, "input 's' holds what is not text"),
        ({"f32": None}, "input 'f32' is missing"),
        ({"more": np.zeros(1)}, "there is no input 'more'"),
    ],
)
def test_a_request_that_does_not_fit_names_the_input_and_what_it_takes(
    change: dict[str, Any], reason: str, served: ServedModel
) -> None:
    feeds = {name: array for name, array in {**mixed_feeds(2, 0), **change}.items() if array is not None}
    with pytest.raises(RequestError, match=reason):
        served.run(feeds)


def test_two_tensors_of_one_name_are_refused() -> None:
    one = np.zeros(1, np.float32)
    assert list(by_name([("a", one), ("b", one)])) == ["a", "b"]
    with pytest.raises(RequestError, match="input 'a' is there twice"):
        by_name([("a", one), ("b", one), ("a", one)])


def test_what_onnxruntime_cannot_run_is_the_requests_fault_in_one_line(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "h"), node("Add", "h z", "y")]
    inputs = [value(name, FLOAT, [free]) for name, free in (("x", "N"), ("z", "M"))]
    onnx.save(hardened(make_model(nodes, inputs, [value("y", FLOAT, ["K"])])), tmp_path / "sum.onnx")
    served = ServedModel(tmp_path / "sum.onnx", None)
    with pytest.raises(RequestError, match=r"the model cannot run this request: .*Add") as refusal:
        served.run({"x": np.ones(2, np.float32), "z": np.ones(3, np.float32)})
    assert "\n" not in str(refusal.value)
    assert served.run({"x": np.ones(2, np.float32), "z": np.ones(2, np.float32)})["y"].tolist() == [2, 2]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_client_may_raise_the_jump_and_not_lower_it(dtype: Any, tmp_path: Path) -> None:
    element_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    onnx.save(hardened(relu_model(element_type, [3]), 0.3, jump_input="jump"), tmp_path / "m.onnx")
    served = ServedModel(tmp_path / "m.onnx", None)
    x, own = np.array([0.25, 0.35, 0.9], dtype), np.asarray(0.3, dtype)
    for jump in (own, np.asarray(0.5, dtype), np.finfo(dtype).max.reshape(1)):
        got = served.run({"x": x, "jump": jump})["y"]
        assert_same_bits(got, jump_relu(x, jump.reshape(())), str(jump))
    below = np.nextafter(own, dtype(0))
    for refused in (below, dtype(0), -np.finfo(dtype).max, -np.inf, np.inf, np.nan):
        with pytest.raises(RequestError, match="input 'jump' is lower than"):
            served.run({"x": x, "jump": np.asarray(refused, dtype)})


def test_many_threads_at_once_get_their_own_answers(tmp_path: Path) -> None:
    onnx.save(row_model(0.5), tmp_path / "rows.onnx")
    rows = ServedModel(tmp_path / "rows.onnx", None)

    def ask(number: int) -> None:
        x = np.random.default_rng(number).standard_normal((1 + number % 7, 3)).astype(np.float32)
        assert_same_bits(rows.run({"x": x})["y"], jump_relu(x, np.float32(0.5)), str(number))

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(ask, number) for number in range(200)]:
            done.result()
