"""The attacks that follow gradients, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jr_onnx.robustness.attacks.auto_pgd import auto_pgd
from jr_onnx.robustness.attacks.descent import ascend, signed_steps
from jr_onnx.robustness.attacks.nearest import deep_fool, trust_region
from jr_onnx.robustness.attacks.search import Search
from jr_onnx.robustness.attacks.target import Target
from jr_onnx.robustness.attacks.view import CROSS_ENTROPY, MARGIN, View

_BOTH = (CROSS_ENTROPY, MARGIN)

_METHODS: Mapping[str, Callable[[Search, View], None]] = {
    "ifgsm": lambda search, view: signed_steps(search, view, CROSS_ENTROPY),
    "pgd": lambda search, view: ascend(search, view, [CROSS_ENTROPY]),
    "pgd-margin": lambda search, view: ascend(search, view, [MARGIN]),
    "bpda": lambda search, view: ascend(search, view, _BOTH),
    "smooth-0.1": lambda search, view: ascend(search, view, _BOTH),
    "smooth-0.25": lambda search, view: ascend(search, view, _BOTH),
    "smooth-0.5": lambda search, view: ascend(search, view, _BOTH),
    "transfer": lambda search, view: ascend(search, view, _BOTH, foreign=True),
    "apgd": auto_pgd,
    "deepfool-linf": deep_fool,
    "deepfool-l2": deep_fool,
    "trust-region": trust_region,
}


def attack(search: Search, source: Target | None) -> None:
    """Run the attack that the search is for, with the gradients of the target, or of the source's."""
    gradients = source if search.info.needs_source and source is not None else search.target
    _METHODS[search.info.name](search, View(gradients, search.info.backward, search.images.ndim))
