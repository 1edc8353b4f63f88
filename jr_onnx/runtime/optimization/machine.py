"""What an optimised model depends on: the instructions of the processor, and the version of onnxruntime."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

from jr_onnx.conversion.metadata import MADE_FOR
from jr_onnx.errors import ModelError
from jr_onnx.runtime.execution import onnxruntime

#: The flags by which onnxruntime chooses kernels and layouts, among the many that Linux lists.
_VECTORS = re.compile(r"s?sse|avx|fma|f16c|amx|asimd|sve|neon|i8mm|bf16")


@dataclass(frozen=True)
class Machine:
    """Where an optimised model is right: its layout has the blocks that this processor and onnxruntime agree on.

    Attributes:
        architecture: as Python's `platform.machine` has it.
        cpu_flags: the vector instructions that the processor has, sorted; empty where the system does not list them.
        onnxruntime: its version.
        level: onnxruntime's optimisation level.
    """

    architecture: str
    cpu_flags: tuple[str, ...]
    onnxruntime: str
    level: str

    def to_json(self) -> str:
        """One line, the same for the same machine."""
        return json.dumps(asdict(self))

    def differences(self, here: Machine) -> str:
        """What is otherwise here, in words; empty if nothing is."""
        said = []
        if (self.architecture, self.cpu_flags) != (here.architecture, here.cpu_flags):
            gone = sorted(set(self.cpu_flags) - set(here.cpu_flags))
            new = sorted(set(here.cpu_flags) - set(self.cpu_flags))
            flags = [*(f"without {flag}" for flag in gone), *(f"with {flag}" for flag in new)]
            said.append(
                f"another processor ({here.architecture}, {', '.join(flags) or 'the same vector instructions'})"
            )
        elif self.level == "all" and not self.cpu_flags:
            said.append("a processor whose vector instructions are not known")
        if self.onnxruntime != here.onnxruntime:
            said.append(f"onnxruntime {here.onnxruntime}, not {self.onnxruntime}")
        return " and ".join(said)


def this_machine(level: str) -> Machine:
    """This one."""
    return Machine(platform.machine(), _cpu_flags(), str(onnxruntime().__version__), level)


def made_for(model: onnx.ModelProto) -> Machine | None:
    """The machine that a model was optimised for; None for every other model.

    Raises:
        ModelError: the record is damaged.
    """
    entry = next((entry.value for entry in model.metadata_props if entry.key == MADE_FOR), None)
    if entry is None:
        return None
    damaged = ModelError(f"its record of the machine ({MADE_FOR}) is damaged; optimise the model again")
    try:
        values = json.loads(entry)
        made = Machine(**{**values, "cpu_flags": tuple(values["cpu_flags"])})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise damaged from error
    if not all(isinstance(one, str) for one in (made.architecture, *made.cpu_flags, made.onnxruntime, made.level)):
        raise damaged
    if not isinstance(values["cpu_flags"], list):
        raise damaged
    return made


def _cpu_flags() -> tuple[str, ...]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return tuple(sorted(flag for flag in set(line[1].split()) if _VECTORS.match(flag))) if line else ()
