"""Where the examples are, and how numbers get into them."""

from __future__ import annotations

from pathlib import Path

from support import Array

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def as_text(array: Array) -> str:
    """Numbers for the standard input of an example."""
    return "\n".join(map(str, array.reshape(-1).tolist()))
