"""Where jr-onnx keeps what can be made again: optimised models, and the finished parts of long work."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`jr-onnx` in the user's cache folder; safe to delete. A relative XDG_CACHE_HOME does not count.

    Source: XDG Base Directory Specification.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "jr-onnx"
