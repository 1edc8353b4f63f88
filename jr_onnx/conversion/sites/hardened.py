"""The JumpReLUs that are in a scope already: where they are, and what they compare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from jr_onnx.conversion.forms.quantized import QUANTIZED_FORMS, WITH_INTEGER
from jr_onnx.conversion.forms.recognise import Match, operator_of, recognise
from jr_onnx.conversion.forms.table import ALL_FORMS, Form
from jr_onnx.conversion.graph.wiring import Wiring
from jr_onnx.conversion.metadata import Record
from jr_onnx.conversion.quantization import Quantization
from jr_onnx.conversion.sites.matchers import Found
from jr_onnx.conversion.sites.quantized import quantization_of


def hardened_in(wiring: Wiring, record: Record) -> Mapping[int, Match]:
    """The JumpReLUs of a scope, by the index of the node that gives their output."""
    endings: dict[tuple[str, str], list[Form]] = defaultdict(list)
    for form in (*ALL_FORMS, *QUANTIZED_FORMS):
        endings[form.ops[-1].domain, form.ops[-1].op_type].append(form)
    known = {}
    for index, node in enumerate(wiring.scope.nodes):
        for form in endings.get(operator_of(node), ()):
            match = recognise(form, wiring, index, record)
            if match is not None:
                known[index] = match
                break
    return known


def covered_by(wiring: Wiring, known: Mapping[int, Match]) -> Mapping[str, set[int]]:
    """Each value of which there is a JumpReLU -> the nodes of that."""
    covered: dict[str, set[int]] = defaultdict(set)
    for match in known.values():
        covered[match.x].update(match.nodes)
        if match.form in QUANTIZED_FORMS:
            covered.update(_moved(wiring, match.x))
    return covered


def only_covered(wiring: Wiring, value: str, covered: Mapping[str, set[int]]) -> bool:
    """Whether everything that takes a value is part of a JumpReLU of it."""
    return value in covered and set(wiring.consumers[value]) <= covered[value]


def _moved(wiring: Wiring, value: str) -> Iterator[tuple[str, set[int]]]:
    """A value before each Transpose that onnxruntime has put behind it, and that node: it is the same to a JumpReLU."""
    produced = wiring.producer(value)
    while produced is not None and produced[1].op_type == "Transpose":
        yield produced[1].input[0], {produced[0]}
        produced = wiring.producer(produced[1].input[0])


def quantization_at(wiring: Wiring, match: Match, front: Found | None) -> Quantization | None:
    """How the integers of a JumpReLU stand for numbers: as what gives them says."""
    if match.form not in QUANTIZED_FORMS:
        return None
    if front is not None:
        return front.quantization
    last = wiring.scope.nodes[match.nodes[-1]]
    quantizer = wiring.source(match.x) if match.form in WITH_INTEGER else (wiring, last)
    while quantizer is not None and quantizer[1].op_type == "Transpose":
        quantizer = quantizer[0].source(quantizer[1].input[0])
    if quantizer is None:
        return None
    found = quantization_of(*quantizer)
    return found if isinstance(found, Quantization) else None
