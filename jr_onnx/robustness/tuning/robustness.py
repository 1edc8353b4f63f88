"""Candidates under attack: written as they would ship, and handed to a campaign together with jump 0."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import onnx

from jr_onnx.conversion.convert import convert
from jr_onnx.conversion.policy import JumpReluPolicy
from jr_onnx.errors import OptionError, RuntimeMissingError
from jr_onnx.robustness.attacks.target import Effort
from jr_onnx.robustness.dataset import Dataset
from jr_onnx.robustness.evaluation.campaign import run_campaign
from jr_onnx.robustness.evaluation.report import EvaluationReport


@dataclass(frozen=True)
class AttackSettings:
    """How candidates are attacked.

    Attributes:
        eps: the radius in the maximum norm, in units of pixels from 0 to 1.
        steps: gradient steps of each attack.
        restarts: of each attack that starts at random.
        samples: of each part of the data so many are attacked at most, drawn by the seed.
    """

    eps: float = 8 / 255
    steps: int = 20
    restarts: int = 1
    samples: int = 500

    def __post_init__(self) -> None:
        for what, number in (
            ("steps", self.steps),
            ("restarts", self.restarts),
            ("samples", self.samples),
        ):
            if number < 1:
                raise OptionError(f"`{what}`: {number} must be at least 1")


def check_attack_extra() -> None:
    """Whether attacks can run.

    Raises:
        RuntimeMissingError: a package is missing.
    """
    if importlib.util.find_spec("onnx_ad") is None:
        raise RuntimeMissingError(
            "choosing by attacks needs onnx-ad: pip install onnx-ad, or choose by clean accuracy alone "
            "(`objective='clean'`)"
        )


def attack(
    model: str | Path | onnx.ModelProto,
    policies: Sequence[JumpReluPolicy],
    dataset: Dataset,
    settings: AttackSettings,
    *,
    max_drop: float,
    clip: bool,
    seed: int,
    workers: int,
    executor: Executor | None,
    journal: str | Path | None,
    progress: Callable[[int, int], None],
) -> EvaluationReport:
    """The model with each policy under all attacks, on the same samples; the first is what others are compared with.

    The models of the report are called "0", "1", ... as the policies are numbered.
    """
    with tempfile.TemporaryDirectory(prefix="jr-onnx-") as folder:
        models = {
            str(number): _hardened(model, policy, Path(folder) / str(number), clip=clip)
            for number, policy in enumerate(policies)
        }
        return run_campaign(
            models,
            dataset.sample(settings.samples, seed),
            eps=(settings.eps,),
            effort=Effort(steps=settings.steps, restarts=settings.restarts),
            max_drop=max_drop,
            seed=seed,
            workers=workers,
            executor=executor,
            journal=journal,
            progress=progress,
        )


def _hardened(
    model: str | Path | onnx.ModelProto, policy: JumpReluPolicy, folder: Path, *, clip: bool
) -> Path | onnx.ModelProto:
    """A model in memory where that was given, else a file: external data are not loaded."""
    if isinstance(model, onnx.ModelProto):
        hardened = convert(model, policy=policy, clip=clip).model
        if hardened is None:
            raise TypeError("a conversion in memory gives a model")
        return hardened
    folder.mkdir()
    path = folder / "model.onnx"
    convert(model, policy=policy, clip=clip, output=path)
    return path
