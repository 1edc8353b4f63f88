"""The memory of one model, measured in a process of its own: in a shared one, the models cannot be told apart.

Run as a program: python -m jr_onnx.benching.peak MODEL PROVIDER THREADS FEEDS.npz
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from jr_onnx.benching.sessions import open_session, taken
from jr_onnx.running.ways import Arrays, CannotRunError, onnxruntime, runtime


def peak_memory(path: Path, provider: str, threads: int, feeds: Arrays) -> int:
    """Bytes by which a process grows from before the session is made to the end of a run.

    Raises:
        CannotRunError: the process fails.
    """
    with tempfile.TemporaryDirectory(prefix="jr-onnx-bench-") as folder:
        inputs = Path(folder) / "feeds.npz"
        # Their names apart: an input may have a name that is none for a file in an archive.
        np.savez(inputs, np.array(list(feeds)), *feeds.values())
        command = [sys.executable, "-m", __name__, str(path), provider, str(threads), str(inputs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise CannotRunError(f"{path}: {said[-1] if said else f'exit code {done.returncode}'}")
    return int(done.stdout.split()[-1])


def _resident(key: str) -> int:
    """VmRSS or VmHWM in bytes (Linux); 0 elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


def _main(model: str, provider: str, threads: str, feeds: str) -> None:
    with np.load(feeds) as file:
        inputs = {str(name): file[f"arr_{number}"] for number, name in enumerate(file["arr_0"], 1)}
    onnxruntime()
    runtime()
    before = _resident("VmRSS")  # the libraries are the same for every model
    session = open_session(Path(model), provider, int(threads))
    session.run(None, taken(session, inputs))
    print(_resident("VmHWM") - before)


if __name__ == "__main__":
    _main(*sys.argv[1:])
