"""`optimize --provider cuda`: Add and JumpReLU become one node where that is exact; run on the CPU here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from optimized import CHANNELS, Net, images, residual_net, run

import jr_onnx
from jr_onnx.cli.main import main

CPU = ["CPUExecutionProvider"]


def op_types(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_the_add_of_a_residual_block_goes_into_its_jump_relu(tmp_path: Path) -> None:
    hard, fast = tmp_path / "hard.onnx", tmp_path / "fast.onnx"
    jr_onnx.convert(residual_net(tmp_path / "net.onnx"), jump=0.3, output=hard)
    report = jr_onnx.optimize(hard, output=fast, provider="cuda")
    assert (report.sites, report.with_add, set(report.left.values())) == (4, 2, {"there is no Add in front of it"})
    assert op_types(fast).count("AddJumpReLU") == 2
    assert "Add" not in op_types(fast)
    assert {function.name for function in onnx.load(fast).functions} == {"JumpReLU", "AddJumpReLU"}
    expected = run(jr_onnx.session(hard, providers=CPU), images())
    for kernels in (True, False):
        got = run(jr_onnx.session(fast, providers=CPU, kernels=kernels), images())
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("case", ["broadcast", "shared", "unknown"])
def test_an_add_that_would_not_be_the_same_stays(tmp_path: Path, case: str) -> None:
    net = Net()
    other = net.constant(np.ones((1, CHANNELS, 1, 1))) if case == "broadcast" else net.conv("x")
    total = net.node("Add", net.conv("x"), other)
    r = net.relu(total)
    y = net.node("Mul", r, total) if case == "shared" else net.conv(r)
    path = net.save(tmp_path / "net.onnx", y)
    if case == "unknown":
        model = onnx.load(path)
        model.graph.input[0].type.tensor_type.shape.dim[2].Clear()
        onnx.save(model, path)
    hard, fast = tmp_path / "hard.onnx", tmp_path / "fast.onnx"
    jr_onnx.convert(path, jump=0.3, output=hard)
    assert jr_onnx.optimize(hard, output=fast, provider="cuda").with_add == 0
    assert op_types(fast) == op_types(hard)


def test_per_channel_jumps_and_jump_inputs_go_along(tmp_path: Path) -> None:
    net = Net()
    original = net.save(tmp_path / "net.onnx", net.conv(net.relu(net.node("Add", net.conv("x"), net.conv("x")))))
    hard, fast = tmp_path / "hard.onnx", tmp_path / "fast.onnx"
    for options in ({"jump": tuple(np.linspace(0, 1, CHANNELS))}, {"jump": 0.3, "jump_input": "jump"}):
        jr_onnx.convert(original, output=hard, **options)  # type: ignore[arg-type]
        assert jr_onnx.optimize(hard, output=fast, provider="cuda").with_add == 1
        slow, quick = (jr_onnx.session(path, providers=CPU) for path in (hard, fast))
        feeds = {"x": images(), **({"jump": np.array(0.9, np.float32)} if "jump_input" in options else {})}
        np.testing.assert_allclose(quick.run(None, feeds)[0], slow.run(None, feeds)[0], rtol=2e-5, atol=2e-5)


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hard = tmp_path / "hard.onnx"
    jr_onnx.convert(residual_net(tmp_path / "net.onnx"), jump=0.3, output=hard)
    assert main(["optimize", str(hard), "--provider", "cuda"]) == 0
    out = capsys.readouterr().out
    assert "4 JumpReLUs: 2 with the Add in front, 2 left as they were" in out
    assert "not compared with the hardened model: it is for CUDA" in out
    assert main(["optimize", str(hard), "--provider", "cuda", "--level", "basic"]) == 2
    assert "--provider cpu takes a --level of basic, extended, all, and cuda none" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["optimize"], ["convert", "--jump", "1"], ["inspect"]])
def test_a_model_for_cuda_is_told_from_others(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    hard, fast = tmp_path / "hard.onnx", tmp_path / "fast.onnx"
    jr_onnx.convert(residual_net(tmp_path / "net.onnx"), jump=0.3, output=hard)
    jr_onnx.optimize(hard, output=fast, provider="cuda")
    main([command[0], str(fast), *command[1:]])
    said = capsys.readouterr()
    assert "is optimised for CUDA" in said.out + said.err


def test_what_stays_is_named_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hard = tmp_path / "hard.onnx"
    jr_onnx.convert(residual_net(tmp_path / "net.onnx"), jump=0.3, target="subgraph", output=hard)
    assert main(["optimize", str(hard), "--provider", "cuda"]) == 0
    out = capsys.readouterr().out
    assert "4 JumpReLUs: 0 with the Add in front, 4 left as they were" in out
    assert out.count(": it is not a jr_onnx::JumpReLU; convert with the target custom-op") == 4
