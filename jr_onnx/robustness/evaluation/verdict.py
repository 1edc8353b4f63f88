"""What follows from a campaign, in words that claim no more than the numbers do.

MASKING    attacks that adapt, or need no gradient, break more of the model's samples than the true gradient does with
           as many starts
GAIN       in the worst case over all attacks, more samples survive than of the original: an upper bound, no guarantee
WORSE      fewer do
NO GAIN    neither is certain, or gradients failed on too many samples for a gain to be believed

All of it is tested in pairs, sample by sample, with McNemar's exact test; with several eps the level is divided among
them (Bonferroni), so that a long list of eps does not find by chance what is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jr_onnx.robustness.attacks.target import ATTACKS
from jr_onnx.robustness.evaluation.report import ModelResult
from jr_onnx.robustness.statistics import PairedResult, paired_test, proportion_interval
from jr_onnx.text import count, eps_text

Gain = Literal["GAIN", "NO GAIN", "WORSE"]

#: The attacks that follow a gradient of the model that they attack; the control does too, and is no attack of its own.
OWN_GRADIENT = frozenset(name for name, info in ATTACKS.items() if info.needs_gradient and not info.needs_source)

#: The chance to find a difference where there is none, over all eps together.
LEVEL = 0.05

#: The share of the samples by which the attacks that adapt must beat the control: several gradients find a little more
#: than one does from as many starts, on a network that masks nothing too.
MARGIN = 0.01

#: The share of its samples on which the gradients of every attack may fail before no gain is called.
FAILURES = 0.05


@dataclass(frozen=True)
class EpsVerdict:
    """Both models at one eps.

    Attributes:
        eps: in pixel units.
        reference, hardened: share of the samples that survive all attacks.
        true_gradient: share that survives the true gradient, (reference, hardened).
        gain: hardened against reference, in the worst case.
        masking: of the hardened model, the share lost to attacks that adapt or need no gradient against the share lost
            to the control, which is the true gradient with at least as many starts, both from what the true gradient
            left.
        unmasked: the difference of the same shares on the original, for comparison.
        failures: the share of its samples on which the gradients failed, of the attack for which they failed least.
        masked, verdict: what follows.
    """

    eps: float
    reference: float
    hardened: float
    true_gradient: tuple[float, float]
    gain: PairedResult
    masking: PairedResult
    unmasked: float
    failures: float
    masked: bool
    verdict: Gain


@dataclass(frozen=True)
class Verdict:
    """A model against the original.

    Attributes:
        masking: whether attacks that adapt undo what the true gradient shows, at any eps.
        gain: WORSE where it is worse at any eps, else GAIN where there is a gain at any, else NO GAIN.
        headline: one sentence.
        evidence: sentences with the numbers.
        at: each eps.
    """

    masking: bool
    gain: Gain
    headline: str
    evidence: tuple[str, ...]
    at: tuple[EpsVerdict, ...]

    @property
    def words(self) -> str:
        """ "MASKING, NO GAIN"."""
        return f"MASKING, {self.gain}" if self.masking else self.gain

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return asdict(self)


def judge(reference: ModelResult, hardened: ModelResult, eps: Sequence[float], *, adaptive: bool) -> Verdict:
    """The verdict on a model.

    Args:
        reference: the original.
        hardened: the model in question, attacked on the same samples at equal effort.
        eps: of the rows of their results.
        adaptive: whether attacks that adapt or need no gradient were run, and the control; without them nothing can be
            said about masking.
    """
    at = tuple(_at(reference, hardened, index, one, LEVEL / len(eps)) for index, one in enumerate(eps))
    found = {one.verdict for one in at}
    gain: Gain = "WORSE" if "WORSE" in found else "GAIN" if "GAIN" in found else "NO GAIN"
    masking = any(one.masked for one in at)
    evidence = [_clean(reference, hardened)]
    for one in at:
        evidence += [_worst(one), *([_masked(one)] if adaptive else []), *_effort(hardened, one)]
    if len(eps) > 1:
        level = LEVEL / len(eps)
        evidence.append(
            f"At {len(eps)} eps a difference counts from p < {level:.3g}, and the intervals are at {1 - level:.1%}."
        )
    if not adaptive:
        evidence.append("No attack that adapts to JumpReLU was run: the true figure may be far lower.")
    return Verdict(masking, gain, _headline(masking, gain, at), tuple(evidence), at)


def _at(reference: ModelResult, hardened: ModelResult, index: int, eps: float, level: float) -> EpsVerdict:
    gain = paired_test(reference.survives[index], hardened.survives[index], 1 - level)
    masking = paired_test(hardened.control[index], hardened.adaptive[index], 1 - level)
    # Where one attack's gradient fails another's may not: the smooth ones have one behind a closed JumpReLU. That of
    # the original, which transfer follows, says nothing about the hardened model's.
    own = [row for row in hardened.rows if row.eps == eps and row.tried and row.attack in OWN_GRADIENT]
    failures = min((row.failed / row.tried for row in own), default=0.0)
    verdict: Gain = "NO GAIN"
    if gain.p_value < level and gain.difference.estimate < 0:
        verdict = "WORSE"
    elif gain.p_value < level and gain.difference.estimate > 0 and failures <= FAILURES:
        verdict = "GAIN"
    return EpsVerdict(
        eps=eps,
        reference=reference.accuracy(index),
        hardened=hardened.accuracy(index),
        true_gradient=(reference.accuracy(index, adaptive=False), hardened.accuracy(index, adaptive=False)),
        gain=gain,
        masking=masking,
        unmasked=float(reference.adaptive[index].mean() - reference.control[index].mean()),
        failures=failures,
        masked=masking.p_value < level and masking.difference.low > MARGIN,
        verdict=verdict,
    )


def _headline(masking: bool, gain: Gain, at: Sequence[EpsVerdict]) -> str:
    where = [one for one in at if one.verdict == gain] or list(at)
    # Where several eps say the same, the one that says it most clearly.
    shown = max(where, key=lambda one: abs(one.gain.difference.estimate))
    numbers = (
        f"{shown.hardened:.1%} survive against {shown.reference:.1%} of the original at eps {eps_text(shown.eps)} "
    )
    numbers += f"(difference {shown.gain.difference.in_points})"
    said = {
        "GAIN": f"In the worst case over these attacks {numbers}, an upper bound and no guarantee",
        "NO GAIN": f"No measurable robustness gain: in the worst case {numbers}",
        "WORSE": f"Worse than the original: in the worst case {numbers}",
    }[gain]
    masked = "; the true gradient shows more than there is (gradient masking)" if masking else ""
    if masking and gain == "GAIN":
        masked += ", so expect a better attack to leave less"
    return f"{said}{masked}."


def _clean(reference: ModelResult, hardened: ModelResult) -> str:
    parts = []
    for model, name in ((hardened, "hardened"), (reference, "original")):
        interval = proportion_interval(int(model.correct.sum()), len(model.correct))
        parts.append(f"{name} {interval.estimate:.1%} (95% interval {interval.low:.1%} to {interval.high:.1%})")
    return f"Clean accuracy on {len(reference.correct)} samples: {', '.join(parts)}."


def _worst(one: EpsVerdict) -> str:
    return (
        f"eps {eps_text(one.eps)}, worst case: hardened {one.hardened:.1%}, original {one.reference:.1%}; difference "
        f"{one.gain.difference.in_points}, p = {one.gain.p_value:.2g}: {one.verdict}."
    )


def _masked(one: EpsVerdict) -> str:
    reference, hardened = one.true_gradient
    # Where no gradient leads anywhere, that the arms found the same is no sign of anything.
    unknown = "whether there is masking cannot be told, for gradients failed"
    found = "MASKING" if one.masked else unknown if one.failures > FAILURES else "no masking found"
    return (
        f"eps {eps_text(one.eps)}, true gradient: hardened {hardened:.1%}, original {reference:.1%}; of the hardened "
        f"model's samples, attacks that adapt break more than the true gradient with as many starts by "
        f"{one.masking.difference.in_points} (on the original {100 * one.unmasked:+.1f}), "
        f"p = {one.masking.p_value:.2g}: {found}."
    )


def _effort(hardened: ModelResult, one: EpsVerdict) -> list[str]:
    """How far the effort went: what the last attack on the model itself still broke, and where gradients failed."""
    last = [row.attack for row in hardened.rows if row.eps == one.eps and row.attack in OWN_GRADIENT][-1:]
    said = [
        f"eps {eps_text(one.eps)}, effort: {row.attack}, the last that follows a gradient of the hardened model, broke "
        f"{row.broke} of the {count(row.tried, 'sample')} that it was given, and its gradient failed on {row.failed}."
        for row in hardened.rows
        if row.eps == one.eps and row.attack in last
    ]
    if one.failures > FAILURES:
        said.append(
            f"eps {eps_text(one.eps)}: gradients failed, for the attack for which they failed least, on "
            f"{one.failures:.1%} of the samples that it was given. It says nothing about these: no gain is called."
        )
    return said
