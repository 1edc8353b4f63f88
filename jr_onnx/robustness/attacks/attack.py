"""One attack on one batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from jr_onnx.errors import OptionError
from jr_onnx.robustness.attacks.ascent import ascend, signed_steps
from jr_onnx.robustness.attacks.nearest import deep_fool, trust_region
from jr_onnx.robustness.attacks.search import Search
from jr_onnx.robustness.attacks.square import square
from jr_onnx.robustness.attacks.target import ATTACKS, CYCLE, AttackInfo, AttackOutcome, Effort, Images, Labels, Target
from jr_onnx.robustness.attacks.view import View


def run(
    name: str,
    target: Target,
    images: Images,
    labels: Labels,
    seeds: Sequence[int],
    effort: Effort,
    *,
    starts: range = range(CYCLE),
    source: Target | None = None,
) -> AttackOutcome:
    """Attack a batch; random numbers for each image come from its own seed, whatever else is in the batch.

    Args:
        name: a key of `ATTACKS`.
        images: [N, C, ...] float32 in pixel units.
        labels: [N] int64, the right classes.
        seeds: one for each image.
        starts: the numbers of the starts of an attack that climbs; see `jr_onnx.robustness.attacks.ascent.ascend`.
        source: the original model, for transfer.

    Raises:
        OptionError: there is no such attack, the effort makes no sense, or the target or the source lacks what the
            attack needs.
    """
    info = _checked(name, target, images, labels, seeds, effort, source)
    search = Search(info, target, images, labels, np.asarray(seeds), effort)
    if len(images):
        _attack(search, source if source is not None and info.needs_source else target, starts)
    return search.outcome()


def _attack(search: Search, followed: Target, starts: range) -> None:
    """Run the attack that the search is for, with the gradients of the model that is followed."""
    method = search.info.method
    if method == "square":
        square(search)
        return
    view = View(followed, search.info.backward, search.images.ndim)
    if method == "ascent":
        ascend(search, view, starts, foreign=search.info.needs_source)
    else:
        {"ifgsm": signed_steps, "deepfool": deep_fool, "trust-region": trust_region}[method](search, view)


def _checked(
    name: str,
    target: Target,
    images: Images,
    labels: Labels,
    seeds: Sequence[int],
    effort: Effort,
    source: Target | None,
) -> AttackInfo:
    if name not in ATTACKS:
        raise OptionError(f"there is no attack '{name}'; there are {', '.join(ATTACKS)}")
    info = ATTACKS[name]
    if not len(images) == len(labels) == len(seeds):
        raise OptionError(f"{len(images)} images, {len(labels)} labels and {len(seeds)} seeds; each image needs both")
    if info.needs_source and source is None:
        raise OptionError(f"{name}: the original model is needed too")
    attacked = source if info.needs_source else target
    if info.needs_gradient and (attacked is None or attacked.gradients is None):
        raise OptionError(f"{name}: it follows gradients, and the target has none; use a black-box attack")
    if min(effort.steps, effort.restarts, effort.queries) < 1 or not effort.eps > 0 or not effort.step > 0:
        raise OptionError(f"{effort}: everything must be positive")
    if info.bounded and math.isinf(effort.eps) and name != "ifgsm":
        raise OptionError(f"{name}: eps must be finite")
    return info
