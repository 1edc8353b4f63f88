"""Sessions on optimised models: refused where they do not belong, and made and kept at load time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from optimized import images, residual_net, run

import jr_onnx
from jr_onnx.files.atomic import cache_folder
from jr_onnx.runtime.optimization import cache, machine
from jr_onnx.runtime.optimization.cache import cached
from jr_onnx.runtime.optimization.optimize import NotOptimizedError

CPU = ["CPUExecutionProvider"]


@pytest.fixture
def hard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "hard.onnx"
    jr_onnx.convert(residual_net(tmp_path / "net.onnx"), jump=0.3, output=path)
    return path


@pytest.mark.parametrize(
    ("elsewhere", "said"),
    [
        # A name that no processor lists: any other may be among the flags of the machine that runs this.
        (lambda m: replace(m, cpu_flags=(*m.cpu_flags, "avx-of-another-machine")), "with avx-of-another-machine"),
        (lambda m: replace(m, cpu_flags=()), "without "),
        (lambda m: replace(m, architecture="riscv64", cpu_flags=()), "riscv64"),
        (lambda m: replace(m, onnxruntime="1.17.0"), "onnxruntime 1.17.0"),
    ],
)
def test_a_model_for_another_machine_is_refused_with_the_command_that_makes_it_again(
    hard: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: Callable[[machine.Machine], machine.Machine], said: str
) -> None:
    fast = hard.with_name("fast.onnx")
    jr_onnx.optimize(hard, output=fast)
    here = machine.this_machine("all")
    monkeypatch.setattr("jr_onnx.runtime.sessions.this_machine", lambda _: elsewhere(here))
    with pytest.raises(jr_onnx.ModelError, match="jr-onnx optimize") as caught:
        jr_onnx.session(fast)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_optimizing_at_load_time_gives_the_same_values_and_keeps_the_file(hard: Path, tmp_path: Path) -> None:
    first = run(jr_onnx.session(hard, optimize=True), images())
    kept = list((tmp_path / "cache" / "jr-onnx").rglob("*"))
    times = [path.stat().st_mtime_ns for path in kept]
    again = run(jr_onnx.session(hard, optimize=True), images())
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, run(jr_onnx.session(hard, providers=CPU), images()), rtol=2e-5, atol=2e-5)
    assert sorted(path.name for path in kept if path.is_file()) == ["model.onnx", "stamp"]
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_another_weight_is_another_model(hard: Path) -> None:
    before = run(jr_onnx.session(hard, optimize=True), images())
    model = onnx.load(hard)
    weights = np.frombuffer(model.graph.initializer[0].raw_data, np.float32).copy()
    weights[100] += 1
    model.graph.initializer[0].raw_data = weights.tobytes()
    onnx.save(model, hard)
    after = run(jr_onnx.session(hard, optimize=True), images())
    assert (before != after).any()
    np.testing.assert_allclose(after, run(jr_onnx.session(hard, providers=CPU), images()), rtol=2e-5, atol=2e-5)


def test_weights_that_come_with_the_time_and_size_of_others_are_noticed(hard: Path) -> None:
    """As a copy that keeps times makes it, or an image whose files all have one time."""
    jr_onnx.session(hard, optimize=True)
    status = hard.stat()
    model = onnx.load(hard)
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, hard)
    os.utime(hard, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (hard.stat().st_size, hard.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    after = run(jr_onnx.session(hard, optimize=True), images())
    np.testing.assert_allclose(after, run(jr_onnx.session(hard, providers=CPU), images()), rtol=2e-5, atol=2e-5)


_OPENED = """
import sys, jr_onnx, onnxruntime
sys.addaudithook(lambda event, given: event == "open" and print(given[0]))
jr_onnx.session(sys.argv[1], optimize=True)
"""


def test_a_session_on_what_is_kept_reads_no_weights_but_for_onnxruntime(hard: Path, tmp_path: Path) -> None:
    """The data are external, here and in the cache: nothing in Python opens them."""
    model = onnx.load(hard)
    onnx.save_model(model, hard, save_as_external_data=True, location="data", size_threshold=1000)
    first = run(jr_onnx.session(hard, optimize=True), images())
    command = [sys.executable, "-c", _OPENED, hard]
    opened = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()
    (kept,) = (tmp_path / "cache" / "jr-onnx").iterdir()
    expected = {str(hard), str(kept / "model.onnx"), str(kept / "stamp")}
    assert {path for path in opened if path.startswith(str(tmp_path))} == expected
    data = tmp_path / "data"
    data.write_bytes(bytes(data.stat().st_size))
    assert (run(jr_onnx.session(hard, optimize=True), images()) != first).any()


def test_an_optimised_model_needs_no_cache(hard: Path, tmp_path: Path) -> None:
    fast = hard.with_name("fast.onnx")
    jr_onnx.optimize(hard, output=fast)
    assert cached(fast) == fast
    assert not (tmp_path / "cache").exists()


def test_many_processes_may_optimise_the_same_model_at_once(hard: Path, tmp_path: Path) -> None:
    program = "import sys, jr_onnx; print(jr_onnx.session(sys.argv[1], optimize=True).get_inputs()[0].name)"
    command = [sys.executable, "-c", program, hard]
    # Elsewhere than in the source tree, which has no kernels and would be imported in place of the installed package.
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) for _ in range(4)]
    assert [worker.communicate()[0] for worker in workers] == [b"x\n"] * 4
    kept = [path.name for path in (tmp_path / "cache" / "jr-onnx").rglob("*") if path.is_file()]
    assert sorted(kept) == ["model.onnx", "stamp"]


def test_where_nothing_can_be_kept_the_hardened_model_runs_and_a_warning_says_why(
    hard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="is run as it is, not optimised: .*set XDG_CACHE_HOME") as caught:
        session = jr_onnx.session(hard, optimize=True)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(run(session, images()), run(jr_onnx.session(hard, providers=CPU), images()))


def test_where_the_optimised_form_is_wrong_the_hardened_model_runs_and_a_warning_says_why(
    hard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotOptimizedError("output 'y' of its optimised form differs")

    monkeypatch.setattr("jr_onnx.runtime.optimization.optimize.verify", refuse)
    with pytest.warns(UserWarning, match="hard.onnx: output 'y' of its optimised form differs"):
        assert jr_onnx.session(hard, optimize=True)
    assert not list((tmp_path / "cache" / "jr-onnx").iterdir())


def test_a_model_that_changes_while_it_is_optimised_leaves_nothing_stale(
    hard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other model is there just while it is optimised, and gone again after that."""
    first = hard.read_bytes()
    other = onnx.load(hard)
    other.graph.initializer[0].raw_data = bytes(len(other.graph.initializer[0].raw_data))
    expected = run(jr_onnx.session(hard, providers=CPU), images())

    def changing(*given: object, **options: object) -> object:
        onnx.save(other, hard)
        try:
            return jr_onnx.optimize(*given, **options)  # type: ignore[arg-type]
        finally:
            hard.write_bytes(first)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "optimize", changing)
        with pytest.warns(UserWarning, match="is run as it is, not optimised: it was written to meanwhile"):
            session = jr_onnx.session(hard, optimize=True)
    np.testing.assert_array_equal(run(session, images()), expected)
    assert not list((tmp_path / "cache" / "jr-onnx").iterdir())
    np.testing.assert_allclose(run(jr_onnx.session(hard, optimize=True), images()), expected, rtol=2e-5, atol=2e-5)


