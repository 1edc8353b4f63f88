"""The journal: finished parts are found again, damaged ones are done again, others' are not taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jr_onnx.errors import OutputError
from jr_onnx.robustness.evaluation.journal import Journal

PARTS = {f"{number} model": {"a": np.arange(number), "b": np.full((2, 3), number, np.float32)} for number in range(4)}


def filled(folder: Path) -> Journal:
    journal = Journal(folder, "0" * 64)
    for name, arrays in PARTS.items():
        journal.put(name, arrays)
    return journal


def same(found: object, expected: dict[str, np.ndarray]) -> bool:
    assert isinstance(found, dict)
    return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)


def test_what_was_put_is_found_by_the_next_run(tmp_path: Path) -> None:
    filled(tmp_path)
    journal = Journal(tmp_path, "0" * 64)
    for name, arrays in PARTS.items():
        assert same(journal.get(name), arrays)
    assert journal.get("9 model") is None


def test_another_campaign_finds_nothing(tmp_path: Path) -> None:
    filled(tmp_path)
    assert Journal(tmp_path, "1" * 64).get("0 model") is None


@given(cut=st.integers(0, 400), noise=st.binary(max_size=40))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_tail_costs_the_parts_in_it_and_no_other(cut: int, noise: bytes, tmp_path_factory: object) -> None:
    folder = tmp_path_factory.mktemp("journal")  # type: ignore[attr-defined]
    lines = filled(folder).folder / "parts.jsonl"
    whole = lines.read_bytes()
    kept = whole[: max(0, len(whole) - cut)]
    lines.write_bytes(kept + noise)
    journal = Journal(folder, "0" * 64)
    finished = kept.count(b"}\n")
    for number, (name, arrays) in enumerate(PARTS.items()):
        found = journal.get(name)
        assert found is None or same(found, arrays)
        assert number >= finished or found is not None, "a line that is whole counts"
    journal.put("0 model", PARTS["0 model"])
    assert same(Journal(folder, "0" * 64).get("0 model"), PARTS["0 model"])


def test_arrays_that_are_damaged_or_gone_are_done_again(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    first, second, *_ = sorted(journal.folder.glob("*.npz"))
    first.write_bytes(first.read_bytes()[:-7])
    second.unlink()
    again = Journal(tmp_path, "0" * 64)
    assert sum(again.get(name) is None for name in PARTS) == 2


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="no journal can be kept there"):
        Journal(tmp_path / "file", "0" * 64)
