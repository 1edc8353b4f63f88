"""What the report of an evaluation shows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from jr_onnx.evaluation.attacking import info_of
from jr_onnx.evaluation.results import EvaluationReport, Example, ModelResult
from jr_onnx.evaluation.verdict import Verdict
from jr_onnx.reporting.contents import Bars, Chart, Contents, Line, Picture, Point, Table, Tone
from jr_onnx.statistics import proportion_interval
from jr_onnx.text import eps_text

CAUTION = (
    "Every number is for these attacks at this effort: a stronger attack may find more, none may find less. "
    "JumpReLU is no replacement for adversarial training."
)


def contents(report: EvaluationReport, command: str = "") -> Contents:
    """The report of one model against its original, which stand first in it."""
    reference, hardened, *_ = report.models.values()
    verdict = report.verdicts[hardened.name]
    named = " against ".join(model.path.name if model.path else model.name for model in (hardened, reference))
    return Contents(
        title=f"{named} under attack",
        words=verdict.words,
        tone=tone(verdict),
        headline=verdict.headline,
        evidence=verdict.evidence,
        facts=_facts(report),
        charts=(_against_eps(report),),
        bars=tuple(
            Bars(
                "activations-zeroed",
                "Positive activations that JumpReLU makes zero",
                tuple((one.layer, one.share, f"jump {one.jump}") for one in layers),
                "On clean samples.",
            )
            for layers in report.zeroed.values()
            if layers
        ),
        tables=tuple(_tables(report)),
        gallery=tuple(_sample(report, example) for example in report.examples if _is_image(example.pixels)),
        command=command,
        caution=CAUTION,
    )


def tone(verdict: Verdict) -> Tone:
    """How a verdict is coloured."""
    if verdict.gain == "WORSE" or verdict.masking:
        return "bad"
    return "good" if verdict.gain == "GAIN" else "neutral"


def _facts(report: EvaluationReport) -> tuple[tuple[str, str], ...]:
    settings = report.settings
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    return (
        *((model.name, str(model.path or "in memory")) for model in report.models.values()),
        ("data", f"{settings['data']}, {report.samples} samples"),
        ("labels", str(settings["labels"])),
        ("eps", ", ".join(eps_text(eps) for eps in report.eps)),
        ("attacks", ", ".join(report.attacks)),
        ("effort", f"{settings['steps']} steps, {settings['restarts']} restarts, {settings['queries']} queries"),
        ("seed", str(settings["seed"])),
        ("versions", versions),
        ("time", f"{report.seconds:.1f} s"),
    )


def _against_eps(report: EvaluationReport) -> Chart:
    lines, colors = [], []
    for color, model in enumerate(report.models.values(), 1):
        for name, survives, dashed in (
            ("true gradient only", model.survives_true, True),
            ("all attacks", model.survives, False),
        ):
            lines.append(Line(f"{model.name}, {name}", _points(report, model, survives), dashed))
            colors.append(color)
    return Chart(
        "accuracy-against-eps",
        "Accuracy under attack",
        "eps, in pixels from 0 to 1",
        tuple(lines),
        tuple(colors),
        note="At eps 0: clean accuracy. Bands are 95% intervals. Where a model's dashed line is far above its solid "
        "one, the true gradient is masked, and the dashed line is an illusion.",
    )


def _points(report: EvaluationReport, model: ModelResult, survives: npt.NDArray[np.bool_]) -> tuple[Point, ...]:
    return tuple(_point(x, right) for x, right in ((0.0, model.correct), *zip(report.eps, survives, strict=True)))


def _point(x: float, right: npt.NDArray[np.bool_]) -> Point:
    interval = proportion_interval(int(right.sum()), len(right))
    return Point(x, interval.estimate, interval.low, interval.high)


def _tables(report: EvaluationReport) -> list[Table]:
    models = list(report.models.values())
    header = ["eps", "attack", "gradient"]
    for model in models:
        header += [f"{model.name}: left", "tried", "broke", "failed"]
    rows = []
    for same in zip(*(model.rows for model in models), strict=True):
        first = same[0]
        cells = [eps_text(first.eps), first.attack, gradient_of(first.attack)]
        for row in same:
            cells += [f"{row.accuracy:.1%}", str(row.tried), str(row.broke), str(row.failed)]
        rows.append(tuple(cells))
    note = (
        "Each attack gets the samples that those above it left; one that fell at a smaller eps is not tried again. "
        "Left: share of all samples still right. Failed: gradient zero or not finite, which is no success. The attacks "
        "that follow the true gradient ran first. What they left went to the control, the true gradient with as many "
        "starts as the attacks that adapt have, and to these: neither starts from what the other left."
    )
    tables = [Table("Attack by attack", tuple(header), tuple(rows), note)]
    if models[0].noise:
        noise_rows = [
            (row.attack, model.name, f"{row.fooled} of {row.tried}", _percent(row.mean), _percent(row.median))
            for model in models
            for row in model.noise
        ]
        header = ["attack", "model", "fooled", "mean noise", "median noise"]
        note = (
            "The paper's measure: size of the perturbation over size of the input, both as the model takes them, over "
            "the samples that were fooled. These attacks follow the true gradient: more noise may only mean masking."
        )
        tables.append(Table("Smallest perturbations", tuple(header), tuple(noise_rows), note))
    return tables


def gradient_of(attack: str) -> str:
    """What an attack follows, in a word or two."""
    info = info_of(attack)
    if not info.needs_gradient:
        return "none"
    if info.needs_source:
        return "the original's"
    return {"true": "true", "relu": "of Relu", "smooth": "smooth"}[info.backward.kind]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _is_image(pixels: npt.NDArray[np.float32]) -> bool:
    return pixels.ndim == 3 and (pixels.shape[0] in (1, 3) or pixels.shape[-1] in (1, 3))


def _sample(report: EvaluationReport, example: Example) -> tuple[str, tuple[Picture, ...]]:
    pictures = [Picture("clean", _answers(example.answers), _bytes(example.pixels))]
    for one in example.adversarials:
        change = (one.pixels - example.pixels) / (2 * one.eps) + np.float32(0.5)
        pictures += [
            Picture(f"change, {one.against}", (f"{one.attack}, eps {eps_text(one.eps)}",), _bytes(change)),
            Picture(f"against {one.against}", _answers(one.answers), _bytes(one.pixels)),
        ]
    missed = [name for name in report.models if name not in {one.against for one in example.adversarials}]
    held = f"; {' and '.join(missed)} held up to eps {eps_text(report.eps[-1])}" if missed else ""
    return f"Sample {example.sample}, class {example.label}{held}", tuple(pictures)


def _answers(answers: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{name}: {answer}" for name, answer in answers.items())


def _bytes(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """[H, W, channels] from 0 to 255."""
    last = pixels if pixels.shape[-1] in (1, 3) and pixels.shape[0] not in (1, 3) else pixels.transpose(1, 2, 0)
    levels: npt.NDArray[np.uint8] = np.clip(last * 255 + 0.5, 0, 255).astype(np.uint8)
    return levels
