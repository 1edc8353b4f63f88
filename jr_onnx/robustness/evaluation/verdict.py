"""What follows from a campaign, in words that claim no more than the numbers do.

MASKING               attacks that adapt, or need no gradient, break more of the model's samples than the true gradient
                      does with the same effort

and one of

GAIN                  under all attacks more samples survive than of the original: an upper bound, no guarantee
GAIN UNPROVEN         they do, but while MASKING stands a better attack is likely to leave less
WORSE                 fewer do
NO GAIN               neither is certain
TOO COSTLY            more clean accuracy is lost than may be, whatever survives
NO ADAPTIVE ATTACK    no attack that adapts was run with its control, so that nothing can be said
GRADIENTS FAILED      more survive, but gradients led nowhere on too many of them
NOT CONVERGED         the difference is there, but more effort would still break more

All of it is tested in pairs, sample by sample, with McNemar's exact test; with several eps the level is divided among
them (Bonferroni), so that a long list of eps does not find by chance what is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from jr_onnx.robustness.attacks.target import ATTACKS
from jr_onnx.robustness.evaluation.report import ModelResult
from jr_onnx.robustness.evaluation.rounds import CONTROL
from jr_onnx.robustness.statistics import MAX_DROP, PairedResult, paired_test, share_of, within_drop
from jr_onnx.text import eps_text, points_text

#: Of several eps the first of these that one of them has is the outcome: what is not known at one eps is not hidden by
#: a gain at another.
Outcome = Literal[
    "TOO COSTLY",
    "WORSE",
    "NO ADAPTIVE ATTACK",
    "GRADIENTS FAILED",
    "NOT CONVERGED",
    "GAIN UNPROVEN",
    "GAIN",
    "NO GAIN",
]

#: The chance to find a difference where there is none, over all eps together.
LEVEL = 0.05

#: The share of the samples by which the attacks that adapt must beat the control: several gradients find a little more
#: than one does from as many starts, on a network that masks nothing too.
MARGIN = 0.01

#: The share of the survivors on which the gradients of any kind may fail before no gain is called.
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
            to the control, which is the true gradient with the same effort.
        unmasked: the difference of the same shares on the original, for comparison.
        failures: the share of what an attack left of the hardened model on which its gradient failed: of each kind of
            gradient the attack for which it is least, of the kinds that for which it is most.
        converged: whether more effort would break hardly anything more, (reference, hardened).
        masked, outcome: what follows.
    """

    eps: float
    reference: float
    hardened: float
    true_gradient: tuple[float, float]
    gain: PairedResult
    masking: PairedResult
    unmasked: float
    failures: float
    converged: tuple[bool, bool]
    masked: bool
    outcome: Outcome


@dataclass(frozen=True)
class Verdict:
    """A model against the original.

    Attributes:
        masking: whether attacks that adapt undo what the true gradient shows, at any eps.
        outcome: what may be said of the model.
        headline: it in one sentence.
        evidence: sentences with the numbers.
        at: each eps.
    """

    masking: bool
    outcome: Outcome
    headline: str
    evidence: tuple[str, ...]
    at: tuple[EpsVerdict, ...]

    @property
    def words(self) -> str:
        """ "MASKING, NO GAIN"."""
        return f"MASKING, {self.outcome}" if self.masking else self.outcome

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return asdict(self)


