"""The experiments of the JumpReLU paper (arXiv 1904.03750) on a network and data of yours, then the attacks that adapt.

    python benchmarks/reproduce_paper.py lenet.onnx mnist_test.npz --samples 500

The paper's part: clean accuracy on all samples; accuracy under IFGSM with the authors' protocol (steps of 0.01 in
normalised space, no other bound); and the relative noise that DeepFool and the trust region attack need. What it leaves
out: projected gradient ascent within eps, by the true gradient and then by the gradients that get around JumpReLU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

import jr_onnx
from jr_onnx.cli.arguments import drawn, fraction, number
from jr_onnx.cli.outputs import stages_bar
from jr_onnx.errors import JrOnnxError, OptionError
from jr_onnx.robustness.attacks.target import Effort
from jr_onnx.robustness.dataset import Dataset, load_data, read_classifier
from jr_onnx.robustness.evaluation.campaign import checked_eps, run_campaign
from jr_onnx.robustness.evaluation.judge import judge_of, ship
from jr_onnx.robustness.evaluation.report import EvaluationReport
from jr_onnx.robustness.statistics import proportion_interval
from jr_onnx.text import printable, table

PAPER = ("ifgsm", "deepfool-l2", "trust-region")
WITHIN_EPS = ("pgd", "smooth", "bpda", "transfer", "square")

_BATCH = 256

Models = Mapping[str, onnx.ModelProto]


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything and print it as tables; the exit code."""
    try:
        _run(_parser().parse_args(argv))
    except JrOnnxError as error:
        print(printable(f"reproduce_paper: {error}"), file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The paper's experiments, and the attacks that adapt.")
    parser.add_argument("model", type=Path, help="the network with ReLU")
    parser.add_argument("data", help="samples, as `jr-onnx evaluate --data` takes them")
    parser.add_argument("--jumps", default="0,0.5,1.0,1.5", help="default: those of the paper for MNIST")
    parser.add_argument("--samples", type=int, default=500, help="attacked, drawn by the seed (default: 500)")
    parser.add_argument("--eps", default="0.1,0.2", help="in pixels from 0 to 1 (default: 0.1,0.2)")
    parser.add_argument("--ifgsm-steps", type=int, default=40, help="the authors take 40 for MNIST, 7 for CIFAR-10")
    parser.add_argument("--steps", type=int, default=40, help="of every other attack (default: 40)")
    parser.add_argument("--queries", type=int, default=500, help="of Square (default: 500)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--journal", type=Path, help="a folder, to go on from if this is interrupted")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _run(given: argparse.Namespace) -> None:
    eps = checked_eps([fraction("--eps", text) for text in given.eps.split(",")])
    dataset = load_data(given.data, classifier=read_classifier(given.model))
    attacked = drawn(dataset, given.samples, given.seed)
    models = {jump: _hardened(given.model, number("--jumps", jump)) for jump in given.jumps.split(",")}
    _print_clean(models, dataset)

    def campaign(attacks: Sequence[str], eps: Sequence[float], effort: Effort) -> EvaluationReport:
        with stages_bar() as bar:
            return run_campaign(
                models,
                attacked,
                eps=eps,
                attacks=attacks,
                effort=effort,
                seed=given.seed,
                workers=given.workers,
                journal=given.journal,
                progress=lambda done, total: bar(", ".join(attacks)[:30], done, total),
            )

    # All pixels are within 1 of each other: this eps is no bound.
    _print_paper(campaign(PAPER, [1.0], Effort(steps=given.ifgsm_steps)))
    _print_within_eps(campaign(WITHIN_EPS, eps, Effort(steps=given.steps, queries=given.queries)))


def _hardened(model: Path, jump: float) -> onnx.ModelProto:
    """Jump 0 too: it is JumpReLU, and equal to ReLU."""
    found = jr_onnx.convert(onnx.load(model), jump=jump).model
    if found is None:
        raise TypeError("a conversion in memory gives a model")
    return found


def _print_clean(models: Models, dataset: Dataset) -> None:
    if dataset.labels is None:
        raise OptionError(f"{dataset.name}: has no labels")
    rows = []
    for jump, model in models.items():
        judge, right = judge_of(ship(model)), 0
        for start in range(0, len(dataset), _BATCH):
            chosen = slice(start, start + _BATCH)
            right += int((judge.answers(dataset.batch(chosen), dataset) == dataset.labels[chosen]).sum())
        interval = proportion_interval(right, len(dataset))
        limits = f"{interval.low:.2%} to {interval.high:.2%}"
        rows.append((jump, f"{interval.estimate:.2%}", limits))
    print(f"\nClean accuracy on {len(dataset)} samples")
    print("\n".join(table(("jump", "accuracy", "95% interval"), rows)), flush=True)


def _print_paper(report: EvaluationReport) -> None:
    rows = []
    for jump, model in report.models.items():
        ifgsm = next(row for row in model.rows if row.attack == "ifgsm")
        noise = [
            f"{one.mean:.1%} ({one.fooled} of {one.tried})" if one.mean is not None else "-" for one in model.noise
        ]
        rows.append((jump, f"{model.clean_accuracy:.1%}", f"{ifgsm.accuracy:.1%}", *noise))
    attacks = [f"{row.attack}: mean relative noise" for row in next(iter(report.models.values())).noise]
    print(f"\nThe paper's attacks, {report.samples} samples, {report.settings['steps']} steps, {report.seconds:.0f} s")
    print("\n".join(table(("jump", "clean", "IFGSM accuracy", *attacks), rows)), flush=True)


def _print_within_eps(report: EvaluationReport) -> None:
    settings = report.settings
    print(
        f"\nAccuracy left after each attack within eps, {report.samples} samples, {settings['steps']} steps, "
        f"{settings['restarts']} restart(s), {settings['queries']} queries, {report.seconds:.0f} s (each attack gets "
        "what those before it left)"
    )
    rows = []
    for eps in report.eps:
        for jump, model in report.models.items():
            rows.append((f"{eps:g}", jump, *(f"{row.accuracy:.1%}" for row in model.rows if row.eps == eps)))
    first = next(iter(report.models.values()))
    attacks = [row.attack for row in first.rows if row.eps == report.eps[0]]
    print("\n".join(table(("eps", "jump", *attacks), rows)))
    for jump, verdict in report.verdicts.items():
        print(f"\njump {jump}: {verdict.words}: {verdict.headline}")
        print("\n".join(verdict.evidence))


if __name__ == "__main__":
    raise SystemExit(main())
