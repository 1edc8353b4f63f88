"""What the report of an evaluation or of a tuning shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from jr_onnx.conversion.policy import jump_text
from jr_onnx.robustness.attacks.target import ATTACKS
from jr_onnx.robustness.evaluation.report import EvaluationReport, Example
from jr_onnx.robustness.evaluation.verdict import Verdict
from jr_onnx.robustness.reporting.contents import Bars, Chart, Contents, Picture, Series, Table, Tone
from jr_onnx.robustness.statistics import Interval, proportion_interval, share_of
from jr_onnx.robustness.tuning.report import Candidate, TuningReport
from jr_onnx.text import count, eps_text, points_text

CAUTION = (
    "Every number is for these attacks at this effort: a stronger attack may find more, none may find less. "
    "JumpReLU is no replacement for adversarial training."
)


def evaluation_contents(report: EvaluationReport, command: str = "") -> Contents:
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
        facts=_evaluation_facts(report),
        charts=(_against_eps(report), *_against_effort(report)),
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
    if verdict.outcome in ("WORSE", "TOO COSTLY") or verdict.masking:
        return "bad"
    return "good" if verdict.outcome == "GAIN" else "neutral"


def _evaluation_facts(report: EvaluationReport) -> tuple[tuple[str, str], ...]:
    settings = report.settings
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    return (
        *((model.name, str(model.path or "in memory")) for model in report.models.values()),
        ("data", f"{settings['data']}, {report.samples} samples"),
        ("labels", str(settings["labels"])),
        ("eps", ", ".join(eps_text(eps) for eps in report.eps)),
        ("budget", f"{points_text(settings['max_drop'])} of clean accuracy"),
        ("attacks", ", ".join(report.attacks)),
        ("effort", f"{settings['steps']} steps, {settings['restarts']} restarts, {settings['queries']} queries"),
        ("seed", str(settings["seed"])),
        ("versions", versions),
        ("time", f"{report.seconds:.1f} s"),
    )


#: Where "true gradient" first stands on a page.
_TRUE_GRADIENT = (
    "The true gradient is the model's own slope, which attacks follow that know nothing of JumpReLU. Where a hollow "
    "point is far above the full one beside it, the model only misleads them (gradient masking)."
)


def _against_eps(report: EvaluationReport) -> Chart:
    series = []
    for color, model in enumerate(report.models.values(), 1):
        for name, survives, hollow in (
            ("attacks on the true gradient", model.survives_true, True),
            ("all attacks", model.survives, False),
        ):
            shares = tuple(share_of(right) for right in (model.correct, *survives))
            series.append(Series(f"{model.name}, {name}", color, shares, hollow))
    return Chart(
        "accuracy-against-eps",
        "Samples that survive",
        "eps: how much each pixel may change, of a range from 0 to 1",
        ("0 (no attack)", *map(eps_text, report.eps)),
        tuple(series),
        note=f"Bars are 95% intervals. {_TRUE_GRADIENT}",
    )


def _against_effort(report: EvaluationReport) -> Iterator[Chart]:
    """Whether the attacks have converged, at each eps at which the effort was doubled."""
    models = report.models.values()
    for index, eps in enumerate(report.eps):
        curves = [model.convergence[index] if model.convergence else () for model in models]
        efforts = sorted({one.effort for curve in curves for one in curve})
        if len(efforts) > 1:
            found = [{one.effort: one.survivors for one in curve} for curve in curves]
            yield Chart(
                f"effort-{index}",
                f"As the attacks try harder, at eps {eps_text(eps)}",
                "effort, as a multiple of what was asked for",
                tuple(f"{effort} times" for effort in efforts),
                tuple(
                    Series(model.name, color, tuple(_share_at(one, effort, report.samples) for effort in efforts))
                    for color, (model, one) in enumerate(zip(models, found, strict=True), 1)
                ),
                note="Where what survives still falls, more effort would break more, and no gain is called.",
            )


def _share_at(curve: Mapping[int, float], effort: int, samples: int) -> Interval | None:
    return proportion_interval(round(curve[effort] * samples), samples) if effort in curve else None


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
        "The attacks that follow the true gradient and those that adapt are two arms, neither of which knows of the "
        "other; in an arm each gets what those above it left, and Square what both left. A sample that fell at a "
        "smaller eps is not tried again. Left: share of all samples that are right after this attack and those above "
        "it. Failed: the gradient led nowhere, which is no success."
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
    info = ATTACKS[attack]
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


# --- What the report of a tuning shows --------------------------------------------------------------------------------


def tuning_contents(report: TuningReport, command: str = "") -> Contents:
    """The report, which is about the jump that was confirmed, where one was."""
    confirmed = report.confirmation
    verdict = confirmed.verdict if confirmed is not None else None
    shown = [one for one in report.candidates if confirmed is not None and one.choice == confirmed.choice]
    evidence: tuple[str, ...] = ()
    if verdict is not None:
        about = (
            f"Hardened means jump {shown[0].choice.label}, original jump 0; on samples that had no say in the choice."
        )
        evidence = (about, *verdict.evidence)
    return Contents(
        title=f"The jump of {report.source or 'a model in memory'}",
        words="NO JUMP" if report.chosen is None else f"JUMP {report.chosen.choice.label}",
        tone=tone(verdict) if verdict is not None and report.chosen is not None else "neutral",
        headline=f"{report.sentence[0].upper()}{report.sentence[1:]}.",
        evidence=evidence,
        facts=_tuning_facts(report),
        charts=(_trade_off(report, shown),),
        bars=tuple(
            Bars(
                "activations-zeroed",
                f"Positive activations made zero at jump {one.choice.label}",
                tuple((site.path, site.share, f"jump {jump_text(site.jump, 'float')}") for site in one.zeroed),
                "On clean samples.",
            )
            for one in shown
        ),
        tables=(candidates_table(report),),
        command=command,
        caution=CAUTION
        if report.objective == "adaptive"
        else "No attack was run: nothing here says that the model is any more robust than it was.",
    )


def _tuning_facts(report: TuningReport) -> tuple[tuple[str, str], ...]:
    facts = [
        ("model", str(report.source or "in memory")),
        ("data", f"{report.data}: {report.tuned_on} samples chose, {report.tested_on} others confirmed"),
        ("labels", "given" if report.labels else "the original's answers"),
        ("objective", report.objective),
        ("budget", f"{points_text(report.max_drop)} of clean accuracy"),
    ]
    if report.eps is not None:
        facts += [
            ("eps", eps_text(report.eps)),
            ("attacks", ", ".join(report.attacks)),
            ("attacked", f"at most {count(report.attacked, 'sample')} of each part"),
        ]
    return (*facts, *(("note", note) for note in report.notes), ("seed", str(report.seed)))


def _trade_off(report: TuningReport, shown: Sequence[Candidate]) -> Chart:
    """What each candidate costs, and what it buys; `shown` is the one that the verdict is about, if there is one."""
    candidates = report.candidates
    series = [Series("no attack", 0, tuple(one.clean for one in candidates))]
    note = "Bars are 95% intervals, on the samples that chose."
    if report.eps is not None:
        series += [
            Series("attacks on the true gradient", 1, tuple(one.true_gradient for one in candidates), hollow=True),
            Series("all attacks", 1, tuple(one.adaptive for one in candidates)),
        ]
        note += (
            f" Under attack each pixel changes by at most {eps_text(report.eps)} (eps). {_TRUE_GRADIENT} Candidates "
            "over the budget were not attacked."
        )
    why = "chosen" if report.chosen is not None else "tried on other samples, not chosen"
    return Chart(
        "trade-off",
        "Samples that are right at each jump",
        "jump",
        tuple(one.choice.label for one in candidates),
        tuple(series),
        (candidates.index(shown[0]), why) if shown else None,
        note,
    )


def candidates_table(report: TuningReport) -> Table:
    """A line for each jump that was tried."""
    attacked = report.eps is not None
    right = "clean accuracy" if report.labels else "agreement with the original"
    header = ("jump", right, "drop", "zeroed", *(("true gradient", "all attacks") if attacked else ()), "")
    return Table(
        "All candidates",
        header,
        tuple(_candidate(one, attacked, one is report.chosen) for one in report.candidates),
        "With 95% intervals; on the samples that chose.",
    )


def _candidate(candidate: Candidate, attacked: bool, chosen: bool) -> tuple[str, ...]:
    choice, shares = candidate.choice, (candidate.true_gradient, candidate.adaptive) if attacked else ()
    return (
        choice.label if choice.quantile is None else f"{choice.label} (quantile {choice.quantile:g})",
        candidate.clean.in_percent,
        f"{100 * candidate.drop.estimate:+.2f} points",
        f"{candidate.zeroed_share:.1%}",
        *("-" if share is None else share.in_percent for share in shares),
        "chosen" if chosen else "" if candidate.within_budget else "over budget",
    )
