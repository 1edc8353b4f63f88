"""What a check says: findings, what was not checked, what was measured, in one frozen report."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args

from jr_onnx.checking.rules import NOT_RUN, RULES, Rule, Severity

#: From which severity on a finding makes the exit code 1.
FailOn = Literal["error", "warning"]
FAIL_ON: tuple[FailOn, ...] = get_args(FailOn)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        rule: the ID of the rule, as in docs/rules.md.
        message: what was found, with the values.
        node: the scope path of the node, "If_3/then_branch/Relu_1"; empty where it is not about one node.
        severity: the rule's own as a rule.
    """

    rule: str
    message: str
    node: str = ""
    severity: Severity = "error"

    @property
    def about(self) -> Rule:
        """The rule: what it means, why it matters, how to fix it."""
        return RULES[self.rule]

    @property
    def text(self) -> str:
        """The message, with the node that it is about in front."""
        return f"{self.node}: {self.message}" if self.node else self.message


def finding(rule: str, message: str, node: str = "") -> Finding:
    """A finding with the severity of its rule."""
    return Finding(rule, message, node, RULES[rule].severity)


@dataclass(frozen=True)
class NotChecked:
    """Something that this run did not look at, by its own choice or because an earlier finding made it pointless.

    Attributes:
        what: in words.
        why: why not.
        rules: the IDs of the rules that could have no finding for that.
    """

    what: str
    why: str
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """A number that is neither right nor wrong.

    Attributes:
        name: what was measured.
        value: the number.
        unit: what it counts; empty for a ratio or a share.
    """

    name: str
    value: float
    unit: str = ""


@dataclass(frozen=True)
class CheckedSite:
    """One JumpReLU of the hardened model.

    Attributes:
        path: the scope path of its node.
        form: what it is written as.
        jump: as the file has it: a number, or a range for one jump a channel; "unknown" if it is not a constant.
        how: how its numbers were checked: "in place", "in place, functions inlined", "lifted", or "" for not at all.
        values: how many values were compared.
        exercised: whether a value in the model's own runs was above the jump; None where nothing was run in place.
    """

    path: str
    form: str
    jump: str
    how: str = ""
    values: int = 0
    exercised: bool | None = None


@dataclass(frozen=True)
class CheckReport:
    """The result of `jr_onnx.check`.

    Attributes:
        original: the file; None for a model in memory, or where there was none.
        hardened: the file; None for a model in memory.
        jump: the jump that was checked for: a number, or where it is from.
        target: what JumpReLU is written as, as recorded.
        sites: every JumpReLU of the hardened model.
        findings: what is wrong, errors first.
        notes: what the plan took from the hardened file's own record.
        checked: what was looked at, in order.
        not_checked: what was not, and why.
        measurements: how far the outputs moved, latencies.
        seconds: wall time.
    """

    original: Path | None
    hardened: Path | None
    jump: str
    target: str
    sites: tuple[CheckedSite, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    checked: tuple[str, ...]
    not_checked: tuple[NotChecked, ...]
    measurements: tuple[Measurement, ...]
    seconds: float

    @property
    def errors(self) -> int:
        """The number of findings that are errors."""
        return sum(one.severity == "error" for one in self.findings)

    @property
    def warnings(self) -> int:
        """The number of findings that are warnings."""
        return len(self.findings) - self.errors

    def fails(self, on: FailOn = "warning") -> bool:
        """Whether the check failed: whether there is a finding of severity `on` or worse."""
        return bool(self.errors if on == "error" else self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        values = asdict(self)
        values.update(
            original=None if self.original is None else str(self.original),
            hardened=None if self.hardened is None else str(self.hardened),
            findings=[{**asdict(one), "name": one.about.name, "fix": one.about.fix} for one in self.findings],
            # JSON has no infinity and no NaN.
            measurements=[{**asdict(m), "value": m.value if isfinite(m.value) else None} for m in self.measurements],
        )
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@dataclass
class Results:
    """What a check has found so far; each part of the check adds to it.

    Attributes:
        sites: by path.
        covered: the rules that the runs of the model have looked at.
    """

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    not_checked: list[NotChecked] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    sites: dict[str, CheckedSite] = field(default_factory=dict)
    covered: set[str] = field(default_factory=set)

    def add(self, rule: str, message: str, node: str = "") -> None:
        """A finding."""
        self.findings.append(finding(rule, message, node))

    def not_run(self, what: str, why: object) -> None:
        """A check that was asked for and could not run."""
        self.add(NOT_RUN, f"{what}: {why}")

    def skip(self, what: str, why: str, rules: tuple[str, ...] = ()) -> None:
        """Something that is not looked at."""
        self.not_checked.append(NotChecked(what, why, rules))

    def measure(self, name: str, value: float, unit: str = "") -> None:
        """A number."""
        self.measurements.append(Measurement(name, value, unit))

    @property
    def has_errors(self) -> bool:
        """Whether a finding is an error."""
        return any(one.severity == "error" for one in self.findings)

    def report(
        self, original: Path | None, hardened: Path | None, jump: str = "", target: str = "", seconds: float = 0.0
    ) -> CheckReport:
        """All of it: errors before warnings, by rule, each once, and within a rule in the order of finding."""
        return CheckReport(
            original=original,
            hardened=hardened,
            jump=jump,
            target=target,
            sites=tuple(self.sites.values()),
            findings=tuple(sorted(dict.fromkeys(self.findings), key=lambda one: (one.severity != "error", one.rule))),
            notes=tuple(self.notes),
            checked=tuple(self.checked),
            not_checked=tuple(dict.fromkeys(self.not_checked)),
            measurements=tuple(self.measurements),
            seconds=seconds,
        )
