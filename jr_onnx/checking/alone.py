"""What a hardened file says by itself: its record, its jumps, its function body, its imports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx

from jr_onnx.checking import rules
from jr_onnx.checking.expected import FILTERS, Asked, Hardened, recorded_jump
from jr_onnx.checking.findings import Finding, NotChecked, finding
from jr_onnx.element_types import FLOAT, NUMPY_TYPES, round_jump
from jr_onnx.errors import OptionError
from jr_onnx.forms.function import function_proto, is_jump_relu
from jr_onnx.forms.table import BODIES, DOMAIN, OP_TYPE, TARGETS
from jr_onnx.graph.scopes import all_scopes, function_name, own_domain
from jr_onnx.metadata import JUMP, POLICY, SITES, SOURCE, TARGET, VERSION
from jr_onnx.policy import JumpReluPolicy
from jr_onnx.sites.jumps import jump_of
from jr_onnx.sites.matchers import SiteKind
from jr_onnx.sites.survey import Site

#: What needs the original.
WITHOUT_ORIGINAL = (
    NotChecked(
        "weights, nodes, names, order, declared types", "there is no ORIGINAL to compare with", rules.NEEDS_ORIGINAL
    ),
    NotChecked("which of the remaining nodes the plan would convert", "there is no ORIGINAL to plan for"),
    NotChecked("outputs against the original's", "there is no ORIGINAL to run", rules.WHOLE),
)


def check_alone(hardened: Hardened, asked: Asked) -> Iterator[Finding]:
    """All that can be said without the original."""
    if replace(asked, policy=None) != Asked():
        yield finding(rules.NOT_RUN, "which sites there should be: filters are for a plan, so give ORIGINAL as well")
    yield from _missing(hardened)
    yield from check_record(hardened)
    yield from _count(hardened)
    yield from _jumps(hardened, asked.policy)
    yield from check_body(hardened.model)
    yield from _imports(hardened)


def filters_of_record(hardened: Hardened) -> tuple[str, ...]:
    """What the file records of filters, which nothing is held against without the original."""
    recorded = hardened.metadata
    return tuple(f"the file records {key} {recorded[key]}" for key in FILTERS if key in recorded)


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
    if JUMP in recorded and POLICY in recorded:
        yield finding(rules.METADATA, f"metadata '{JUMP}' and '{POLICY}' are both there; a file has one of them")
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
    if not isinstance(asked, float | int) or (policy is not None and policy.rules):
        if policy is not None or POLICY in hardened.metadata:
            yield finding(rules.NOT_RUN, "jumps by policy: they are planned on ORIGINAL; give it, and --policy FILE")
        return
    if recorded is not None and recorded != asked:
        yield finding(rules.JUMP, f"the file records the jump {recorded!r}, asked for was {asked!r}")
    for site in converted_sites(hardened):
        yield from _site_jump(site, float(asked))


def _site_jump(site: Site, asked: float) -> Iterator[Finding]:
    values = jump_of(site)
    if values is None and site.element_type not in NUMPY_TYPES:
        yield finding(rules.NOT_RUN, "the jump: the element type of the site is not known", site.path)
        return
    if values is None:
        yield finding(rules.JUMP, f"the jump is not a constant and should be {asked!r}", site.path)
        return
    # Where no type is declared, the jump's own is the site's: a constant of another type does not load.
    own = next((key for key, dtype in NUMPY_TYPES.items() if dtype == values.dtype), FLOAT)
    element_type = site.element_type if site.element_type in NUMPY_TYPES else own
    try:
        wanted = round_jump(asked, element_type)
        if site.kind is not SiteKind.HARDENED:
            wanted = round_jump(wanted, FLOAT)  # an activation's attribute
    except OptionError as error:
        yield finding(rules.JUMP, str(error), site.path)
        return
    wrong = [float(value) for value in np.ravel(values) if float(value) != wanted]
    if wrong or not values.size:
        found = repr(wrong[0]) if wrong else "empty"
        yield finding(rules.JUMP, f"the jump is {found} and should be {wanted!r}", site.path)


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
        plain = onnx.FunctionProto()
        plain.CopyFrom(function)
        if is_jump_relu(function):
            plain.name = OP_TYPE  # whatever prefix another tool gave it
        if plain not in shipped:
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
