"""A Relu of numbers between DequantizeLinear and QuantizeLinear of one scale, whose zero point is not the lowest."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support import EACH_TARGET, TARGETS, hardened, make_model, node, value, without_the_way_back

import jr_onnx


def symmetric() -> onnx.ModelProto:
    """As onnxruntime's quantizer writes it with symmetric activations of int8."""
    nodes = [
        node("Gemm", "x w", "a"),
        node("QuantizeLinear", "a s z", "q"),
        node("DequantizeLinear", "q s z", "b"),
        node("Relu", "b", "r"),
        node("QuantizeLinear", "r s z", "t"),
        node("DequantizeLinear", "t s z", "y"),
    ]
    constants = {"w": np.eye(4, dtype=np.float32), "s": np.float32(0.05), "z": np.int8(0)}
    return make_model(nodes, [value("x", shape=("n", 4))], [value("y", shape=("n", 4))], initializers=constants)


@EACH_TARGET
def test_it_is_known_again_as_the_jump_relu_of_numbers_that_it_is(target: str) -> None:
    model = symmetric()
    once = hardened(model, 0.2, **TARGETS[target])
    twice = hardened(hardened(model, 0.7, **TARGETS[target]), 0.2, **TARGETS[target])
    assert without_the_way_back(twice) == without_the_way_back(once)
    assert not jr_onnx.check(model, twice).findings


@pytest.mark.parametrize("target", ["standard", "subgraph", "hard-sigmoid"])
def test_it_is_reverted_without_the_record(target: str) -> None:
    model = symmetric()
    back = jr_onnx.revert(without_the_way_back(hardened(model, 0.2, **TARGETS[target]))).model
    assert back is not None
    assert [one.op_type for one in back.graph.node] == [one.op_type for one in model.graph.node]
