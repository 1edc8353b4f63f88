"""`jr-onnx info`: what is installed here, and whether the kernels work on each execution provider."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from jr_onnx import runtime
from jr_onnx.errors import RuntimeMissingError
from jr_onnx.runtime import execution

#: Packages whose versions matter to a report of a fault; of the second group, only those that are installed are shown.
_PACKAGES, _OPTIONAL = ("jr-onnx", "onnx", "numpy"), ("onnxruntime", "onnxruntime-gpu", "onnx-graphsurgeon", "onnx-ad")

HELP = "show versions, the kernel library, and whether it works here"
DESCRIPTION = (
    "Show versions, where the kernel library is and what it was built with, and the result of a "
    "self-test on each execution provider. The exit code is 1 where a self-test fails."
)


def add_arguments(_: argparse.ArgumentParser) -> None:
    """There are none but those of every command."""


def run(args: argparse.Namespace) -> int:
    """Print what `gather` finds; the exit code."""
    facts = gather()
    if args.json:
        print(json.dumps(facts, indent=2))
    elif not args.quiet:
        print("\n".join(_lines(facts)))
    return int(any(result.startswith("FAILED") for result in facts["self_test"].values()))


def gather() -> dict[str, Any]:
    """Everything that `jr-onnx info` shows."""
    from jr_onnx.runtime.selftest import self_test

    facts: dict[str, Any] = {"versions": {"python": platform.python_version(), **dict(_versions())}}
    facts["platform"] = f"{platform.system()} {platform.machine()}"
    facts["providers"] = _providers()
    try:
        facts["library"] = str(runtime.library_path())
        facts["built_with"] = asdict(runtime.build_info())
    except RuntimeMissingError as error:
        facts["library"] = f"none: {error}"
    facts["self_test"] = self_test()
    return facts


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES + _OPTIONAL:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            if package in _PACKAGES:
                yield package, "not installed"


def _providers() -> list[str]:
    with contextlib.suppress(RuntimeMissingError):
        return list(execution.onnxruntime().get_available_providers())
    return []


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """One fact a line: "library       /path"."""
    for name, value in facts.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for key, text in inner:
            words = ", ".join(text) if isinstance(text, (list, tuple)) else text
            yield f"{' '.join(filter(None, (name.replace('_', ' '), key))):36}  {words or 'none'}"
