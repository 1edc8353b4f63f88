"""What each choice in the attacks is worth, and how fast they are beside those of adversarial-robustness-toolbox.

    python benchmarks/attacks.py
    python benchmarks/attacks.py lenet_robust.onnx mnist_test.npz --jump 1.5 --eps 0.2 --samples 250

A table of variants of the attack `smooth`, each with one thing other than it is: how many samples survive 4 and 16
starts, and the CPU time. Below it how many samples a second PGD takes through its steps on the digits, ours and ART's
in turn, where torch and ART are installed (`pip install torch adversarial-robustness-toolbox`).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx

import jr_onnx
from jr_onnx.robustness.attacks import ascent
from jr_onnx.robustness.attacks.attack import run
from jr_onnx.robustness.attacks.search import Search
from jr_onnx.robustness.attacks.target import ATTACKS, CYCLE, Effort, Images, Labels, Target
from jr_onnx.robustness.attacks.view import View
from jr_onnx.robustness.dataset import load_data, read_classifier
from jr_onnx.robustness.evaluation.judge import judge_of, ship
from jr_onnx.robustness.evaluation.part import target_of
from jr_onnx.robustness.gradients.backward import RELU, TRUE, Backward, smooth
from jr_onnx.text import table

MODELS = Path(__file__).parents[1] / "models"
DIGITS, DATA = MODELS / "digits.onnx", MODELS / "digits_test.npz"
SMOOTH = ATTACKS["smooth"].backward

#: Of each variant; and how often ours and ART's are timed.
STARTS, ROUNDS = 16, 5


def main() -> None:
    """Print both tables."""
    given = _parser().parse_args()
    dataset = load_data(given.data, classifier=read_classifier(given.model)).sample(given.samples, 0)
    model = jr_onnx.convert(onnx.load(given.model), jump=given.jump).model
    if model is None or dataset.labels is None:
        raise SystemExit("a model in memory and labels are needed")
    judge, images = judge_of(ship(model)), dataset.batch(slice(None))
    target = target_of(judge, dataset, gradient=True)
    right = judge.answers(images, dataset) == dataset.labels
    images, labels = images[right], dataset.labels[right]
    effort = Effort(eps=given.eps, steps=given.steps)
    print(f"{given.model}, jump {given.jump:g}, eps {given.eps:g}: {len(images)} of {len(dataset)} samples are right")
    rows = []
    for name, what in VARIANTS.items():
        left, seconds = what(target, images, labels, effort)
        shares = [f"{100 * number / len(dataset):.1f}" for number in left]
        rows.append((name, *shares, f"{seconds:.1f} s"))
        print("  ".join(rows[-1]), flush=True)
    print("\n".join(table(("variant", f"after {CYCLE} starts", f"after {STARTS}", "CPU"), rows)))
    if all(map(importlib.util.find_spec, ("torch", "art"))):
        _beside_art(given.steps)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=DIGITS)
    parser.add_argument("data", nargs="?", default=DATA)
    parser.add_argument("--jump", type=float, default=0.8)
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--samples", type=int, default=250)
    parser.add_argument("--steps", type=int, default=Effort().steps)
    return parser


Measured = tuple[list[int], float]
Variant = Callable[[Target, Images, Labels, Effort], Measured]


def _variant(backward: Backward = SMOOTH, numbers: range | None = None, **constants: Any) -> Variant:
    """Samples that survive the first cycle and all starts, and CPU seconds.

    Args:
        numbers: of the starts; by default all losses in turn.
        constants: of the module that climbs, in place of its own.
    """
    starts = numbers or range(CYCLE, CYCLE + STARTS)  # not the image itself: every variant starts alike

    def measured(target: Target, images: Images, labels: Labels, effort: Effort) -> Measured:
        left, rows, began = [], np.arange(len(images)), time.process_time()
        with _patched(constants):
            for some in (starts[:CYCLE], starts[CYCLE:]):
                search = Search(ATTACKS["smooth"], target, images[rows], labels[rows], rows, effort)
                view = View(target, backward, images.ndim)
                ascent.ascend(search, view, some)
                rows = rows[~search.done]
                left.append(len(rows))
        return left, time.process_time() - began

    return measured


@contextlib.contextmanager
def _patched(constants: dict[str, Any]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, value in constants.items():
            stack.enter_context(mock.patch.object(ascent, name, value))
        yield


def _constant(share: float) -> Callable[[Search], Callable[[float], Images]]:
    """A step that stays, as a share of eps."""
    return lambda search: lambda _: np.float32(share * search.effort.eps)


def _cosine(search: Search) -> Callable[[float], Images]:
    """A step that falls from eps as half a cosine."""
    return lambda spent: np.float32(search.effort.eps * 0.5 * (1 + np.cos(np.pi * spent)))


#: The starts with one loss alone; see `ascend`.
ONLY = {name: range(CYCLE + rank, CYCLE * (STARTS + 1) + rank, CYCLE) for rank, name in enumerate(("ce", "margin"))}

VARIANTS: dict[str, Variant] = {
    "smooth, as it is": _variant(),
    "step: constant, eps / 16": _variant(_falling=_constant(1 / 16)),
    "step: constant, eps / 4": _variant(_falling=_constant(1 / 4)),
    "step: falls as a cosine": _variant(_falling=_cosine),
    "no momentum": _variant(_MOMENTUM=np.float32(0)),
    "momentum 0.9": _variant(_MOMENTUM=np.float32(0.9)),
    "loss: cross-entropy alone": _variant(numbers=ONLY["ce"]),
    "loss: margin alone": _variant(numbers=ONLY["margin"]),
    "width: 0.05 of the jump": _variant(smooth(0.05)),
    "width: 0.1": _variant(smooth(0.1)),
    "width: 0.25": _variant(smooth(0.25)),
    "width: 0.5": _variant(smooth(0.5)),
    "width: rises from 0.03 to 0.3": _variant(smooth(0.03, 0.3)),
    "gradient of Relu (bpda)": _variant(RELU),
    "true gradient (pgd)": _variant(TRUE),
}


def _beside_art(steps: int) -> None:
    """PGD from one start on the digits classifier, on samples that stay right: both go through all their steps."""
    import torch
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    sys.path.insert(0, str(MODELS))
    from networks import DigitsNet

    torch.set_num_threads(1)
    network = DigitsNet()
    weights = {one.name: onnx.numpy_helper.to_array(one).copy() for one in onnx.load(DIGITS).graph.initializer}
    network.load_state_dict({name: torch.from_numpy(weights[name]) for name in network.state_dict()})
    dataset = load_data(DATA, classifier=read_classifier(DIGITS)).sample(256, 0)
    images, labels = dataset.batch(slice(None)), dataset.labels
    target, eps = target_of(judge_of(ship(DIGITS)), dataset, gradient=True), 1e-6
    theirs = ProjectedGradientDescent(
        PyTorchClassifier(network.eval(), torch.nn.CrossEntropyLoss(), images.shape[1:], 10, clip_values=(0.0, 1.0)),
        norm=np.inf,
        eps=eps,
        eps_step=eps / 4,
        max_iter=steps,
        batch_size=64,
        verbose=False,
    )
    effort = Effort(eps=eps, steps=steps)
    ways: dict[str, Callable[[], object]] = {
        "jr-onnx": lambda: run("pgd", target, images, labels, range(len(images)), effort, starts=range(1)),
        "ART": lambda: theirs.generate(images, labels),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, attack in ways.items():
            began = time.process_time()
            attack()
            taken[name].append(len(images) / (time.process_time() - began))
    said = ", ".join(f"{name} {statistics.median(found):.0f}" for name, found in taken.items())
    ratio = statistics.median(ours / art for ours, art in zip(*taken.values(), strict=True))
    print(f"\nsamples a CPU second through {steps} steps of PGD, digits: {said}: {ratio:.1f} times")


if __name__ == "__main__":
    main()
