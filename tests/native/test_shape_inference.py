"""Shapes that are not known: with the kernels a model gives what the body gives, and declares nothing untrue."""

from __future__ import annotations

import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_models import CPU, Array
from onnxruntime import GraphOptimizationLevel as Level
from shape_cases import PLACES, SOURCES, USES, Axis, Case

from jr_onnx import runtime

pytestmark = pytest.mark.usefixtures("library")

LEVELS = (Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_BASIC, Level.ORT_ENABLE_EXTENDED, Level.ORT_ENABLE_ALL)

Shape = list[int | str | None]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    source = draw(st.sampled_from(sorted(SOURCES)))
    axis = st.builds(Axis, st.integers(1, 3), st.sampled_from(["size", "name", "anonymous"]))
    least, most = (4, 4) if source == "Conv" else (1, 4)
    return Case(
        axes=tuple(draw(st.lists(axis, min_size=least, max_size=most))),
        source=source,
        place=draw(st.sampled_from(sorted(PLACES))),
        per_channel=draw(st.booleans()),
        uses=tuple(draw(st.lists(st.sampled_from(sorted(USES)), min_size=1, max_size=4, unique=True))),
    )


def ran(
    model: onnx.ModelProto, feeds: dict[str, Array], level: Level, *, kernels: bool
) -> tuple[list[Array], list[Shape]]:
    """The outputs, and the shapes that the session declares for them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = level
    if kernels:
        runtime.register(options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=CPU)
    return session.run(None, feeds), [output.shape for output in session.get_outputs()]


def assert_true(declared: Shape, output: Array, names: dict[str, int]) -> None:
    """What a session declares of a shape is so. A rank that is not known is told as that of a scalar."""
    if declared:
        assert len(declared) == output.ndim
        for said, size in zip(declared, output.shape, strict=True):
            assert said is None or (names[said] if isinstance(said, str) else said) == size


@settings(max_examples=400)
@given(cases())
def test_with_the_kernels_a_model_loads_and_gives_what_it_gives_by_the_function_body(case: Case) -> None:
    model, feeds = case.build()
    for level in LEVELS:
        expected, by_body = ran(model, feeds, level, kernels=False)
        got, by_kernel = ran(model, feeds, level, kernels=True)
        for one, other in zip(got, expected, strict=True):
            assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
        if case.shape_is_known:
            assert by_kernel == by_body
        for declared, output in zip(by_kernel, got, strict=True):
            assert_true(declared, output, case.names)
