"""The first table of docs/robustness.md, about networks in this repository: what a jump seems to buy, and what it buys.

    python benchmarks/headline.py

Two networks, with plain ReLU and with jumps, under the attacks that `jr-onnx evaluate` runs by default, on all 360 test
images. It prints Markdown; some minutes on two cores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx

import jr_onnx
from jr_onnx.cli.outputs import stages_bar
from jr_onnx.robustness.attacks.target import Effort
from jr_onnx.robustness.dataset import Dataset, load_data
from jr_onnx.robustness.evaluation.campaign import run_campaign
from jr_onnx.text import eps_text

MODELS = Path(__file__).parents[1] / "models"

#: Network -> an eps at which about half of the samples survive without a jump.
NETWORKS: Mapping[str, float] = {"digits": 0.1, "digits_robust": 0.2}

JUMPS = (0.0, 0.1, 0.25, 0.5)


def main() -> int:
    """Print the table; the exit code."""
    started, data = time.perf_counter(), load_data(MODELS / "digits_test.npz")
    print("\n".join(table(data, JUMPS)))
    print(f"\n{len(data)} images, {time.perf_counter() - started:.0f} s")
    return 0


def table(data: Dataset, jumps: Sequence[float], effort: Effort | None = None) -> Iterator[str]:
    """The lines; of the jumps the first is the original's, 0."""
    yield "| network, eps | jump | no attack | true gradient | all attacks | verdict |"
    yield "|---|---|---|---|---|---|"
    for network, eps in NETWORKS.items():
        plain = onnx.load(MODELS / f"{network}.onnx")
        models = {f"{jump:g}": jr_onnx.convert(plain, jump=jump).model or plain for jump in jumps}
        with stages_bar() as bar:
            report = run_campaign(
                models,
                data,
                eps=[eps],
                effort=effort,
                workers=2,
                progress=lambda done, total: bar("attack", done, total),
            )
        for jump, model in report.models.items():
            shares = model.clean_accuracy, model.accuracy(0, adaptive=False), model.accuracy(0)
            verdict = report.verdicts[jump].words if jump in report.verdicts else ""
            first = f"{network}, {eps_text(eps)}" if jump == "0" else ""
            yield f"| {first} | {jump} | {' | '.join(f'{share:.1%}' for share in shares)} | {verdict} |"


if __name__ == "__main__":
    raise SystemExit(main())
