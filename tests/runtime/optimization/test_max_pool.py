"""JumpReLU below a MaxPool gives the bits of JumpReLU above it, for every value, where it is put there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from optimized import Net, jump_relus

import jr_onnx

JUMP = np.float32(0.5)
EDGES = [0.0, -0.0, 0.5, -0.5, float(np.nextafter(JUMP, np.float32(1))), 1e-45, -1e-45, 3.4028234663852886e38]
EDGES += [-3.4028234663852886e38, np.inf, -np.inf, np.nan, 1.0, 2.0, 0.25]
#: Sixteen channels: a whole block of the layout, on every processor.
SHAPE = (1, 16, 5, 6)


def session(above: bool, kernel: int, stride: int, pad: int) -> onnxruntime.InferenceSession:
    """JumpReLU above or below onnxruntime's blocked MaxPool, which takes its input for blocked."""
    pool = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "domain": "com.microsoft.nchwc"}
    steps = [("JumpReLU", ["jump"], {"domain": "jr_onnx"}), ("MaxPool", [], pool)]
    nodes = []
    for (op_type, more, attributes), before, after in zip(steps if above else steps[::-1], "xt", "ty", strict=True):
        nodes.append(helper.make_node(op_type, [before, *more], [after], **attributes))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "pool", [x], [y], [onnx.numpy_helper.from_array(np.asarray(JUMP), "jump")])
    opsets = [helper.make_opsetid(domain, version) for domain, version in [("", 17), ("jr_onnx", 1)]]
    model = helper.make_model(
        graph, opset_imports=[*opsets, helper.make_opsetid("com.microsoft.nchwc", 1)], ir_version=8
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    jr_onnx.register(options)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 1, 2), (5, 3, 0)])
def test_they_commute_bit_for_bit(kernel: int, stride: int, pad: int) -> None:
    above, below = (session(order, kernel, stride, pad) for order in (True, False))

    @given(st.lists(st.sampled_from(EDGES) | st.floats(width=32), min_size=1, max_size=40), st.integers(0, 2**32))
    def commute(values: list[float], seed: int) -> None:
        x = np.random.default_rng(seed).choice(np.array(values, np.float32), SHAPE)
        one, other = (each.run(None, {"x": x})[0] for each in (above, below))
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
        number = ~np.isnan(one)
        np.testing.assert_array_equal(one[number].view(np.uint32), other[number].view(np.uint32))

    commute()


@pytest.mark.parametrize(
    ("attributes", "passes"),
    [({}, True), ({"pads": [1, 1, 1, 1]}, True), ({"ceil_mode": 1}, False), ({"dilations": [2, 2]}, False)],
)
def test_it_stays_above_where_a_window_may_lie_in_the_padding(
    tmp_path: Path, attributes: dict[str, object], passes: bool
) -> None:
    net = Net()
    original = net.save(tmp_path / "net.onnx", net.conv(net.pool(net.relu(net.conv("x")), **attributes)))
    jr_onnx.convert(original, jump=0.5, output=tmp_path / "hard.onnx")
    report = jr_onnx.optimize(tmp_path / "hard.onnx", output=tmp_path / "fast.onnx")
    assert (report.behind, report.below) == (1, int(passes))


def test_it_stays_above_where_something_else_takes_the_value(tmp_path: Path) -> None:
    net = Net()
    r = net.relu(net.conv("x"))
    same = net.node("MaxPool", r, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    original = net.save(tmp_path / "net.onnx", net.conv(net.node("Add", same, net.conv(r))))
    jr_onnx.convert(original, jump=0.5, output=tmp_path / "hard.onnx")
    assert jr_onnx.optimize(tmp_path / "hard.onnx", output=tmp_path / "fast.onnx").below == 0
    assert len(jump_relus(tmp_path / "fast.onnx")) == 1
