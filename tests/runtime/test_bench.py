"""`jr-onnx bench`: what it measures adds up, and what it is told wrongly it says in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import jr_onnx
from jr_onnx.cli.main import main
from jr_onnx.runtime.bench import _order, _sizes, steps
from jr_onnx.runtime.execution import CannotRunError
from jr_onnx.runtime.measure import op_type_times, ratio, summed

DIGITS = Path(__file__).parents[2] / "models" / "digits.onnx"


@pytest.fixture(scope="module")
def hardened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "digits.jumprelu.onnx"
    jr_onnx.convert(DIGITS, jump=0.5, output=path)
    return path


@pytest.fixture(scope="module")
def report(hardened: Path) -> jr_onnx.BenchReport:
    return jr_onnx.bench([DIGITS, hardened], batches=(1, 4), threads=(1, 2), rounds=3)


def test_every_file_is_timed_at_every_batch_size_and_number_of_threads(report: jr_onnx.BenchReport) -> None:
    seen = [(Path(one.file).name, one.batch, one.threads) for one in report.timings]
    names = ("digits.onnx", "digits.jumprelu.onnx")
    assert sorted(seen) == sorted((name, batch, count) for name in names for batch in (1, 4) for count in (1, 2))
    assert all(one.seconds > 0 for one in report.timings)


def test_the_first_file_is_one_and_the_others_are_compared_with_it(report: jr_onnx.BenchReport) -> None:
    for one in report.timings:
        own = (one.ratio.low, one.ratio.median, one.ratio.high)
        assert own == (1, 1, 1) if one.file == str(DIGITS) else own == tuple(sorted(own)) != (1, 1, 1)


def test_op_types_and_memory_are_those_of_each_file(report: jr_onnx.BenchReport) -> None:
    original, hardened = report.files
    assert "JumpReLU" not in {row.op_type for row in original.op_types}
    assert {row.op_type: row.nodes for row in hardened.op_types}.get("JumpReLU", 0) == 4 or not _has_library()
    assert all(one.peak_bytes > 10**5 for one in report.files)


def _has_library() -> bool:
    try:
        jr_onnx.library_path()
    except jr_onnx.RuntimeMissingError:
        return False
    return True


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    found = ratio([2.0, 4.0, 9.0, 8.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.median, found.low, found.high) == (2.0, 2.0, 2.0)


def test_the_first_run_of_a_profile_is_warm_up() -> None:
    def event(name: str, op_type: str, microseconds: int) -> dict[str, object]:
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": microseconds, "args": {"op_name": op_type}}

    first = [event("a", "Conv", 1000), event("b", "Conv", 1000), event("c", "Relu", 1000)]
    again = [event("a", "Conv", 3), event("b", "Conv", 4), event("c", "Relu", 1)]
    rows = summed([*first, *again, *again, {"cat": "Session", "name": "run", "dur": 9}], 2)
    assert [(row.op_type, row.nodes, round(row.seconds * 1e6)) for row in rows] == [("Conv", 2, 7), ("Relu", 1, 1)]


def test_progress_tells_of_as_many_steps_as_were_announced(hardened: Path) -> None:
    told: list[int] = []
    jr_onnx.bench([DIGITS, hardened], rounds=2, progress=told.append)
    assert sum(told) == steps(2, 1, 1, 2)


def test_the_command_prints_a_table_or_json(hardened: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(DIGITS), str(hardened), "--rounds", "2"]) == 0
    text = capsys.readouterr().out
    assert "digits.jumprelu.onnx" in text
    assert "CPUExecutionProvider" in text
    assert main(["bench", str(DIGITS), str(hardened), "--rounds", "2", "--json", "--batch", "2"]) == 0
    assert [one["batch"] for one in json.loads(capsys.readouterr().out)["timings"]] == [2, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch", "x"], "--batch x"),
        (["--threads", "0"], "--threads 0"),
        (["--rounds", "1"], "--rounds 1: at least 2"),
        (["--provider", "nonesuch"], "no nonesuch"),
        (["--shape", "x"], "--shape x"),
    ],
)
def test_a_wrong_option_is_one_line(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(DIGITS), *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_file_that_is_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("no model")
    assert main(["bench", str(DIGITS), str(path), "--rounds", "2"]) == 2
    error = capsys.readouterr().err
    assert "text.onnx" in error
    assert error.count("\n") == 1


def test_a_file_that_is_missing_is_named_in_plain_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(DIGITS), str(tmp_path / "none.onnx")]) == 2
    assert capsys.readouterr().err == f"jr-onnx bench: {tmp_path / 'none.onnx'}: no such file\n"
    assert main(["bench", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"jr-onnx bench: {tmp_path}: not a file\n"


@pytest.mark.parametrize("models", [1, 2, 3, 6])
def test_every_file_comes_first_as_often_as_every_other(models: int) -> None:
    first = [_order(models, number)[0] for number in range(2 * models)]
    assert sorted(first) == sorted(2 * list(range(models)))


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    """The digits' model for batches of 4 only."""
    model = onnx.load(DIGITS)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, tmp_path / "four.onnx")
    return tmp_path / "four.onnx"


