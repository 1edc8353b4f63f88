"""How many samples are in a part: what a minute is enough for, whatever the clock says."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from evaluation_models import DIGITS, with_jump
from support import FLOAT, make_model, node, value

from jr_onnx.robustness.evaluation.workers import multiplications, shards


def test_the_multiplications_of_a_network_are_counted() -> None:
    convolutions = 16 * 9 * 64 + 32 * 16 * 9 * 64 + 32 * 32 * 9 * 16
    assert multiplications(DIGITS) == convolutions + 32 * 16 * 64 + 64 * 10
    assert multiplications(onnx.load(DIGITS)) == multiplications(with_jump(0.5)) == multiplications(DIGITS)
    ends = [value("x", FLOAT, ["N", 7, 3])], [value("y", FLOAT, ["N", 7, 5])]
    weights = {"w": np.zeros((3, 5), np.float32)}
    assert multiplications(make_model([node("MatMul", "x w", "y")], *ends, initializers=weights)) == 7 * 3 * 5
    unknown = [node("MatMul", "x x", "h"), node("MatMul", "h w", "y")]  # no shape fits, and none is known
    assert multiplications(make_model(unknown, *ends, initializers=weights)) >= 0


@pytest.mark.parametrize(
    ("cost", "size"),
    [(0, 64), (10**9, 64), (3 * 10**10, 16), (10**15, 1)],  # the third is ResNet-20, 800 steps
)
def test_a_part_has_as_many_samples_as_a_minute_is_enough_for(cost: int, size: int) -> None:
    found = shards((100, 3, 32, 32), cost)
    assert [sample for shard in found for sample in shard] == list(range(100))
    assert {len(shard) for shard in found[:-1]} == {size}
