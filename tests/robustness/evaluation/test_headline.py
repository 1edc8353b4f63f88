"""The benchmark behind the first table of README, on a few samples."""

from __future__ import annotations

import runpy
from pathlib import Path

from evaluation_models import QUICK, digits

PROGRAM = Path(__file__).parents[3] / "benchmarks" / "headline.py"


def test_the_table_has_a_line_for_each_network_and_jump() -> None:
    header, _, *lines = runpy.run_path(str(PROGRAM))["table"](digits(12), (0.0, 0.5), QUICK)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, *lines)]
    assert {len(row) for row in cells} == {6}
    assert [row[:2] for row in cells[1:]] == [
        ["digits, 0.1", "0"],
        ["", "0.5"],
        ["digits_robust, 0.2", "0"],
        ["", "0.5"],
    ]
    for row in cells[1:]:
        clean, true, every = (float(cell.strip("%")) for cell in row[2:5])
        assert clean >= true >= every
        assert bool(row[5]) == (row[1] != "0")
