"""`--data` of `optimize` and `bench` is that of `check`: for a model that runs on no random input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support import FLOAT, make_model, node, value

import jr_onnx
from jr_onnx.cli.main import main

#: No size that is tried for an open axis.
COLUMNS = 5
ROWS = 3


@pytest.fixture
def hard(tmp_path: Path) -> Path:
    """A model whose second axis is open and has to be 5, hardened, with a jump input."""
    weights = np.linspace(-1, 1, COLUMNS * 4, dtype=np.float32).reshape(COLUMNS, 4)
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "y")]
    declared = [value("x", FLOAT, ["rows", "columns"])], [value("y", FLOAT, ["rows", 4])]
    onnx.save(make_model(nodes, *declared, initializers={"w": weights}), tmp_path / "model.onnx")
    jr_onnx.convert(tmp_path / "model.onnx", jump=0.5, jump_input="jump", output=tmp_path / "hard.onnx")
    x = np.random.default_rng(0).uniform(-4, 4, (ROWS, COLUMNS))  # float64, NumPy's own type, is rounded
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "jump.npz", x=x, jump=np.float32(0.25))
    np.savez(tmp_path / "other.npz", z=x)
    np.save(tmp_path / "one.npy", x)
    (tmp_path / "text.npz").write_text("x")
    return tmp_path / "hard.onnx"


def test_optimize_compares_on_real_inputs(hard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", str(hard)]) == 0
    out = capsys.readouterr().out
    assert "not compared with the hardened model: the model runs on no random input" in out
    assert "--data" in out
    for name in ("x.npz", "jump.npz", "one.npy"):
        assert main(["optimize", str(hard), "--data", str(hard.with_name(name))]) == 0
        assert "not compared" not in capsys.readouterr().out


def test_optimize_refuses_a_file_that_differs_on_the_real_inputs(hard: Path) -> None:
    """The hardened model's function gives something else than the optimised model's, where the inputs say so."""
    model = onnx.load(hard)
    (model.functions[0].node[-1]).CopyFrom(node("Identity", "X", "Y"))
    onnx.save(model, hard)
    with pytest.raises(jr_onnx.ModelError, match="differs"):
        jr_onnx.optimize(hard, data={"x": np.ones((ROWS, COLUMNS))})
    assert not hard.with_name("hard.optimized.onnx").exists()


def test_bench_runs_on_real_inputs_which_give_the_batch_size(hard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [hard.with_name("model.onnx"), hard]  # only the second takes a jump
    assert main(["bench", *map(str, both), "--rounds", "2"]) == 2
    assert "--data" in capsys.readouterr().err
    report = jr_onnx.bench(both, rounds=2, data=hard.with_name("jump.npz"))
    assert [one.batch for one in report.timings] == [ROWS, ROWS]
    assert main(["bench", str(hard), "--rounds", "2", "--data", str(hard.with_name("x.npz")), "--batch", "8"]) == 2
    assert "--batch 8: --shape or --data of 'x' has the fixed size 3" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["optimize", "bench"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.npz", "none.npz"),
        ("text.npz", "not an NPZ file"),
        ("other.npz", "other.npz: has no array 'x'; it has z"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    hard: Path, command: str, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(hard.parent.iterdir())
    assert main([command, str(hard), "--data", str(hard.with_name(name))]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(hard.parent.iterdir()) == before


def test_the_data_are_not_replaced_by_the_output(hard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = hard.with_name("x.npz")
    before = data.read_bytes()
    assert main(["optimize", str(hard), "--data", str(data), "-o", str(data)]) == 2
    assert "x.npz: is what is read as data; choose another --output" in capsys.readouterr().err
    assert data.read_bytes() == before


def test_a_file_for_cuda_is_not_run(hard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", str(hard), "--provider", "cuda", "--data", str(hard.with_name("x.npz"))]) == 2
    assert "--data: a file for CUDA is not run; leave the data out" in capsys.readouterr().err
