"""The attacks that follow gradients, by name. Importing this needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jr_onnx.attacks.attack import Target
from jr_onnx.attacks.descent import ascend, signed_steps
from jr_onnx.attacks.nearest import deep_fool, trust_region
from jr_onnx.attacks.search import Search
from jr_onnx.attacks.view import View, cross_entropy, margin


def _auto_pgd(search: Search, view: View) -> None:
    from jr_onnx.attacks.apgd import auto_pgd  # ART takes seconds to import

    auto_pgd(search, view)


_BOTH = (cross_entropy, margin)

_METHODS: Mapping[str, Callable[[Search, View], None]] = {
    "ifgsm": lambda search, view: signed_steps(search, view, cross_entropy),
    "pgd": lambda search, view: ascend(search, view, [cross_entropy]),
    "pgd-margin": lambda search, view: ascend(search, view, [margin]),
    "bpda": lambda search, view: ascend(search, view, _BOTH),
    "smooth-0.1": lambda search, view: ascend(search, view, _BOTH),
    "smooth-0.25": lambda search, view: ascend(search, view, _BOTH),
    "smooth-0.5": lambda search, view: ascend(search, view, _BOTH),
    "transfer": lambda search, view: ascend(search, view, _BOTH, foreign=True),
    "apgd": _auto_pgd,
    "deepfool-linf": deep_fool,
    "deepfool-l2": deep_fool,
    "trust-region": trust_region,
}


def attack(search: Search, source: Target | None) -> None:
    """Run the attack that the search is for, with the gradients of the target's copy, or of the source's."""
    gradients = source if search.info.needs_source and source is not None else search.target
    _METHODS[search.info.name](search, View(gradients, search.info.backward, search.images.ndim))
