"""Hard-sigmoid and hard-swish written out are gates, which no conversion touches; what only resembles one is a site."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import FLOAT, FLOAT16, Array, hardened, make_model, node, report_of, run, value

from jr_onnx import find_sites, inspect
from jr_onnx.conversion.sites.bounds import GATE

X, Y = value("x", FLOAT, [5]), value("y", FLOAT, [5])
VALUES = np.array([-4, -1.5, 0.25, 2, 7], np.float32)


def model_of(
    nodes: Sequence[onnx.NodeProto], opset: int = 13, kind: str = "initializer", **more: float
) -> onnx.ModelProto:
    """The nodes, and a Relu in front; numbers are initializers, one-element vectors, or Constant nodes."""
    numbers = {
        "zero": 0,
        "one": 1,
        "half": 0.5,
        "fifth": 0.2,
        "three": 3,
        "minus": -3,
        "six": 6,
        "sixth": 1 / 6,
        **more,
    }
    tensors: dict[str, Array] = {name: np.asarray(number, np.float32) for name, number in numbers.items()}
    if kind == "vector":
        bounds = {name for item in nodes if item.op_type == "Clip" for name in item.input[1:]}
        tensors = {name: tensor if name in bounds else tensor.reshape(1) for name, tensor in tensors.items()}
    front = [node("Relu", "x", "r", "relu")]
    if kind == "Constant":
        front += [node("Constant", "", name, value=onnx.numpy_helper.from_array(t)) for name, t in tensors.items()]
    return make_model([*front, *nodes], [X], [Y], opset=opset, initializers={} if kind == "Constant" else tensors)


SHIFTS = {
    "x + 3": [node("Add", "r three", "a")],
    "3 + x": [node("Add", "three r", "a")],
    "x - -3": [node("Sub", "r minus", "a")],
}
BOUNDS = {
    "Clip": [node("Clip", "a zero six", "c", "bound")],
    "Relu, Min": [node("Relu", "a", "b", "bound"), node("Min", "six b", "c")],
    "Relu, Clip": [node("Relu", "a", "b", "bound"), node("Clip", "b zero six", "c", "bound2")],
}
FACTORS = {
    "/ 6": [node("Div", "c six", "y")],
    "* 1/6": [node("Mul", "sixth c", "y")],
    "/ 6 * x": [node("Div", "c six", "d"), node("Mul", "d r", "y")],
    "* x / 6": [node("Mul", "c r", "d"), node("Div", "d six", "y")],
    "x * c * 1/6": [node("Mul", "r c", "d"), node("Mul", "d sixth", "y")],
    "x/6 * c": [node("Div", "r six", "d"), node("Mul", "d c", "y")],
    "x * c, the sixth folded elsewhere": [node("Mul", "r c", "y")],
    "c * features / 6": [node("Exp", "r", "f"), node("Mul", "f c", "d"), node("Div", "d six", "y")],
}


@pytest.mark.parametrize(("shift", "bound", "factor"), list(itertools.product(SHIFTS, BOUNDS, FACTORS)))
@pytest.mark.parametrize("kind", ["initializer", "vector", "Constant"])
def test_a_gate_is_left_alone_and_named(kind: str, shift: str, bound: str, factor: str) -> None:
    model = model_of([*SHIFTS[shift], *BOUNDS[bound], *FACTORS[factor]], kind=kind)
    report = report_of(model, 0.5, clip=True)
    assert [site.path for site in report.sites] == ["relu"]
    left = {item.path: item.reason for item in report.left_alone}
    assert left == dict.fromkeys(left, GATE)
    assert "bound" in left
    assert {item.path: item.how for item in inspect(model).nodes}["bound"] == GATE
    assert report.model is not None
    assert [item.op_type for item in report.model.graph.node].count("JumpReLU") == 1
    run(report.model, {"x": VALUES})


@pytest.mark.parametrize("clip", [False, True])
def test_a_gate_is_named_as_one_with_and_without_clip(clip: bool) -> None:
    model = model_of([*SHIFTS["x + 3"], *BOUNDS["Clip"], *FACTORS["/ 6"]])
    assert [item.reason for item in report_of(model, clip=clip).left_alone] == [GATE]


def test_a_gate_of_an_old_opset_has_its_bounds_in_attributes() -> None:
    clip = node("Clip", "a", "c", "bound", min=0.0, max=6.0)
    assert [s.path for s in find_sites(model_of([*SHIFTS["x + 3"], clip, *FACTORS["* x / 6"]], opset=10))] == ["relu"]


def test_a_hard_sigmoid_up_to_1_needs_no_division() -> None:
    nodes = [node("Mul", "r fifth", "m"), node("Add", "m half", "a"), node("Clip", "a zero one", "y", "bound")]
    assert [site.path for site in find_sites(model_of(nodes))] == ["relu"]


def test_casts_and_quantizers_between_the_parts_change_nothing() -> None:
    def quantized(name: str, scale: str) -> list[onnx.NodeProto]:
        return [
            node("QuantizeLinear", f"{name} {scale} middle", f"{name}_q"),
            node("DequantizeLinear", f"{name}_q {scale} middle", f"{name}_d"),
        ]

    nodes = [node("Add", "r_d three", "a"), node("Clip", "a_d zero six", "c", "bound"), node("Mul", "c_d r_d", "m")]
    ends = [
        node("Div", "m_d six", "d"),
        node("Cast", "d", "half_d", to=int(FLOAT16)),
        node("Cast", "half_d", "y", to=1),
    ]
    model = model_of([*quantized("r", "sixth"), *nodes[:1], *quantized("a", "sixth"), *nodes[1:2]])
    model.graph.node.extend([*quantized("c", "sixth"), *nodes[2:], *quantized("m", "sixth"), *ends])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(128), "middle"))
    assert [site.path for site in find_sites(model)] == ["relu"]


def hard_swish_on_integers(form: str, scale: float, last: str) -> onnx.ModelProto:
    """What onnxruntime's quantizer makes of Conv and a hard-swish whose Clip it folds into a zero point."""
    quantization = pytest.importorskip("onnxruntime.quantization", reason="the quantizer needs onnx and sympy")
    rng = np.random.default_rng(0)
    ends = {
        "divided first": [node("Div", "c six", "d"), node("Mul", "a d", "m")],
        "divided last": [node("Mul", "a c", "d"), node("Div", "d six", "m")],
    }
    # What a Constant node gives is quantized when the model runs.
    nodes = [node("Constant", "", "three", value_float=3.0)] if last == "divided last" else []
    nodes += [node("Conv", "x w", "a"), node("Add", "a three", "s"), node("Clip", "s zero six", "c", "bound")]
    nodes += [*ends[last], node("Conv", "m w", "y")]
    constants: dict[str, Any] = {"w": rng.normal(size=(4, 4, 1, 1)), "zero": 0.0, "six": 6.0}
    if last == "divided first":
        constants["three"] = 3.0
    shape = [1, 4, 8, 8]
    model = make_model(
        nodes,
        [value("x", FLOAT, shape)],
        [value("y", FLOAT, shape)],
        opset=13,
        initializers={name: np.asarray(array, np.float32) for name, array in constants.items()},
    )

    class Inputs(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self.left = [{"x": (scale * rng.normal(size=shape)).astype(np.float32)} for _ in range(4)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.left.pop() if self.left else None

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        onnx.save(model, Path(folder) / "float.onnx")
        form_of = quantization.QuantFormat[form]
        quantization.quantize_static(Path(folder) / "float.onnx", path, Inputs(), quant_format=form_of)
        return onnx.load(path)


@pytest.mark.parametrize("last", ["divided first", "divided last"])
@pytest.mark.parametrize("scale", [1.0, 5.0])  # with the first no value of the calibration reaches the upper bound
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_a_gate_whose_bounds_are_folded_into_a_zero_point_is_one(form: str, scale: float, last: str) -> None:
    report = report_of(hard_swish_on_integers(form, scale, last), allow_empty=True)
    assert [item.reason for item in report.left_alone] == [GATE]
    assert not report.sites


NO_GATES = {
    "not divided": [node("Clip", "a zero six", "y", "bound")],
    "divided by something else": [node("Clip", "a zero six", "c", "bound"), node("Div", "c three", "y")],
    "taken as it is too": [
        node("Clip", "a zero six", "c", "bound"),
        node("Div", "c six", "d"),
        node("Exp", "c", "e"),
        node("Add", "d e", "y"),
    ],
    "times another value, not divided": [
        node("Clip", "a zero six", "c", "bound"),
        node("Exp", "r", "e"),
        node("Mul", "c e", "y"),
    ],
    "six less it": [node("Clip", "a zero six", "c", "bound"), node("Sub", "six c", "y")],
    "no upper bound": [node("Relu", "a", "c", "bound"), node("Div", "c six", "y")],
}


@pytest.mark.parametrize("case", NO_GATES)
def test_what_is_no_factor_is_no_gate(case: str) -> None:
    model = model_of([*SHIFTS["x + 3"], *NO_GATES[case]])
    assert [site.path for site in find_sites(model)] == ["relu", "bound"]


@pytest.mark.parametrize(
    "shift", [[node("Identity", "r", "a")], [node("Add", "r minus", "a")], [node("Add", "r x", "a")]]
)
def test_without_a_shift_it_is_relu6(shift: list[onnx.NodeProto]) -> None:
    model = model_of([*shift, *BOUNDS["Clip"], *FACTORS["/ 6"]])
    assert [site.path for site in find_sites(model)] == ["relu", "bound"]


def test_a_relu6_between_gates_gets_its_jump() -> None:
    nodes = [*SHIFTS["x + 3"], *BOUNDS["Clip"], node("Mul", "c r", "d"), node("Div", "d six", "s")]
    model = model_of([*nodes, node("Clip", "s zero six", "y", "relu6")])
    assert [site.path for site in report_of(model, 0.5, clip=True).sites] == ["relu", "relu6"]


def test_a_jump_behind_a_gate_from_an_earlier_version_is_replaced_like_any_other() -> None:
    nodes = [
        *SHIFTS["x + 3"],
        node("Clip", "a zero six", "c/rectified", "bound"),
        node("JumpReLU", "c/rectified half", "c", "old", domain="jr_onnx"),
        *FACTORS["/ 6"],
    ]
    model = model_of(nodes)
    model.opset_import.append(onnx.helper.make_opsetid("jr_onnx", 1))
    assert [site.path for site in report_of(model, 0.25, clip=True).sites] == ["relu", "old"]


def test_a_long_chain_of_products_is_not_followed_to_its_end() -> None:
    chain = [node("Mul", f"{f'm{i}' if i else 'c'} e", f"m{i + 1}") for i in range(2000)]
    model = model_of([*SHIFTS["x + 3"], *BOUNDS["Clip"], node("Exp", "r", "e"), *chain, node("Div", "m2000 six", "y")])
    assert [site.path for site in find_sites(model)] == ["relu", "bound"]


def test_the_outputs_of_a_network_of_gates_alone_stay() -> None:
    model = model_of([*SHIFTS["x + 3"], *BOUNDS["Clip"], *FACTORS["* x / 6"]])
    result = hardened(model, 0.5, clip=True, exclude=["relu"], allow_empty=True)
    np.testing.assert_array_equal(run(result, {"x": VALUES})[0], run(model, {"x": VALUES})[0])


def test_a_long_chain_of_relus_is_no_matter_of_minutes() -> None:
    """Looking back along the whole chain from each Relu takes over 20 seconds, and half a second otherwise."""
    nodes = [node("Relu", f"v{index}", f"v{index + 1}") for index in range(8000)]
    model = make_model(nodes, [value("v0", FLOAT, [1])], [value("v8000", FLOAT, [1])])
    started = time.process_time()
    assert len(report_of(model).sites) == 8000
    assert time.process_time() - started < 10


def test_many_bounds_behind_a_long_chain_are_no_matter_of_minutes() -> None:
    """Looking back along the whole chain from each bound takes half a minute, and a second otherwise."""
    chain = [node("Identity", f"{f'v{i}' if i else 'x'}", f"v{i + 1}") for i in range(8000)]
    bounds = [
        [node("Clip", "v8000 zero six", f"c{i}", f"c{i}"), node("Div", f"c{i} six", f"d{i}")] for i in range(4000)
    ]
    model = model_of([*chain, *itertools.chain(*bounds), node("Identity", "d0", "y")])
    started = time.process_time()
    assert len(report_of(model, clip=True).sites) == 4001
    assert time.process_time() - started < 10
