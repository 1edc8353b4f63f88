"""Nothing but the sites changed: what HARDENED should be against what it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jr_onnx.checking import rules
from jr_onnx.checking.findings import Finding, finding
from jr_onnx.comparison.difference import Kind
from jr_onnx.comparison.side import Side
from jr_onnx.comparison.structure import differences

_RULES: Mapping[Kind, str] = {
    Kind.SITE_NOT_CONVERTED: rules.UNCONVERTED,
    Kind.SITE_CONVERTED: rules.UNPLANNED,
    Kind.NODES: rules.NODES,
    Kind.ORDER: rules.ORDER,
    Kind.OPERATOR: rules.OPERATOR,
    Kind.EDGE: rules.EDGE,
    Kind.NODE_NAME: rules.NODE_NAME,
    Kind.INITIALIZER: rules.INITIALIZER,
    Kind.WEIGHTS: rules.WEIGHTS,
    Kind.INTERFACE: rules.INTERFACE,
    Kind.DECLARED_TYPE: rules.DECLARED_TYPE,
    Kind.METADATA: rules.METADATA,
    Kind.SOURCE: rules.OTHER_ORIGINAL,
    Kind.FUNCTION: rules.FUNCTION,
    Kind.BODY: rules.BODY,
    Kind.OPSETS: rules.OPSETS,
    Kind.IR_VERSION: rules.IR_VERSION,
    Kind.JUMP: rules.JUMP,
    Kind.EXTERNAL: rules.EXTERNAL,
    Kind.OTHER: rules.OTHER,
}


def compare(expected: Side, hardened: Side) -> Iterator[Finding]:
    """All differences between the two skeletons, as findings."""
    for difference in differences(expected, hardened):
        message = difference.sentence("the plan")
        if difference.kind is Kind.SITE_NOT_CONVERTED:
            message = f"is a {difference.theirs} still"
        if difference.kind is Kind.SITE_CONVERTED:
            message = f"is a JumpReLU, but the plan leaves this {difference.ours} alone"
        yield finding(_RULES[difference.kind], message, difference.node)
