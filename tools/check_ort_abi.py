"""Prove the hand-written C ABI in custom_ops/src/ort_abi.h against onnxruntime's official headers.

    python tools/check_ort_abi.py [--include FOLDER]

Without --include, Debian's libonnxruntime-dev is downloaded from the mirror that this machine's apt uses and unpacked
into a temporary folder; nothing is installed. Exit code: 0 proved, 1 the declarations are wrong, 77 not run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE, SUITE = "libonnxruntime-dev", "trixie"
PROVED, WRONG, NOT_RUN = 0, 1, 77


class NotRunError(Exception):
    """The headers, or a compiler, cannot be had here."""


def download_headers(folder: Path) -> Path:
    """Unpack the package into `folder`; the folder with the C header."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise NotRunError("there is no apt here")
    mirror = _mirror()
    keys = next(Path("/usr/share/keyrings").glob("debian-archive-keyring.*"), None)
    signed = f"[signed-by={keys}] " if keys else ""
    (folder / "sources.list").write_text(f"deb {signed}{mirror} {SUITE} main\n")
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "cache" / "archives" / "partial").mkdir(parents=True)
    places = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
    }
    options = [part for key, value in places.items() for part in ("-o", f"{key}={value}")]
    for command in (["update"], ["download", PACKAGE]):
        _run(["apt-get", *options, "-qq", *command], folder)
    _run(["dpkg", "-x", str(next(folder.glob(f"{PACKAGE}_*.deb"))), "unpacked"], folder)
    return next(folder.glob("unpacked/**/onnxruntime_c_api.h")).parent


def _mirror() -> str:
    listed = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], Path.cwd())
    mirrors = [uri for uri in listed.split() if uri.rstrip("/").endswith("/debian")]
    if not mirrors:
        raise NotRunError("this machine's apt has no Debian mirror")
    return mirrors[0]


def _run(command: list[str], folder: Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        raise NotRunError(f"{' '.join(command[:1])}: {(result.stderr or result.stdout).strip().splitlines()[-1:]}")
    return result.stdout


def check(include: Path) -> int:
    """Compile the assertions against the headers in `include`."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not compiler:
        raise NotRunError("there is no C++ compiler here")
    header = (include / "onnxruntime_c_api.h").read_text(encoding="utf-8")
    version = re.search(r"#define ORT_API_VERSION (\d+)", header)
    command = [*compiler.split(), "-std=c++17", "-fsyntax-only", f"-I{include}", str(HERE / "check_ort_abi.cc")]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        print(result.stderr)
        print("ABI check: FAILED, custom_ops/src/ort_abi.h is wrong")
        return WRONG
    print(f"ABI check: proved against the headers of API version {version.group(1) if version else '?'}")
    return PROVED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--include", type=Path, help="the folder of onnxruntime_c_api.h; nothing is downloaded")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            return check(args.include or download_headers(Path(folder)))
        except NotRunError as reason:
            print(f"ABI check: NOT RUN, {reason}")
            return NOT_RUN


if __name__ == "__main__":
    sys.exit(main())
