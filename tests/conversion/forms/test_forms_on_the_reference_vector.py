"""Element types, opsets, targets and IR versions on the reference vector, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from support import (
    BFLOAT16,
    DOUBLE,
    ELEMENT_TYPES,
    FLOAT,
    FLOAT16,
    NONE,
    TARGETS,
    Array,
    assert_same_bits,
    assert_same_but_for_the_sign_of_zero,
    check,
    differing,
    evaluate,
    hardened,
    make_model,
    newest_ir_version,
    newest_opset,
    node,
    reference_vector,
    relu_model,
    report_of,
    run,
    type_id,
    value,
)

from jr_onnx.conversion.element_types import NUMPY_TYPES, round_jump
from jr_onnx.conversion.forms.table import ALL_FORMS, LOWEST_OPSET
from jr_onnx.errors import ModelError
from jr_onnx.reference import jump_relu

#: The first opset in which Relu takes bfloat16.
BFLOAT16_OPSET = 13

OPSETS = range(LOWEST_OPSET, newest_opset() + 1)
IR_VERSIONS = (3, 7, 8, newest_ir_version())

#: What the forms are written with, but for Cast, which after opset 13 takes only types more that no form casts.
OPERATORS = ["Greater", "HardSigmoid", "IsNaN", "LessOrEqual", "Mul", "Or", "Relu", "Sub", "ThresholdedRelu", "Where"]


def cases() -> Iterator[tuple[int, int, str, int]]:
    """(element type, opset, target, IR version), instead of their product.

    All types with all targets at each opset that changes an operator of a form, and at 18, where ONNX makes Relu a
    function of Max; elsewhere each target once. Each pair of an opset, target, type or IR version is among them.
    """
    versions = {schema.since_version for schema in onnx.defs.get_all_schemas_with_history() if schema.name in OPERATORS}
    for i, opset in enumerate(OPSETS):
        for j, target in enumerate(TARGETS):
            if opset in versions | {18}:
                for k, element_type in enumerate(ELEMENT_TYPES):
                    yield element_type, opset, target, IR_VERSIONS[(i + j + k) % 4]
            else:
                yield ELEMENT_TYPES[(i + j) % 4], opset, target, IR_VERSIONS[(i - j) % 4]


DIFFERS = {form.name: form.differs for form in ALL_FORMS}

#: Target, element type, opset -> the form that is written. The table says nothing of what it leaves out.
EXPECTED = {
    ("custom-op", FLOAT, 7): "JumpReLU",
    ("custom-op", DOUBLE, 12): "JumpReLU",
    ("custom-op", BFLOAT16, 13): "JumpReLU",
    ("inline", FLOAT, 8): "Relu*Greater",
    ("inline", FLOAT, 9): "Where(Greater or IsNaN)",
    ("inline", FLOAT, 11): "Where(Greater or IsNaN)",
    ("inline", FLOAT16, 12): "Where(LessOrEqual)",
    ("inline", BFLOAT16, 15): "Relu*Greater",
    ("inline", BFLOAT16, 16): "Where(LessOrEqual in float)",
    ("subgraph", FLOAT, 7): "Relu*Greater",
    ("subgraph", DOUBLE, 18): "Relu*Greater",
    ("standard", FLOAT, 9): "Where(Greater or IsNaN)",
    ("standard", FLOAT, 10): "ThresholdedRelu",
    ("standard", FLOAT16, 10): "ThresholdedRelu",
    ("standard", DOUBLE, 10): "Where(Greater or IsNaN)",
    ("standard", DOUBLE, 12): "Where(LessOrEqual)",
    ("standard", BFLOAT16, 21): "Where(LessOrEqual in float)",
    ("standard", BFLOAT16, 22): "Where(LessOrEqual in float)",
    ("hard-sigmoid", FLOAT, 7): "Relu*HardSigmoid",
    ("hard-sigmoid", FLOAT16, 12): "Relu*Greater",
    ("hard-sigmoid", DOUBLE, 12): "Relu*Greater",
    ("hard-sigmoid", BFLOAT16, 22): "Relu*Greater",
}


def expected(x: Array, jump: float, form: str, opset: int, *, runtime: Callable[..., Any] = run) -> Array:
    """What the definition gives, except just where the form that was written says that it differs."""
    # The body of the function is, below opset 9, Relu*Greater.
    differs = DIFFERS["Relu*Greater"] if form == "JumpReLU" and opset < 9 else DIFFERS[form]
    if runtime is evaluate and differs == DIFFERS["Relu*Greater"]:
        differs = ""  # its Relu gives 0.0 for -0.0
    return differing(jump_relu(x, jump), x, differs)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # ml_dtypes, for a NaN in a comparison
@pytest.mark.parametrize(
    ("element_type", "opset", "target", "ir_version"),
    [pytest.param(*case, id="-".join((type_id(case[0]), *map(str, case[1:])))) for case in cases()],
)
def test_every_target_gives_what_the_definition_gives(
    element_type: int, opset: int, target: str, ir_version: int
) -> None:
    if element_type == BFLOAT16 and opset < BFLOAT16_OPSET:
        with pytest.raises(ModelError, match="bfloat16 from opset 13, this is"):
            report_of(relu_model(element_type, opset=opset, ir_version=ir_version), **TARGETS[target])
        return
    x = reference_vector(element_type)
    report = report_of(relu_model(element_type, opset=opset, ir_version=ir_version), 0.5, **TARGETS[target])
    assert report.model is not None
    check(report.model)
    (site,) = report.sites
    # onnxruntime has no kernel for bfloat16 on the CPU, not even Relu.
    runtime = evaluate if element_type == BFLOAT16 else run
    want = expected(x, 0.5, site.lowering, opset, runtime=runtime)
    (got,) = runtime(report.model, {"x": x})
    if (element_type, opset, site.lowering) == (FLOAT16, 18, "Relu*Greater"):
        # At just this opset ONNX defines Relu as a function of Max, which onnxruntime uses for lack of a float16
        # kernel; whether its Max keeps -0.0 depends on the casts around it.
        assert_same_but_for_the_sign_of_zero(got, want, site.lowering)
    else:
        assert_same_bits(got, want, site.lowering)


@pytest.mark.parametrize(("target", "element_type", "opset"), EXPECTED)
def test_the_form_is_the_one_of_the_table(target: str, element_type: int, opset: int) -> None:
    (site,) = report_of(relu_model(element_type, opset=opset), **TARGETS[target]).sites
    assert site.lowering == EXPECTED[target, element_type, opset]


@pytest.mark.parametrize(
    ("target", "element_type", "opset", "differs"),
    [
        ("custom-op", FLOAT, 9, ""),
        ("custom-op", FLOAT, 18, ""),
        ("custom-op", FLOAT, 8, "keeps -0.0"),
        ("custom-op", BFLOAT16, 15, "keeps -0.0"),
        ("inline", FLOAT, 8, "keeps -0.0"),
        ("inline", FLOAT, 9, ""),
        ("subgraph", FLOAT, 18, "keeps -0.0"),
        ("standard", FLOAT, 18, "NaN becomes 0"),
        ("standard", DOUBLE, 18, ""),
    ],
)
def test_the_report_says_where_the_form_differs(target: str, element_type: int, opset: int, differs: str) -> None:
    (site,) = report_of(relu_model(element_type, opset=opset), **TARGETS[target]).sites
    assert site.differs == differs


@pytest.mark.parametrize(
    ("target", "element_type", "opset", "reason"),
    [
        ("standard", FLOAT, 9, "ThresholdedRelu takes float from opset 10, this is 9"),
        ("standard", DOUBLE, 18, "onnxruntime has no ThresholdedRelu for double on CPU"),
        ("standard", BFLOAT16, 16, "onnxruntime has no ThresholdedRelu for bfloat16"),
        ("inline", FLOAT, 11, "Where(LessOrEqual) takes float from opset 12, this is 11"),
        ("standard", FLOAT, 10, ""),
        ("custom-op", FLOAT, 7, ""),
    ],
)
def test_a_form_that_is_not_the_preferred_one_says_why(target: str, element_type: int, opset: int, reason: str) -> None:
    (site,) = report_of(relu_model(element_type, opset=opset), **TARGETS[target]).sites
    assert reason in site.reason
    assert bool(reason) == bool(site.reason)


@pytest.mark.parametrize("ir_version", IR_VERSIONS)
@pytest.mark.parametrize("target", TARGETS)
def test_the_ir_version_is_raised_only_for_a_local_function(target: str, ir_version: int) -> None:
    report = report_of(relu_model(ir_version=ir_version), **TARGETS[target])
    assert report.ir_version == (max(8, ir_version) if target == "custom-op" else ir_version)
    assert report.model is not None
    assert report.model.ir_version == report.ir_version


@pytest.mark.parametrize("target", TARGETS)
def test_raising_the_ir_version_keeps_constants_constant(target: str) -> None:
    x, y = value("x", FLOAT, [10]), value("y", FLOAT, [10])
    w = np.full(10, 2, np.float32)
    nodes = [node("Mul", "x w", "h"), node("Relu", "h", "y")]
    model = make_model(nodes, [x], [y], opset=12, ir_version=3, initializers={"w": w})
    result = hardened(model, 0.5, **TARGETS[target])
    # Up to IR version 3 every initializer must be an input; from then on, one that is could be overridden.
    names = ["x"] if target == "custom-op" else ["x", "w"]
    assert [i.name for i in result.graph.input] == names
    assert "w" in [i.name for i in result.graph.initializer]
    check(result)
    x_values = np.array([-1, 0, 0.2, 0.25, 0.26, 1, 2, 3, 4, 5], np.float32)
    assert_same_bits(run(result, {"x": x_values})[0], jump_relu(x_values * 2, 0.5))


@pytest.mark.parametrize("opset", [7, 8, 12, 13, 15, 18])
@pytest.mark.parametrize("target", TARGETS)
def test_element_types_can_be_mixed_in_one_model(target: str, opset: int) -> None:
    types = (FLOAT, FLOAT16, DOUBLE)
    nodes = [node("Relu", f"x{t}", f"y{t}", f"relu{t}") for t in types]
    model = make_model(
        nodes, [value(f"x{t}", t, [10]) for t in types], [value(f"y{t}", t, [10]) for t in types], opset=opset
    )
    report = report_of(model, 0.3, **TARGETS[target])  # 0.3 is another number in each of them
    assert report.model is not None
    check(report.model)
    feeds = {f"x{t}": _around(0.3, t) for t in types}
    for site, t, got in zip(report.sites, types, run(report.model, feeds), strict=True):
        x = feeds[f"x{t}"]
        want = expected(x, round_jump(0.3, t), site.lowering, opset)
        if (t, opset, site.lowering) == (FLOAT16, 18, "Relu*Greater"):  # as above
            assert_same_but_for_the_sign_of_zero(got, want, site.path)
        else:
            assert_same_bits(got, want, site.path)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("opset", [13, 15, 16, 18, 22])
@pytest.mark.parametrize("target", TARGETS)
def test_bfloat16_can_be_mixed_with_float(target: str, opset: int) -> None:
    types = (BFLOAT16, FLOAT)
    nodes = [node("Relu", f"x{t}", f"y{t}") for t in types]
    model = make_model(
        nodes, [value(f"x{t}", t, [10]) for t in types], [value(f"y{t}", t, [10]) for t in types], opset=opset
    )
    report = report_of(model, 0.3, **TARGETS[target])
    assert report.model is not None
    check(report.model)
    feeds = {f"x{t}": _around(0.3, t) for t in types}
    for site, t, got in zip(report.sites, types, evaluate(report.model, feeds), strict=True):
        x = feeds[f"x{t}"]
        want = expected(x, round_jump(0.3, t), site.lowering, opset, runtime=evaluate)
        assert_same_bits(got, want, site.path)


def _around(jump: float, element_type: int) -> Array:
    """The reference vector, but around another jump."""
    dtype = NUMPY_TYPES[element_type]
    x = reference_vector(element_type)
    k = dtype.type(round_jump(jump, element_type))
    x[4:7] = np.nextafter(k, dtype.type(0)), k, np.nextafter(k, dtype.type(1))
    return x


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("element_type", "opset"), [(FLOAT, 7), (FLOAT, 11), (FLOAT, 18), (FLOAT16, 13), (DOUBLE, 18)])
def test_each_channel_can_have_its_own_jump(element_type: int, opset: int, target: str, shape: tuple[int, ...]) -> None:
    jumps = (0.0, 0.5, 1.25)
    dtype = NUMPY_TYPES[element_type]
    values = np.random.default_rng(1).normal(0.5, 1, shape).astype(dtype)
    values.reshape(-1)[:3] = 0.5
    report = report_of(relu_model(element_type, shape, opset=opset), jumps, **TARGETS[target])
    assert report.model is not None
    check(report.model)
    assert report.sites[0].jump == jumps
    broadcast = np.array(jumps, dtype).reshape(-1, *(1,) * (len(shape) - 2))
    (got,) = run(report.model, {"x": values})
    assert_same_but_for_the_sign_of_zero(got, jump_relu(values, broadcast))


def test_one_jump_a_channel_is_no_attribute_so_the_standard_target_takes_another_form() -> None:
    (site,) = report_of(relu_model(shape=(2, 3)), (0.1, 0.2, 0.3), target="standard").sites
    assert site.lowering == "Where(LessOrEqual)"
    assert "one number, fixed" in site.reason


def test_a_scalar_value_can_be_hardened() -> None:
    for options in TARGETS.values():
        result = hardened(relu_model(shape=()), 0.5, **options)
        check(result)
        for x in (-1.0, 0.5, 0.75):
            x_value = np.asarray(x, np.float32)
            assert_same_bits(run(result, {"x": x_value})[0], jump_relu(x_value, 0.5))


@pytest.mark.parametrize("level", [NONE, None], ids=["unoptimized", "optimized"])
@pytest.mark.parametrize("target", TARGETS)
def test_optimization_by_onnxruntime_changes_no_bit(target: str, level: Any) -> None:
    x = np.concatenate([reference_vector(FLOAT), np.linspace(-2, 2, 9990, dtype=np.float32)])
    report = report_of(relu_model(shape=("N",)), 0.5, **TARGETS[target])
    assert report.model is not None
    want = expected(x, 0.5, report.sites[0].lowering, 18)
    assert_same_bits(run(report.model, {"x": x}, level)[0], want, target)
