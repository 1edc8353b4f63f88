"""What a grid of jumps costs: one session in which the jumps are inputs, against a conversion and a session a jump.

    python benchmarks/tune.py [--jumps 20] [--rounds 5] [--models digits resnet50]

Both ways give the accuracy of every jump on the same samples, from the model in memory to the last prediction, with the
same session options; the one session counts the activations made zero besides, on 256 samples: on all of ResNet-50's
eight, which is its worst case. They run in turn in one process, a round at a time; the figure is the median over the
rounds of their ratio within a round. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

import jr_onnx
from jr_onnx.robustness.dataset import Dataset, load_data, read_classifier
from jr_onnx.robustness.tuning.jump_inputs import harden
from jr_onnx.robustness.tuning.runs import jump_session
from jr_onnx.runtime.data.dataset import batches_of
from jr_onnx.runtime.execution import Session, Way, library_problem

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from architectures import resnet50

MODELS = Path(__file__).parents[1] / "models"
BATCH = 64
WAY = Way("CPUExecutionProvider", not library_problem())

Answers = list[npt.NDArray[np.int64]]


def subject(name: str) -> tuple[onnx.ModelProto, Dataset]:
    """A model, and samples for it: the digits classifier and its test set, eight times, or ResNet-50 and noise."""
    if name == "digits":
        digits = np.load(MODELS / "digits_test.npz")
        return onnx.load(MODELS / "digits.onnx"), load_data(
            (np.tile(digits["x"], (8, 1, 1, 1)), np.tile(digits["y"], 8))
        )
    pixels = np.random.default_rng(0).random((8, 3, 224, 224), np.float32)
    return resnet50(), load_data((pixels, np.arange(8)))


def one_session(model: onnx.ModelProto, data: Dataset, jumps: Sequence[float]) -> Answers:
    """The way of `jr-onnx tune`."""
    prepared = harden(model, clip=False)
    paths = [path for path, _ in prepared.model.sites]
    with jump_session(prepared, read_classifier(model)) as session:
        found = session.run(data, [dict.fromkeys(paths, jump) for jump in jumps], lambda *_: None)
    return [counts.predictions for counts in found]


def convert_each(model: onnx.ModelProto, data: Dataset, jumps: Sequence[float]) -> Answers:
    """A hardened model for each jump."""
    classifier, answers = read_classifier(model), []
    with TemporaryDirectory() as folder:
        for jump in jumps:
            hardened = jr_onnx.convert(model, jump=jump).model
            assert hardened is not None
            path = Path(folder) / "hardened.onnx"
            path.write_bytes(hardened.SerializeToString())
            session = Session(path, WAY, threads=0)
            scores = [
                session.run(classifier.feed(data.normalise(data.batch(rows))))[classifier.output]
                for rows, _ in batches_of(len(data), classifier.batch_size, BATCH)
            ]
            answers.append(classifier.predictions(np.concatenate(scores)))
    return answers


def measure(name: str, jumps: Sequence[float], rounds: int) -> str:
    """A row of the table; the first round is warm-up and is not in it."""
    model, data = subject(name)
    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        clocks, answers = [time.perf_counter()], []
        for way in (one_session, convert_each):
            answers.append(way(model, data, jumps))
            clocks.append(time.perf_counter())
        assert all(np.array_equal(*pair) for pair in zip(*answers, strict=True)), "the two ways disagree"
        times.append((clocks[1] - clocks[0], clocks[2] - clocks[1]))
    kept = times[1:]
    ratios = [one / each for one, each in kept]
    one, each = (statistics.median(column) for column in zip(*kept, strict=True))
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"| {name}, {len(data)} samples | {len(jumps)} | {one:.2f} s | {each:.2f} s | {ratio} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jumps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=("digits", "resnet50"), default=("digits", "resnet50"))
    arguments = parser.parse_args()
    jumps = [0.05 * number for number in range(arguments.jumps)]
    library = "with" if WAY.library else "without"
    print(f"onnxruntime {onnxruntime.__version__}, {library} the kernel library, {arguments.rounds} rounds\n")
    print("| model | jumps | one session | convert each | one / each |\n|---|--:|--:|--:|--:|")
    for name in arguments.models:
        print(measure(name, jumps, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