def test_optimizing_at_load_time_is_for_the_cpu(hard: Path) -> None:
    with pytest.raises(jr_onnx.OptionError, match="CPUExecutionProvider"):
        jr_onnx.session(hard, optimize=True, providers=["CUDAExecutionProvider"])


def test_a_model_for_the_cpu_runs_there_by_default_and_nowhere_else(hard: Path) -> None:
    fast = hard.with_name("fast.onnx")
    jr_onnx.optimize(hard, output=fast)
    assert jr_onnx.session(fast).get_providers() == CPU
    with pytest.raises(jr_onnx.OptionError, match="CPUExecutionProvider"):
        jr_onnx.session(fast, providers=["CUDAExecutionProvider", *CPU])


def test_the_callers_session_options_stay_as_they_were(hard: Path) -> None:
    fast = hard.with_name("fast.onnx")
    jr_onnx.optimize(hard, output=fast)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    jr_onnx.session(fast, providers=CPU, session_options=options)
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED


def test_without_known_vector_instructions_there_is_no_blocked_layout(
    hard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_cpu_flags", tuple)
    with pytest.raises(jr_onnx.ModelError, match="`level='extended'`"):
        jr_onnx.optimize(hard, output=hard.with_name("fast.onnx"))
    assert run(jr_onnx.session(hard, optimize=True), images()).shape
    unknown = machine.Machine("AMD64", (), "1.0", "all")
    assert "not known" in unknown.differences(unknown)


_RECORD = '{"architecture": "a", "onnxruntime": "1", "level": "all", "cpu_flags": %s}'


@pytest.mark.parametrize(
    "record",
    [
        "{",
        "[]",
        '{"cpu_flags": []}',
        '{"new": 1, "cpu_flags": []}',
        "[" * 100_000,
        *(_RECORD % flags for flags in ('"avx"', '[["a"]]', '[1, "a"]')),
    ],
    ids=lambda record: record[:80],
)
def test_a_damaged_record_of_the_machine_is_one_line(hard: Path, record: str) -> None:
    fast = hard.with_name("fast.onnx")
    jr_onnx.optimize(hard, output=fast)
    model = onnx.load(fast)
    next(entry for entry in model.metadata_props if entry.key == "jr_onnx.optimized_for").value = record
    onnx.save(model, fast)
    with pytest.raises(jr_onnx.ModelError, match="damaged"):
        jr_onnx.session(fast, providers=CPU)


@pytest.mark.parametrize("damage", ["junk", "weights", "no stamp"])
def test_a_damaged_file_in_the_cache_is_made_again(hard: Path, tmp_path: Path, damage: str) -> None:
    first = run(jr_onnx.session(hard, optimize=True), images())
    (kept,) = (tmp_path / "cache" / "jr-onnx").rglob("*.onnx")
    content = kept.read_bytes()
    middle = len(content) // 2
    if damage == "no stamp":
        kept.with_name("stamp").unlink()
    zeroed = content[:middle] + bytes(2000) + content[middle + 2000 :]
    kept.write_bytes(b"junk" if damage == "junk" else zeroed)
    np.testing.assert_array_equal(run(jr_onnx.session(hard, optimize=True), images()), first)


def test_who_may_not_read_the_model_may_not_read_what_the_cache_keeps(hard: Path, tmp_path: Path) -> None:
    hard.chmod(0o600)
    jr_onnx.session(hard, optimize=True)
    (kept,) = (tmp_path / "cache" / "jr-onnx").rglob("*.onnx")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_a_relative_cache_folder_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "jr-onnx"