def judge(
    reference: ModelResult, hardened: ModelResult, eps: Sequence[float], *, max_drop: float = MAX_DROP
) -> Verdict:
    """The verdict on a model.

    Args:
        reference: the original.
        hardened: the model in question, attacked on the same samples at equal effort.
        eps: of the rows of their results.
        max_drop: how many percentage points of clean accuracy it may lose.
    """
    level = LEVEL / len(eps)
    arms = [paired_test(one, other, 1 - level) for one, other in zip(hardened.control, hardened.adaptive, strict=True)]
    masked = [_controlled(hardened) and arm.p_value < level and arm.difference.low > MARGIN for arm in arms]
    at = []
    for index, (one, arm) in enumerate(zip(eps, arms, strict=True)):
        gain = paired_test(reference.survives[index], hardened.survives[index], 1 - level)
        failures = _failures(hardened, one)
        converged = reference.converged(index), hardened.converged(index)
        outcome = (
            _outcome(gain, level, failures, converged, any(masked)) if _adapted(hardened) else "NO ADAPTIVE ATTACK"
        )
        at.append(
            EpsVerdict(
                eps=one,
                reference=reference.accuracy(index),
                hardened=hardened.accuracy(index),
                true_gradient=(reference.accuracy(index, adaptive=False), hardened.accuracy(index, adaptive=False)),
                gain=gain,
                masking=arm,
                unmasked=float(reference.adaptive[index].mean() - reference.control[index].mean()),
                failures=failures,
                converged=converged,
                masked=masked[index],
                outcome=outcome,
            )
        )
    first: Outcome = min((one.outcome for one in at), key=get_args(Outcome).index)
    outcome = first if within_drop(reference.correct, hardened.correct, max_drop) else "TOO COSTLY"
    headline = _headline(any(masked), outcome, at, (reference, hardened), max_drop)
    evidence = tuple(_evidence(reference, hardened, at, max_drop))
    return Verdict(any(masked), outcome, headline, evidence, tuple(at))


def _controlled(model: ModelResult) -> bool:
    """Whether the control ran, without which nothing can be said about masking."""
    return any(row.attack == CONTROL for row in model.rows)


def _adapted(model: ModelResult) -> bool:
    """Whether an attack that adapts to JumpReLU and follows a gradient of the model ran, and the control beside it."""
    attacks = {row.attack for row in model.rows}
    return _controlled(model) and any(_own(name) and ATTACKS[name].family == "adaptive" for name in attacks)


def _own(attack: str) -> bool:
    """Whether an attack follows a gradient of the model that it attacks: transfer follows the original's."""
    return ATTACKS[attack].needs_gradient and not ATTACKS[attack].needs_source


def _failures(model: ModelResult, eps: float) -> float:
    """Where one attack's gradient fails another's of the same kind may not; but the smooth ones are never quite zero
    behind a closed JumpReLU, and lead nowhere there all the same."""
    least: dict[str, float] = {}
    for row in model.rows:
        if row.eps == eps and row.tried and _own(row.attack):
            share, kind = row.failed / max(row.tried - row.broke, 1), ATTACKS[row.attack].backward.kind
            least[kind] = min(share, least.get(kind, 1.0))
    return max(least.values(), default=0.0)


def _outcome(gain: PairedResult, level: float, failures: float, converged: tuple[bool, bool], masking: bool) -> Outcome:
    if gain.p_value >= level:
        return "NO GAIN"
    if gain.difference.estimate < 0:  # more effort on the hardened model could only make it worse
        return "WORSE" if converged[0] else "NOT CONVERGED"
    if failures > FAILURES:
        return "GRADIENTS FAILED"
    if not all(converged):
        return "NOT CONVERGED"
    return "GAIN UNPROVEN" if masking else "GAIN"


# --- In words ---------------------------------------------------------------------------------------------------------


