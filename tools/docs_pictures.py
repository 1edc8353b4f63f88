"""The pictures in docs/images: `python tools/docs_pictures.py` makes them anew.

It needs Chromium, and `pip install sarif-tools` for a reader of SARIF. docs/images/web.png is taken by hand.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import onnx
from headless import chromium
from markdown import Markdown
from rich.console import Console
from rich.text import Text

import jr_onnx

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"


def run(command: str, folder: Path) -> str:
    """What a command prints, run with this Python's jr-onnx in a folder that has models/."""
    words = [sys.executable, "-m", *shlex.split(command.replace("jr-onnx", "jr_onnx", 1))]
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


def summary(folder: Path) -> None:
    """What the GitHub action writes into the summary of a job, as a page."""
    markdown = folder / "summary.md"
    variables = {
        "JR_ORIGINAL": "models/digits.onnx",
        "JR_HARDENED": "broken.onnx",
        "GITHUB_STEP_SUMMARY": str(markdown),
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **variables, "JR_ARGUMENTS": "--no-library", "PATH": path}
    subprocess.run(["bash", ROOT / "ci" / "action.sh"], cwd=folder, env=environment, capture_output=True)
    style = (
        "body { font: 14px sans-serif; margin: 16px } pre { background: #f6f8fa; padding: 16px; border-radius: 6px }"
    )
    body = Markdown(extensions=["fenced_code"]).convert(markdown.read_text(encoding="utf-8"))
    html = folder / "summary.html"
    html.write_text(f"<meta charset=utf-8><style>{style}</style><h2>jr-onnx check summary</h2>{body}", encoding="utf-8")
    page("summary", html, (960, 250))


def tradeoff() -> None:
    """Accuracy against the jump, as `jr-onnx tune` measures it, on light and on dark pages."""
    report = jr_onnx.tune(
        ROOT / "models" / "digits.onnx",
        ROOT / "models" / "digits_test.npz",
        grid=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        max_drop=100,
        test_share=0.1,
        attacks=jr_onnx.AttackSettings(eps=0.1, steps=20),
        workers=2,
    )
    jumps = [candidate.choice.jump for candidate in report.candidates]
    lines = {
        "no attack": ("#98a2b3", [candidate.clean for candidate in report.candidates]),
        "attacks along the gradient": ("#2e90fa", [candidate.true_gradient for candidate in report.candidates]),
        "all attacks, those that know JumpReLU too": (
            "#f04438",
            [candidate.adaptive for candidate in report.candidates],
        ),
    }
    for theme, ink in (("light", "#1c2430"), ("dark", "#e6e9ee")):
        style = {"svg.fonttype": "none", "font.family": "sans-serif", "text.color": ink, "axes.labelcolor": ink}
        with plt.rc_context({**style, "xtick.color": ink, "ytick.color": ink, "axes.edgecolor": ink}):
            figure, axes = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
            for name, (colour, shares) in lines.items():
                estimates = [100 * share.estimate for share in shares]
                reach = [
                    [100 * abs(share.estimate - end) for share, end in zip(shares, ends, strict=True)]
                    for ends in ([share.low for share in shares], [share.high for share in shares])
                ]
                axes.errorbar(jumps, estimates, reach, color=colour, fmt="o", elinewidth=1, capsize=3, label=name)
            axes.set(xlabel="jump (0 is ReLU)", ylabel="right answers, %", ylim=(0, 101))
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, loc="lower left")
            figure.savefig(IMAGES / f"tradeoff-{theme}.svg", transparent=True, metadata={"Date": None})
            plt.close(figure)


def broken(hardened: Path, path: Path) -> None:
    """The hardened model, with a Relu that somebody put back."""
    model = onnx.load(hardened)
    (node,) = (node for node in model.graph.node if node.name == "node_relu_2")
    node.op_type, node.domain = "Relu", ""
    del node.input[1:]
    onnx.save(model, path)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    tradeoff()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models").symlink_to(ROOT / "models")
        terminal("inspect", "jr-onnx inspect models/digits.onnx", folder)
        run("jr-onnx convert models/digits.onnx --jump 0.5 -o hard.onnx", folder)
        terminal("check", "jr-onnx check models/digits.onnx hard.onnx", folder)
        run("jr-onnx diff models/digits.onnx hard.onnx --html diff.html", folder)
        page("diff", folder / "diff.html", (1200, 800))
        broken(folder / "hard.onnx", folder / "broken.onnx")
        summary(folder)
        run("jr-onnx check models/digits.onnx broken.onnx --format sarif --output check.sarif", folder)
        terminal("sarif", "sarif summary check.sarif", folder)
        attack = "--data models/digits_test.npz --eps 0.1 --samples 100 --steps 10"
        run(f"jr-onnx evaluate models/digits.onnx hard.onnx {attack} --report report.html", folder)
        page("report", folder / "report.html", (1200, 900))


if __name__ == "__main__":
    main()
