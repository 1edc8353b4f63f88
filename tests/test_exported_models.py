"""The files of models/, as exporters write them, against the ReferenceEvaluator: what can be tested without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support import BOOL, INT64, SHIPPED, TARGETS, Array, OracleJumpRelu, check, evaluate, report_of, run, with_oracle

from jr_onnx.conversion.element_types import NUMPY_TYPES

#: The ReferenceEvaluator has no Relu in its RNN; tests/conversion/forms/test_recurrent.py has.
FILES = [path for path in SHIPPED if path.name != "rnn.torchscript.onnx"]


def feeds_for(model: onnx.ModelProto) -> dict[str, Array]:
    """Values for each input, two of what is free; the number of steps, where a network has such an input."""
    generator = np.random.default_rng(9)
    feeds = {}
    for given in model.graph.input:
        tensor = given.type.tensor_type
        shape = [dim.dim_value or 2 for dim in tensor.shape.dim]
        if tensor.elem_type in (INT64, BOOL):
            feeds[given.name] = np.full(shape, 3, np.int64)
        else:
            feeds[given.name] = generator.normal(0, 1, shape).astype(NUMPY_TYPES[tensor.elem_type])
    return feeds


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".onnx"))
def test_a_hardened_file_gives_what_numpy_gives(path: Path) -> None:
    model = onnx.load(path)
    feeds = feeds_for(model)
    half = "half" in path.name
    evaluations = {}
    for jump in np.linspace(0.1, 0.5, 21).astype(np.float16 if half else np.float32):
        OracleJumpRelu.margin = np.inf
        evaluations[float(jump)] = evaluate(with_oracle(model, lambda _, k=jump: k), feeds), OracleJumpRelu.margin
    # The jump from which all values keep the farthest away: on either side of it, a rounding error changes nothing.
    jump = max(evaluations, key=lambda k: evaluations[k][1])
    wanted, margin = evaluations[jump]
    tolerance = 5e-3 if half else 1e-4
    assert margin > (1e-3 if half else 1e-5)
    for target, options in TARGETS.items():
        report = report_of(model, jump, **options)
        assert report.model is not None
        check(report.model)
        for got, want in zip(run(report.model, feeds), wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=target)