def test_a_batch_size_that_the_model_fixes_otherwise_is_one_line(
    fixed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(fixed), "--batch", "4,8", "--rounds", "2"]) == 2
    error = capsys.readouterr().err
    assert "--batch 8" in error
    assert error.count("\n") == 1


def _batches(report: jr_onnx.BenchReport) -> list[int]:
    return [one.batch for one in report.timings]


def test_the_batch_size_of_a_report_is_the_one_that_the_model_fixes(fixed: Path) -> None:
    assert _batches(jr_onnx.bench([fixed], rounds=2)) == [4]
    assert _batches(jr_onnx.bench([fixed, DIGITS], rounds=2)) == [4, 4]


def test_the_batch_size_of_a_report_is_the_one_that_a_shape_gives() -> None:
    shapes = {"image": (3, 1, 8, 8)}
    assert _batches(jr_onnx.bench([DIGITS], shapes=shapes, rounds=2)) == [3]
    assert _batches(jr_onnx.bench([DIGITS], shapes=shapes, batches=(3,), rounds=2)) == [3]


def test_a_batch_size_other_than_that_of_a_shape_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(DIGITS), "--shape", "image=3,1,8,8", "--batch", "3,8", "--rounds", "2"]) == 2
    error = capsys.readouterr().err
    assert "--batch 8: --shape or --data of 'image' has the fixed size 3" in error
    assert error.count("\n") == 1


def test_a_batch_size_or_number_of_threads_given_twice_is_measured_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert _batches(jr_onnx.bench([DIGITS], batches=(2, 2), threads=(1, 1), rounds=2)) == [2]
    assert main(["bench", str(DIGITS), "--batch", "2,1,2", "--threads", "1,1", "--rounds", "2", "--json"]) == 0
    assert [one["batch"] for one in json.loads(capsys.readouterr().out)["timings"]] == [2, 1]


@pytest.mark.parametrize(
    ("own", "shapes", "asked", "fed"),
    [
        ({"x": ["N", 8]}, {}, (1, 8), (1, 8)),
        ({"x": ["N", 8], "table": [16, 8]}, {}, (), (1,)),
        ({"x": ["N", 8], "steps": ["L", 8]}, {"steps": (5, 8)}, (2,), (2,)),
        ({"x": ["N", 8], "y": ["N", 8]}, {"y": (5, 8)}, (), (5,)),
        ({"x": []}, {"x": (5, 8)}, (), (5,)),
        ({"x": []}, {}, (), (1,)),
    ],
)
def test_the_batch_size_is_that_of_the_inputs_that_leave_it_open_and_of_their_namesakes(
    own: dict[str, list[str | int]], shapes: dict[str, tuple[int, ...]], asked: tuple[int, ...], fed: tuple[int, ...]
) -> None:
    assert _sizes(DIGITS, own, asked, shapes) == fed


def test_a_file_that_does_not_run_on_the_inputs_of_the_first_is_one_line_before_anything_is_measured(
    fixed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[int] = []
    with pytest.raises(
        jr_onnx.ModelError, match=r"four\.onnx: .*give `batches`, `shapes` or `data` that every model takes"
    ):
        jr_onnx.bench([DIGITS, fixed], batches=(4, 8), rounds=2, progress=told.append)
    assert not told
    assert main(["bench", str(DIGITS), str(fixed), "--rounds", "2"]) == 2
    error = capsys.readouterr().err
    assert "four.onnx" in error
    assert error.count("\n") == 1


def test_the_profile_of_a_run_that_fails_is_an_error_that_names_the_file(fixed: Path) -> None:
    with pytest.raises(CannotRunError, match=r"four\.onnx"):
        op_type_times(fixed, "CPUExecutionProvider", 1, {"image": np.zeros((1, 1, 8, 8), np.float32)})


def test_files_with_other_inputs_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(DIGITS)
    old = model.graph.input[0].name
    model.graph.input[0].name = "other"
    for node in model.graph.node:
        node.input[:] = ["other" if name == old else name for name in node.input]
    onnx.save(model, tmp_path / "other.onnx")
    assert main(["bench", str(DIGITS), str(tmp_path / "other.onnx"), "--rounds", "2"]) == 2
    error = capsys.readouterr().err
    assert "other.onnx takes other" in error
    assert error.count("\n") == 1