def _headline(
    masking: bool,
    outcome: Outcome,
    at: Sequence[EpsVerdict],
    models: tuple[ModelResult, ModelResult],
    max_drop: float,
) -> str:
    where = [one for one in at if one.outcome == outcome] or list(at)
    # Where several eps say the same, the one that says it most clearly.
    shown = max(where, key=lambda one: abs(one.gain.difference.estimate))
    reference, hardened = models
    numbers = (
        f"with each pixel changed by at most {eps_text(shown.eps)} (eps), {shown.hardened:.1%} of the "
        f"{len(hardened.correct)} samples stay right under every attack (survive), against {shown.reference:.1%} with "
        "the original"
    )
    said = {
        "TOO COSTLY": f"Too much accuracy is lost: without any attack {hardened.clean_accuracy:.1%} of the "
        f"{len(hardened.correct)} samples are right, against {reference.clean_accuracy:.1%} with the original, and at "
        f"most {points_text(max_drop)} may be lost; {numbers}",
        "WORSE": f"Easier to fool than the original: {numbers}",
        "NO ADAPTIVE ATTACK": f"Not known, for no attack that adapts to JumpReLU was run with its control: {numbers}",
        "GRADIENTS FAILED": f"Not known, for the gradients that attacks follow lead nowhere on this model: {numbers}",
        "NOT CONVERGED": f"Not known, for the attacks have not converged, and more effort may break more: {numbers}",
        "GAIN UNPROVEN": f"Not to be relied on: {numbers}, but the model misleads attacks by its gradient (gradient "
        "masking), so that a better attack is likely to leave less",
        "GAIN": f"Harder to fool than the original: {numbers}; a better attack may leave less",
        "NO GAIN": f"No measurable gain: {numbers} (difference {shown.gain.difference.in_points})",
    }[outcome]
    if masking and outcome != "GAIN UNPROVEN":
        said += "; attacks that follow its true gradient alone show more than there is (gradient masking)"
    return f"{said}."


def _evidence(
    reference: ModelResult, hardened: ModelResult, at: Sequence[EpsVerdict], max_drop: float
) -> Iterator[str]:
    yield _clean(reference, hardened, max_drop)
    for one in at:
        yield (
            f"eps {eps_text(one.eps)}, all attacks: hardened {one.hardened:.1%}, original {one.reference:.1%}; "
            f"difference {one.gain.difference.in_points}, p = {one.gain.p_value:.2g}: {one.outcome}."
        )
        if _controlled(hardened):
            yield _masked(one)
        for name, model, converged in zip(("original", "hardened"), (reference, hardened), one.converged, strict=True):
            yield f"eps {eps_text(one.eps)}, {name}: {_effort(model, at.index(one), converged)}."
        if one.failures > FAILURES:
            yield (
                f"eps {eps_text(one.eps)}: gradients of a kind failed on {one.failures:.1%} of the samples that even "
                "the attack for which they failed least left. It says nothing about these: no gain is called."
            )
    if len(at) > 1:
        level = LEVEL / len(at)
        yield f"At {len(at)} eps a difference counts from p < {level:.3g}, and the intervals are at {1 - level:.1%}."
    if not _adapted(hardened):
        yield "No attack that adapts to JumpReLU was run with its control: the true figure may be far lower."


def _clean(reference: ModelResult, hardened: ModelResult, max_drop: float) -> str:
    ours, theirs = (share_of(model.correct).in_percent for model in (hardened, reference))
    return (
        f"Clean accuracy on {len(reference.correct)} samples: hardened {ours}, original {theirs}; at most "
        f"{points_text(max_drop)} may be lost."
    )


def _masked(one: EpsVerdict) -> str:
    reference, hardened = one.true_gradient
    # Where no gradient leads anywhere, that the arms found the same is no sign of anything.
    unknown = "whether there is masking cannot be told, for gradients failed"
    found = "MASKING" if one.masked else unknown if one.failures > FAILURES else "no masking found"
    return (
        f"eps {eps_text(one.eps)}, true gradient: hardened {hardened:.1%}, original {reference:.1%}; of the hardened "
        f"model's samples, attacks that adapt break more than the true gradient with the same effort by "
        f"{one.masking.difference.in_points} (on the original {100 * one.unmasked:+.1f}), "
        f"p = {one.masking.p_value:.2g}: {found}."
    )


def _effort(model: ModelResult, index: int, converged: bool) -> str:
    curve = model.convergence[index] if model.convergence else ()
    found = "converged" if converged else "NOT CONVERGED"
    if len(curve) < 2:
        return f"{found}: {'its effort was not doubled' if model.survives[index].any() else 'nothing is left'}"
    left = ", ".join(f"{one.survivors:.1%} at {one.effort} times" for one in curve)
    return f"what survives as the effort doubles: {left}: {found}"
