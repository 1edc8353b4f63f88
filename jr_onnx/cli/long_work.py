"""What the commands that work for hours share: they take up where they were, and refuse at once what they must."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from pathlib import Path

from jr_onnx.errors import OptionError, RuntimeMissingError
from jr_onnx.text import count, printable

_INTERRUPTED = 130


def default_journal() -> Path:
    """Where programs keep what can be made again (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jr-onnx"


def command_line() -> str:
    """The command that was typed; empty where it was none of ours."""
    return shlex.join(["jr-onnx", *sys.argv[1:]]) if Path(sys.argv[0]).name == "jr-onnx" else ""


def output_folder_exists(path: Path | None, option: str) -> None:
    """Refuse at once what could not be written after hours of work.

    Raises:
        OptionError: the folder is not there, or the name is one of a folder.
    """
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise OptionError(f"{option} {path}: {'is a folder' if path.is_dir() else 'no such folder'}; name another file")


def interrupted(command: str, finished: int, journal: Path) -> int:
    """Say what an interruption leaves behind; the exit code."""
    kept = f"; {count(finished, 'finished part')} kept in {journal}, the same command takes up from there"
    print(printable(f"jr-onnx {command}: interrupted{kept if finished else ''}"), file=sys.stderr)
    return _INTERRUPTED


def check_plots(folder: Path) -> None:
    """Refuse at once what could not be drawn after hours of work.

    Raises:
        OptionError: the name is one of a file.
        RuntimeMissingError: matplotlib is not installed.
    """
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"--plots {folder}: is a file; name a folder")
    if importlib.util.find_spec("matplotlib") is None:
        raise RuntimeMissingError('--plots needs matplotlib; install it with pip install "jr-onnx[report]"')
