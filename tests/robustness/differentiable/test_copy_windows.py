"""Padding, strides, dilations and rounding of convolutions and pools against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import Array, make_model, node, value

torch = pytest.importorskip("torch", reason="torch is not installed: there is no differentiable copy without it")

from jr_onnx.robustness.differentiable.model import Evaluator  # noqa: E402 - behind the check that torch is there
from jr_onnx.robustness.differentiable.program import compile_program, flatten  # noqa: E402


def both(model: onnx.ModelProto, x: Array) -> tuple[Array, Array]:
    """The copy's output and onnxruntime's; what onnxruntime refuses is no example."""
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        expected = session.run(None, {"x": x})[0]
    except Exception:  # noqa: BLE001 - onnxruntime's errors have no common root
        assume(False)
    copy = Evaluator(compile_program(flatten(model), torch.float32))
    with torch.no_grad():
        return copy({"x": torch.from_numpy(x)})[0].numpy(), expected


def images(rank: int, channels: int, seed: int = 0) -> Array:
    """[2, channels, ...] with sides that differ."""
    return np.random.default_rng(seed).normal(size=(2, channels, *(9, 8, 7)[:rank])).astype(np.float32)


@st.composite
def windows(draw: st.DrawFn, *, dilated: bool = True, explicit: bool = True) -> tuple[int, dict[str, Any]]:
    """A rank, and attributes of a window on that many axes."""
    rank = draw(st.integers(1, 3))
    few = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    attributes: dict[str, Any] = {"kernel_shape": draw(few), "strides": draw(few)}
    if dilated:
        attributes["dilations"] = draw(few)
    padding = draw(st.sampled_from(["pads", "VALID", "SAME_UPPER", "SAME_LOWER"] if explicit else ["pads"]))
    if padding == "pads":
        reach = [k - 1 for k in attributes["kernel_shape"]]
        attributes["pads"] = [draw(st.integers(0, limit)) for limit in reach * 2]
    else:
        attributes["auto_pad"] = padding
        attributes.pop("dilations", None)  # older versions of onnxruntime do not take them beside SAME
        # Where the stride is the larger, onnxruntime's pools cut elements off, and its Conv does not.
        attributes["strides"] = [
            min(*pair) for pair in zip(attributes["strides"], attributes["kernel_shape"], strict=True)
        ]
    return rank, attributes


@given(windows(), st.sampled_from([1, 2]), st.booleans())
def test_conv(window: tuple[int, dict[str, Any]], group: int, with_bias: bool) -> None:
    rank, attributes = window
    generator = np.random.default_rng(1)
    constants = {"w": generator.normal(size=(4, 4 // group, *attributes["kernel_shape"])).astype(np.float32)}
    if with_bias:
        constants["b"] = generator.normal(size=4).astype(np.float32)
    nodes = [node("Conv", " ".join(["x", *constants]), "y", group=group, **attributes)]
    x = images(rank, 4)
    found, expected = both(make_model(nodes, [value("x", shape=x.shape)], [value("y")], initializers=constants), x)
    np.testing.assert_allclose(found, expected, 1e-4, 1e-4)


@given(windows(explicit=False), st.sampled_from([1, 2]), st.data())
def test_conv_transpose(window: tuple[int, dict[str, Any]], group: int, data: st.DataObject) -> None:
    rank, attributes = window
    attributes["output_padding"] = [data.draw(st.integers(0, stride - 1)) for stride in attributes["strides"]]
    generator = np.random.default_rng(2)
    constants = {
        "w": generator.normal(size=(4, 6 // group, *attributes["kernel_shape"])).astype(np.float32),
        "b": generator.normal(size=6).astype(np.float32),
    }
    x = images(rank, 4)
    nodes = [node("ConvTranspose", "x w b", "y", group=group, **attributes)]
    found, expected = both(make_model(nodes, [value("x", shape=x.shape)], [value("y")], initializers=constants), x)
    np.testing.assert_allclose(found, expected, 1e-4, 1e-4)


@given(windows(), st.booleans())
def test_max_pool(window: tuple[int, dict[str, Any]], ceil_mode: bool) -> None:
    rank, attributes = window
    x = images(rank, 2)
    nodes = [node("MaxPool", "x", "y", ceil_mode=int(ceil_mode), **attributes)]
    found, expected = both(make_model(nodes, [value("x", shape=x.shape)], [value("y")], opset=22, ir_version=10), x)
    np.testing.assert_array_equal(found, expected)


@given(windows(), st.booleans(), st.booleans())
def test_average_pool(window: tuple[int, dict[str, Any]], ceil_mode: bool, include: bool) -> None:
    rank, attributes = window
    x = images(rank, 2)
    nodes = [node("AveragePool", "x", "y", ceil_mode=int(ceil_mode), count_include_pad=int(include), **attributes)]
    found, expected = both(make_model(nodes, [value("x", shape=x.shape)], [value("y")], opset=22, ir_version=10), x)
    np.testing.assert_allclose(found, expected, 1e-5, 1e-5)


@given(windows(dilated=False), st.sampled_from([1, 2, 3]))
def test_lp_pool(window: tuple[int, dict[str, Any]], power: int) -> None:
    rank, attributes = window
    x = images(rank, 2)
    nodes = [node("LpPool", "x", "y", p=power, **attributes)]
    found, expected = both(make_model(nodes, [value("x", shape=x.shape)], [value("y")], opset=18), x)
    np.testing.assert_allclose(found, expected, 1e-4, 1e-5)


@given(
    st.lists(st.integers(-1, 3), min_size=8, max_size=8),
    st.sampled_from(["constant", "edge", "reflect", "wrap"]),
)
def test_pad(pads: list[int], mode: str) -> None:
    x = images(2, 4)
    nodes = [node("Pad", "x pads", "y", mode=mode)]
    model = make_model(
        nodes,
        [value("x", shape=x.shape)],
        [value("y")],
        opset=19,
        initializers={"pads": np.asarray([0, 0, *pads[2:4], 0, 0, *pads[6:]], np.int64)},
    )
    assume(mode == "constant" or min(pads) >= 0)  # what else a negative pad means differs between runtimes
    found, expected = both(model, x)
    np.testing.assert_array_equal(found, expected)


@given(
    st.lists(st.integers(-12, 12), min_size=3, max_size=3),
    st.lists(st.integers(-12, 12), min_size=3, max_size=3),
    st.lists(st.sampled_from([-3, -2, -1, 1, 2, 3]), min_size=3, max_size=3),
)
def test_slice(starts: list[int], ends: list[int], steps: list[int]) -> None:
    x = np.arange(9 * 8 * 7, dtype=np.float32).reshape(9, 8, 7)
    constants = {
        name: np.asarray(v, np.int64) for name, v in zip("sepq", (starts, ends, [2, 0, -2], steps), strict=True)
    }
    model = make_model(
        [node("Slice", "x s e p q", "y")], [value("x", shape=x.shape)], [value("y")], initializers=constants
    )
    found, expected = both(model, x)
    np.testing.assert_array_equal(found, expected)
