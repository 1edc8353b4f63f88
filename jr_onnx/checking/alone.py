"""What a hardened file says by itself: its record, its jumps, its function body, its imports."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from jr_onnx.checking import rules
from jr_onnx.checking.expected import FILTERS, Asked, Hardened, recorded_globs, recorded_jump
from jr_onnx.checking.report import Finding, NotChecked, finding
from jr_onnx.conversion.element_types import FLOAT, NUMPY_TYPES, round_jump, type_name
from jr_onnx.conversion.forms.quantized import WITH_INTEGER
from jr_onnx.conversion.forms.table import TARGETS
from jr_onnx.conversion.forms.write import foreign_bodies
from jr_onnx.conversion.graph.names import ADD_OP_TYPE, DOMAIN
from jr_onnx.conversion.graph.scopes import Scope, own_domain
from jr_onnx.conversion.graph.wiring import constant_value
from jr_onnx.conversion.metadata import (
    EXCLUDE,
    INCLUDE,
    JUMP,
    JUMP_INPUT,
    MADE_FOR,
    OPTIMIZED_SITES,
    POLICY,
    RECOGNISE,
    REVERT,
    SITES,
    SOURCE,
    TARGET,
    VERSION,
    way_back_of,
)
from jr_onnx.conversion.policy import JumpReluPolicy, jump_text
from jr_onnx.conversion.sites.matchers import SiteKind
from jr_onnx.conversion.sites.survey import Site
from jr_onnx.conversion.sites.surveyed import jump_of, jump_relus, wiring_of
from jr_onnx.errors import OptionError
from jr_onnx.files.undo import unpacked

#: As PEP 440 writes a release, and what may follow it.
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?(\+[a-z0-9.]+)?", re.ASCII)

#: More sites than this no model has, and Python refuses to read numbers of thousands of digits.
_NUMBER = re.compile(r"[0-9]{1,9}")

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
    for fault in foreign_bodies(hardened.model):
        yield finding(rules.BODY, fault)
    yield from _imports(hardened)


def filters_of_record(hardened: Hardened) -> tuple[str, ...]:
    """What the file records of filters, which nothing is held against without the original."""
    recorded = hardened.metadata
    return tuple(f"the file records {key} {recorded[key]}" for key in FILTERS if key in recorded)


def _missing(hardened: Hardened) -> Iterator[Finding]:
    recorded = hardened.metadata
    more = (OPTIMIZED_SITES,) if MADE_FOR in recorded else ()
    for key in (VERSION, TARGET, SITES, SOURCE, *more):
        if not recorded.get(key):
            yield finding(rules.METADATA, f"metadata '{key}' is missing")
    if not recorded.keys() & {JUMP, POLICY, RECOGNISE}:
        yield finding(rules.METADATA, f"metadata '{JUMP}' is missing")


def check_record(hardened: Hardened) -> Iterator[Finding]:
    """Entries of the record that cannot be true of any file."""
    recorded = hardened.metadata
    if JUMP in recorded and POLICY in recorded:
        yield finding(rules.METADATA, f"metadata '{JUMP}' and '{POLICY}' are both there; a file has one of them")
    jump, target, version = (recorded.get(key, "") for key in (JUMP, TARGET, VERSION))
    if version and not _VERSION.fullmatch(version):
        yield finding(rules.METADATA, f"metadata '{VERSION}' is '{version}', which is not a version")
    if jump and recorded_jump(recorded) is None:
        yield finding(rules.METADATA, f"metadata '{JUMP}' is '{jump}', which is not a jump")
    if target and target.removesuffix(" inline") not in TARGETS:
        yield finding(rules.METADATA, f"metadata '{TARGET}' is '{target}', which is not a target")
    for key in (SITES, OPTIMIZED_SITES):
        if recorded.get(key) and not _NUMBER.fullmatch(recorded[key]):
            yield finding(rules.METADATA, f"metadata '{key}' is '{recorded[key]}', which is not a number")
    if JUMP_INPUT in recorded and all(value.name != recorded[JUMP_INPUT] for value in hardened.model.graph.input):
        yield finding(rules.METADATA, f"metadata '{JUMP_INPUT}' is '{recorded[JUMP_INPUT]}', which is not an input")
    yield from _unreadable(hardened)


def _unreadable(hardened: Hardened) -> Iterator[Finding]:
    recorded = hardened.metadata
    back = way_back_of(hardened.model)
    if back is not None and unpacked(back, sys.maxsize) is None:
        yield finding(rules.METADATA, f"metadata '{REVERT}' is damaged; jr-onnx revert cannot follow it")
    for key in (INCLUDE, EXCLUDE):
        if recorded_globs(recorded, key) is None:
            yield finding(rules.METADATA, f"metadata '{key}' is '{recorded[key]}', which is not a list of globs")


def _count(hardened: Hardened) -> Iterator[Finding]:
    text = hardened.metadata.get(OPTIMIZED_SITES if MADE_FOR in hardened.metadata else SITES)
    found = len(jump_relus(hardened.side)) + len(_with_add(hardened))
    if text is None or not _NUMBER.fullmatch(text):
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
            yield finding(rules.NOT_RUN, "jumps by policy: they are planned on ORIGINAL; give it, and `policy`")
        return
    if recorded is not None and recorded != asked:
        yield finding(rules.JUMP, f"the file records the jump {recorded!r}, asked for was {asked!r}")
    for site in jump_relus(hardened.side):
        yield from _site_jump(site, float(asked))
    for scope, index in _with_add(hardened):
        path, values = scope.path_of(index), constant_value(wiring_of(scope), scope.nodes[index].input[-1])
        if values is None:
            yield finding(rules.JUMP, f"the jump is not a constant and should be {asked!r}", path)
        else:
            yield from _wrong_jump(path, values, {round_jump(float(asked), _type_of(values))})


def _with_add(hardened: Hardened) -> tuple[tuple[Scope, int], ...]:
    """The nodes that are JumpReLU of a sum, in a model that was optimised for CUDA."""
    nodes = ((scope, index) for scope in hardened.side.scopes for index in range(len(scope.nodes)))
    return tuple((s, i) for s, i in nodes if (s.nodes[i].domain, s.nodes[i].op_type) == (DOMAIN, ADD_OP_TYPE))


def _type_of(values: npt.NDArray[Any]) -> int:
    return next((key for key, dtype in NUMPY_TYPES.items() if dtype == values.dtype), FLOAT)


def _site_jump(site: Site, asked: float) -> Iterator[Finding]:
    values = jump_of(site)
    if values is None and site.jump_type not in NUMPY_TYPES:
        yield finding(rules.NOT_RUN, "the jump: the element type of the site is not known", site.path)
        return
    if values is None:
        yield finding(rules.JUMP, f"the jump is not a constant and should be {asked!r}", site.path)
        return
    # Where no type is declared, the jump's own is the site's: a constant of another type does not load.
    element_type = site.jump_type if site.jump_type in NUMPY_TYPES else _type_of(values)
    # Another tool may have changed the type after the jump was rounded to it: onnxruntime computes float16 in float.
    rounded = [asked]
    for one in NUMPY_TYPES:
        with contextlib.suppress(OptionError):  # it has no such number
            rounded.append(round_jump(asked, one))
    try:
        wanted = [round_jump(one, element_type) for one in rounded]
        if site.quantization is not None and site.hardened is not None and site.hardened.form in WITH_INTEGER:
            wanted = [float(site.quantization.dequantized(site.quantization.threshold(one))) for one in wanted]
        if site.kind is not SiteKind.HARDENED:
            wanted = [round_jump(one, FLOAT) for one in wanted]  # an activation's attribute
    except OptionError as error:
        yield finding(rules.JUMP, str(error), site.path)
        return
    yield from _wrong_jump(site.path, values, wanted)


def _wrong_jump(path: str, values: npt.NDArray[Any], wanted: Collection[float]) -> Iterator[Finding]:
    wrong = [float(value) for value in np.ravel(values) if float(value) not in wanted]
    if wrong or not values.size:
        name = type_name(_type_of(values))
        found = jump_text(wrong[0], name) if wrong else "empty"
        yield finding(rules.JUMP, f"the jump is {found} and should be {jump_text(next(iter(wanted)), name)}", path)


def _imports(hardened: Hardened) -> Iterator[Finding]:
    seen: set[tuple[str, str]] = set()
    for scope in hardened.side.scopes:
        for node in scope.nodes:
            domain, where = own_domain(node.domain), scope.outermost.path
            if domain not in scope.opsets and (domain, where) not in seen:
                seen.add((domain, where))
                place = f"function {where}" if where else "the model"
                yield finding(rules.OPSETS, f"{place} uses {domain or 'ai.onnx'} and does not import it")
