"""What a hardened file says by itself: its record, its jumps, its function body, its imports."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import onnx

from jr_onnx.checking import rules
from jr_onnx.checking.expected import Hardened, recorded_jump
from jr_onnx.checking.findings import Finding, NotChecked, finding
from jr_onnx.element_types import NUMPY_TYPES, round_jump
from jr_onnx.errors import OptionError
from jr_onnx.forms.function import function_proto
from jr_onnx.forms.table import BODIES, DOMAIN, OP_TYPE, TARGETS
from jr_onnx.graph.scopes import all_scopes, function_name, own_domain
from jr_onnx.metadata import JUMP, POLICY, SITES, SOURCE, TARGET, VERSION
from jr_onnx.policy import JumpReluPolicy
from jr_onnx.sites.jumps import jump_of
from jr_onnx.sites.matchers import SiteKind
from jr_onnx.sites.survey import Site

#: What needs the original.
WITHOUT_ORIGINAL = (
    NotChecked("weights, nodes, names, order, declared types", "there is no ORIGINAL to compare with"),
    NotChecked("which of the remaining nodes the plan would convert", "there is no ORIGINAL to plan for"),
    NotChecked("outputs against the original's", "there is no ORIGINAL to run"),
)


def check_alone(hardened: Hardened, policy: JumpReluPolicy | None) -> Iterator[Finding]:
    """All that can be said without the original."""
    yield from _missing(hardened)
    yield from check_record(hardened)
    yield from _count(hardened)
    yield from _jumps(hardened, policy)
    yield from check_body(hardened.model)
    yield from _imports(hardened)


def converted_sites(hardened: Hardened) -> tuple[Site, ...]:
    """The sites that are JumpReLU, in the activations of RNN, GRU and LSTM too."""
    sites = hardened.side.sites.values()
    return tuple(site for site in sites if site.kind is SiteKind.HARDENED or jump_of(site) is not None)


def _missing(hardened: Hardened) -> Iterator[Finding]:
    recorded = hardened.metadata
    for key in (VERSION, TARGET, SITES, SOURCE):
        if not recorded.get(key):
            yield finding(rules.METADATA, f"metadata '{key}' is missing")
    if JUMP not in recorded and POLICY not in recorded:
        yield finding(rules.METADATA, f"metadata '{JUMP}' is missing")


def check_record(hardened: Hardened) -> Iterator[Finding]:
    """Entries of the record that cannot be true of any file."""
    recorded = hardened.metadata
    jump, target, sites, version = (recorded.get(key, "") for key in (JUMP, TARGET, SITES, VERSION))
    if version and not re.fullmatch(r"\d+\.\d+\.\d+\S*", version):
        yield finding(rules.METADATA, f"metadata '{VERSION}' is '{version}', which is no version")
    if jump and recorded_jump(recorded) is None:
        yield finding(rules.METADATA, f"metadata '{JUMP}' is '{jump}', which is no jump")
    if target and target.removesuffix(" inline") not in TARGETS:
        yield finding(rules.METADATA, f"metadata '{TARGET}' is '{target}', which is no target")
    if sites and not sites.isdecimal():
        yield finding(rules.METADATA, f"metadata '{SITES}' is '{sites}', which is no number")


def _count(hardened: Hardened) -> Iterator[Finding]:
    text, found = hardened.metadata.get(SITES), len(converted_sites(hardened))
    if text is None or not text.isdecimal():
        return
    if found < int(text):
        yield finding(rules.UNCONVERTED, f"the file records {text} sites and has {found} JumpReLU")
    elif found > int(text) and POLICY not in hardened.metadata:
        yield finding(rules.UNPLANNED, f"the file records {text} sites and has {found} JumpReLU")


def _jumps(hardened: Hardened, policy: JumpReluPolicy | None) -> Iterator[Finding]:
    """One jump for all sites: the one that was asked for, or the one that is recorded. A policy needs the original."""
    recorded = recorded_jump(hardened.metadata)
    asked = policy.default if policy is not None and not policy.rules else recorded
    if not isinstance(asked, float | int):
        return
    if recorded is not None and recorded != asked:
        yield finding(rules.JUMP, f"the file records the jump {recorded!r}, asked for was {asked!r}")
    for site in converted_sites(hardened):
        values = jump_of(site)
        if values is None or site.element_type not in NUMPY_TYPES:
            continue
        element_type = site.element_type if site.kind is SiteKind.HARDENED else onnx.TensorProto.FLOAT
        try:
            wanted = round_jump(round_jump(float(asked), site.element_type), element_type)
        except OptionError as error:
            yield finding(rules.JUMP, str(error), site.path)
            continue
        wrong = [float(value) for value in np.ravel(values) if float(value) != wanted]
        if wrong:
            yield finding(rules.JUMP, f"the jump is {wrong[0]!r} and should be {wanted!r}", site.path)


def check_body(model: onnx.ModelProto) -> Iterator[Finding]:
    """The function must be one of those that are shipped for the opset that it imports."""
    name = function_name(DOMAIN, OP_TYPE, "")
    called = any(node.domain == DOMAIN for scope in all_scopes(model) for node in scope.nodes)
    functions = [function for function in model.functions if function.domain == DOMAIN]
    if called and not functions:
        yield finding(rules.BODY, f"function {name} is missing")
    for function in functions:
        opset = next((o.version for o in function.opset_import if not own_domain(o.domain)), 0)
        shipped = [
            function_proto(body, opset, element_type)
            for body in BODIES
            for element_type, lowest in body.types.items()
            if opset >= lowest
        ]
        if function not in shipped:
            yield finding(rules.BODY, f"the body of {name} is not the one that jr-onnx ships for its opset")


def _imports(hardened: Hardened) -> Iterator[Finding]:
    seen: set[tuple[str, str]] = set()
    for scope in hardened.side.scopes:
        for node in scope.nodes:
            domain, where = own_domain(node.domain), scope.outermost.path
            if domain not in scope.opsets and (domain, where) not in seen:
                seen.add((domain, where))
                place = f"function {where}" if where else "the model"
                yield finding(rules.OPSETS, f"{place} uses {domain or 'ai.onnx'} and does not import it")
