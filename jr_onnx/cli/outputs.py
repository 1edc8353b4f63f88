"""What the commands write besides the model: refused before the work where it could not be written after it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jr_onnx.errors import OutputError
from jr_onnx.modelfile.atomic import place_of, temporary_beside


def check_output(path: Path | None, option: str, inputs: Iterable[str | Path]) -> None:
    """Refuse at once what could not be written after the work.

    Args:
        path: the file that is to be written; None where none is asked for.
        inputs: what is read, which nothing may take the place of.

    Raises:
        OutputError: it is an input, is a folder, or nothing can be written there.
    """
    if path is None:
        return
    try:
        if path.is_dir():
            raise OutputError(f"{option} {path}: is a folder; name another file")
        if not path.parent.is_dir():
            raise OutputError(f"{option} {path}: {path.parent}: no such folder; make it, or name another file")
        if path.exists() and any(Path(one).exists() and path.samefile(one) for one in inputs):
            raise OutputError(f"{option} {path}: is what is read; name another file")
        place = place_of(path)
        if place is not None:  # what is no file is written to as it is
            try_to_write(place)
    except OSError as error:
        raise OutputError(f"{option} {path}: cannot be written: {error.strerror or error}; name another") from error


def try_to_write(path: Path) -> None:
    """Make a file beside it, as the writing will, and remove it. Permissions tell little: root has them all."""
    temporary = temporary_beside(path)
    temporary.touch(exist_ok=False)
    temporary.unlink(missing_ok=True)  # another process may have taken it for stale
