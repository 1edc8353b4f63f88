"""`jr-onnx inspect`: every node of a model that is a ReLU or looks like one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jr_onnx.cli.outputs import print_report
from jr_onnx.conversion.inspect import inspect
from jr_onnx.conversion.policy import jump_text
from jr_onnx.conversion.report import InspectedNode, InspectionReport, QuantizedSite
from jr_onnx.text import count, printable, table

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: Commands) -> None:
    """Describe the command's arguments."""
    parser = commands.add_parser(
        "inspect",
        help="list every node that is a ReLU or looks like one",
        description="List every node of a model that is a ReLU or looks like one, and whether and how `convert` "
        "would convert it, or why not. Nothing is written.",
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="the ONNX file")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Inspect and print the report."""
    report = inspect(arguments.model)
    print_report(arguments, report, _text)
    return 0


def _text(report: InspectionReport) -> str:
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in report.opsets.items())
    lines = [f"{report.source}: IR version {report.ir_version}, opset {opsets}, {count(report.functions, 'function')}"]
    lines += [f"{key} = {value}" for key, value in report.hardened.items()]
    rows = [_row(node) for node in report.nodes]
    if not rows:
        return "\n".join([*map(printable, lines), "no node that is a ReLU or looks like one"])
    return "\n".join(
        [*map(printable, lines), *table(("node", "operator", "type", "shape", "opset", "jump", "", "conversion"), rows)]
    )


def _row(node: InspectedNode) -> tuple[str, ...]:
    shape = "?" if node.shape is None else "x".join("?" if dim is None else str(dim) for dim in node.shape) or "scalar"
    jump_type = "float" if node.quantized is not None else node.element_type or ""
    jump = "-" if node.jump is None else jump_text(node.jump, jump_type)
    mark = "yes" if node.converted else "no"
    how = node.how if node.quantized is None else f"{node.how} ({_quantized(node.quantized)})"
    return (node.path, node.op_type, node.element_type or "-", shape, str(node.opset or "-"), jump, mark, how)


def _quantized(site: QuantizedSite) -> str:
    text = f"scale {jump_text(site.scale, 'float')}, zero point {site.zero_point}"
    if site.threshold is None:
        return text
    thresholds = site.threshold if isinstance(site.threshold, tuple) else (site.threshold,)
    highest = f" to {max(thresholds)}" if max(thresholds) > min(thresholds) else ""
    return f"{text}, threshold {min(thresholds)}{highest}"
