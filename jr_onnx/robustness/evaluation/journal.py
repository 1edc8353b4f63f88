"""What is done stays done: finished parts of a campaign on the disk, for a run that was interrupted.

A folder for each campaign, named after a digest of the models, the data and the settings. It holds `parts.jsonl`, to
which a line is appended for each finished part, and the arrays of that part in an NPZ file, which is there before its
line is. A line that is cut off, or whose file is missing or damaged, is a part that was not done.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.errors import OutputError
from jr_onnx.files.atomic import atomic_file

Arrays = Mapping[str, npt.NDArray[Any]]


class Journal:
    """The finished parts of one campaign.

    Args:
        folder: where journals are; made if it is not there.
        digest: of everything that the parts depend on, in hexadecimal.

    Raises:
        OutputError: the folder cannot be made or read.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder = folder / digest[:32]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lines = self.folder / "parts.jsonl"
            self._known = dict(self._read())
        except OSError as error:
            raise OutputError(f"{self.folder}: no journal can be kept there: {error.strerror or error}") from error

    def _read(self) -> list[tuple[str, str]]:
        if not self._lines.exists():
            return []
        found = []
        for line in self._lines.read_bytes().splitlines():
            try:
                entry = json.loads(line)
                found.append((str(entry["part"]), str(entry["sha256"])))
            except (ValueError, KeyError, TypeError):
                continue  # cut off when the machine went down, or damaged: the part is done again
        return found

    def get(self, part: str) -> Arrays | None:
        """The arrays of a finished part; None where it is not done."""
        digest = self._known.get(part)
        if digest is None:
            return None
        try:
            data = self._file(part).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() != digest:
            return None
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def put(self, part: str, arrays: Arrays) -> None:
        """Keep a finished part.

        Raises:
            OutputError: it cannot be written.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub has the names of its own options in mind
        data = buffer.getvalue()
        with atomic_file(self._file(part)) as file:
            file.write(data)
        digest = hashlib.sha256(data).hexdigest()
        line = json.dumps({"part": part, "sha256": digest})
        try:
            with self._lines.open("ab") as lines:
                # The newline before, too: the line before may have been cut off.
                lines.write(f"\n{line}\n".encode())
                lines.flush()
                os.fsync(lines.fileno())
        except OSError as error:
            raise OutputError(f"{self._lines}: cannot be written: {error.strerror or error}") from error
        self._known[part] = digest

    def _file(self, part: str) -> Path:
        # Names of models are the user's: only the digest of a part's name is safe as a file's.
        return self.folder / f"{hashlib.sha256(part.encode()).hexdigest()[:32]}.npz"
