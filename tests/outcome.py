"""What a command did, by way of the command line's own entry."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from jr_onnx.cli.main import main


class Outcome:
    """What a command did: its exit code, what it printed, and the files that were not there before."""

    def __init__(self, folder: Path, arguments: tuple[object, ...]) -> None:
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                self.code = main([str(argument) for argument in arguments])
            except SystemExit as exited:  # argparse's way out
                self.code = int(exited.code or 0)
        self.out, self.err = out.getvalue(), err.getvalue()
        after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert {path: after.get(path) for path in before} == before, "a file changed"
        self.new = sorted(path.name for path in after.keys() - before.keys())

    def is_refusal(self) -> bool:
        """One line on stderr, nothing on stdout, no file."""
        one_line = self.err.endswith("\n") and len(self.err.splitlines()) == 1
        return self.code == 2 and one_line and not self.out and not self.new


def refusal(folder: Path, *arguments: object) -> str:
    """Run a command that must refuse; what it says after its own name."""
    outcome = Outcome(folder, arguments)
    assert outcome.is_refusal(), vars(outcome)
    return outcome.err.removeprefix(f"jr-onnx {arguments[0]}: ").rstrip("\n")
