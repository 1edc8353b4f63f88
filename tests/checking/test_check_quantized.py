"""`check`, `diff` and `deploy` of models of integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from quantized_models import KINDS, images, quantized
from support import EACH_TARGET, TARGETS, hardened

import jr_onnx
from jr_onnx import JumpReluPolicy, PolicyRule

EACH_KIND = pytest.mark.parametrize(("activations", "form"), KINDS, ids=["-".join(kind) for kind in KINDS])


def rules(report: jr_onnx.CheckReport) -> set[str]:
    """The rules that a report has findings of."""
    return {finding.rule for finding in report.findings}


def initializer(model: onnx.ModelProto, part: str) -> onnx.TensorProto:
    """The first initializer with this in its name."""
    return next(tensor for tensor in model.graph.initializer if part in tensor.name)


@EACH_TARGET
@EACH_KIND
@pytest.mark.parametrize("with_original", [True, False])
def test_what_convert_writes_is_sound(activations: str, form: str, target: str, with_original: bool) -> None:
    """The structure, and every site's values in place and on edge values, with the kernels and without."""
    model = quantized(activations, form)
    report = jr_onnx.check(model if with_original else None, hardened(model, 0.1, **TARGETS[target]))
    assert not report.findings
    assert [site.exercised for site in report.sites] == [True] * 4
    assert all(site.values > 1000 for site in report.sites[:3])


@EACH_TARGET
@EACH_KIND
def test_so_is_a_model_whose_jumps_vary(activations: str, form: str, target: str) -> None:
    model = quantized(activations, form)
    first, second, *_ = (site.path for site in jr_onnx.find_sites(model))
    rules_ = (PolicyRule(first, tuple(np.linspace(0, 0.9, 16))), PolicyRule(second, 0.3))
    policy = JumpReluPolicy(0.1, rules_)
    hard = jr_onnx.convert(model, policy=policy, **TARGETS[target]).model
    assert hard is not None
    assert not jr_onnx.check(model, hard, policy=policy).findings


@EACH_KIND
def test_so_is_one_whose_jump_is_an_input(activations: str, form: str) -> None:
    model = quantized(activations, form)
    assert not jr_onnx.check(model, hardened(model, 0.1, jump_input="jump")).findings


@pytest.mark.parametrize("with_original", [True, False])
def test_another_threshold_is_found(with_original: bool) -> None:
    model = quantized("QUInt8", "QDQ")
    hard = hardened(model, 0.1)
    initializer(hard, "threshold").raw_data = bytes([77])
    report = jr_onnx.check(model if with_original else None, hard)
    assert "JR117" in rules(report)


@pytest.mark.parametrize("with_original", [True, False])
def test_another_alpha_is_found(with_original: bool) -> None:
    model = quantized("QInt8", "QDQ")
    hard = hardened(model, 0.1)
    thresholded = next(op for op in hard.graph.node if op.op_type == "ThresholdedRelu")
    thresholded.attribute[0].f = 0.2
    report = jr_onnx.check(model if with_original else None, hard)
    assert "JR117" in rules(report)


def test_another_function_body_is_found_and_shows_in_the_values() -> None:
    model = quantized("QUInt8", "QDQ")
    hard = hardened(model, 0.1)
    gate = next(op for op in hard.functions[0].node if op.op_type == "HardSigmoid")
    gate.attribute[1].f = 1.0  # always open
    assert "JR114" in rules(jr_onnx.check(None, hard))
    assert "JR301" in rules(jr_onnx.check(model, hard, keep_going=True, library=False))


def test_diff_shows_what_each_site_was_and_is() -> None:
    model = quantized("QUInt8", "QDQ")
    report = jr_onnx.diff(model, hardened(model, 0.1))
    assert {site.before for site in report.sites} == {"QuantizeLinear"}
    forms = ["QuantizedJumpReLU, channels last"] * 3 + ["QuantizedJumpReLU"]  # the last one is of a Gemm
    assert [site.after for site in report.sites] == forms
    assert len(report.sites) == 4 and not report.sites_unchanged


def test_deploy_takes_the_library_along(tmp_path: Path) -> None:
    onnx.save(hardened(quantized("QUInt8", "QDQ"), 0.1), tmp_path / "hard.onnx")
    deployed: Any = jr_onnx.deploy(tmp_path / "hard.onnx", server="triton", output=tmp_path / "models")
    assert deployed.library


def test_optimize_and_tune_refuse_in_one_line(tmp_path: Path) -> None:
    model = quantized("QUInt8", "QDQ")
    onnx.save(hardened(model, 0.1), tmp_path / "hard.onnx")
    with pytest.raises(jr_onnx.ModelError, match="is quantized, and only models of floating point are laid out"):
        jr_onnx.optimize(tmp_path / "hard.onnx", output=tmp_path / "fast.onnx")
    assert not (tmp_path / "fast.onnx").exists()
    labels, one, none = np.zeros(24, np.int64), np.ones(1, np.float32), np.zeros(1, np.float32)
    data = jr_onnx.Dataset(images(24), labels, none, one, (0.0, 1.0))
    with pytest.raises(jr_onnx.ModelError, match="is quantized, and only jumps of floating point are tuned"):
        jr_onnx.tune(model, data)
