"""The pictures in docs/images: `python tools/docs_pictures.py` makes them anew, with Chromium for those of pages."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from headless import chromium
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"


def run(command: str, folder: Path) -> str:
    """What a command prints, run with this Python's jr-onnx in a folder that has models/."""
    words = [sys.executable, "-m", *shlex.split(command.replace("jr-onnx", "jr_onnx"))]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    if done.returncode > 1:
        sys.exit(f"{command}: {done.stderr}")
    return done.stdout


def terminal(name: str, command: str, folder: Path) -> None:
    """A terminal with a command and what it prints."""
    console = Console(record=True, width=110, file=io.StringIO())
    console.print(f"$ {command}", style="bold", highlight=False)
    console.print(Text.from_ansi(run(command, folder)))
    svg = console.export_svg(title="jr-onnx", unique_id=name)
    # rich names a font that would be fetched; without it the browser's own is taken, squeezed to the same widths.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")
    (IMAGES / f"{name}.svg").write_text(svg, encoding="utf-8")


def page(name: str, html: Path, size: tuple[int, int]) -> None:
    """The first part of a page, as a browser shows it."""
    browser = chromium() or sys.exit("there is no Chromium here")
    window = f"--window-size={size[0]},{size[1]}"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000", window]
    command = [browser, *options, f"--screenshot={IMAGES / name}.png", html.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models").symlink_to(ROOT / "models")
        terminal("inspect", "jr-onnx inspect models/digits.onnx", folder)
        run("jr-onnx convert models/digits.onnx --jump 0.5 -o hard.onnx", folder)
        terminal("check", "jr-onnx check models/digits.onnx hard.onnx", folder)
        run("jr-onnx diff models/digits.onnx hard.onnx --html diff.html", folder)
        page("diff", folder / "diff.html", (1200, 800))
        attack = "--data models/digits_test.npz --eps 0.1 --samples 100 --steps 10"
        run(f"jr-onnx evaluate models/digits.onnx hard.onnx {attack} --report report.html", folder)
        page("report", folder / "report.html", (1200, 900))


if __name__ == "__main__":
    main()
