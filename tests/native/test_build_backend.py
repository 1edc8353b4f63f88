"""The build backend on a Python that is too old for jr-onnx: pip runs it before it says so."""

from __future__ import annotations

import ast
from pathlib import Path

BACKEND = Path(__file__).parents[2] / "custom_ops" / "build_backend" / "jr_build.py"


def test_python_3_9_reads_the_backend() -> None:
    """Its syntax, and no `X | Y` of types but in annotations, which are not evaluated."""
    tree = ast.parse(BACKEND.read_text(encoding="utf-8"), feature_version=(3, 9))
    assert any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                setattr(node, name, None)
    unions = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)]
    assert unions == []
