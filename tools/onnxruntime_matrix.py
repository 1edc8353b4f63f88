"""Run one hardened model by kernel, and by function body, on many versions of onnxruntime, each in a venv of its own.

    python tools/onnxruntime_matrix.py [--versions 1.17.0 newest] [--library PATH] [--keep FOLDER]

Each version must register the kernels and run them. They must give the bits of the definition and, where a shape is not
known, those of the function body. Versions below 1.17 must refuse the kernels with the message that says so.
Exit code: 0, or 1 if any version does not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

VERSIONS = ("1.16.3", "1.17.0", "1.18.0", "1.19.2", "1.21.1", "1.23.2", "1.25.0", "newest")
OLDEST = (1, 17)
PROBE = Path(__file__).resolve().with_name("onnxruntime_probe.py")


def packages(version: str) -> list[str]:
    """onnxruntime and what it needs; the oldest were built for NumPy 1."""
    if version == "newest":
        return ["onnxruntime", "onnx", "numpy"]
    numpy = "numpy<2" if _number(version) < (1, 19) else "numpy"
    return [f"onnxruntime=={version}", "onnx", numpy]


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def probe(version: str, library: Path, folder: Path) -> tuple[bool, str]:
    """Whether one version behaves, and the last line of what it said."""
    python = folder / version / "bin" / "python"
    if not python.exists():
        venv.create(folder / version, with_pip=True)
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages(version)]
    installed = subprocess.run(install, capture_output=True, text=True)
    if installed.returncode:
        return False, f"cannot be installed: {installed.stderr.strip().splitlines()[-1]}"
    refused = version != "newest" and _number(version) < OLDEST
    expected = "refuses" if refused else "runs"
    ran = subprocess.run([str(python), str(PROBE), str(library), expected], capture_output=True, text=True)
    lines = (ran.stdout.strip() or ran.stderr.strip() or f"exit code {ran.returncode}").splitlines()
    return ran.returncode == 0, lines[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", nargs="+", default=VERSIONS)
    parser.add_argument("--library", type=Path, help="default: that of the jr_onnx installed here")
    parser.add_argument("--keep", type=Path, help="keep the venvs in this folder, and use those that are there")
    args = parser.parse_args()
    library = args.library
    if library is None:
        import jr_onnx.runtime

        library = jr_onnx.runtime.library_path()
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        for version in args.versions:
            passed, line = probe(version, library.resolve(), args.keep or Path(temporary))
            print(f"onnxruntime {version:8}  {'ok    ' if passed else 'FAILED'}  {line}", flush=True)
            good = good and passed
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
