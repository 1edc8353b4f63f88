"""`check`, `diff` and `deploy` of models of integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from quantized_models import KINDS, fused, images, quantized, run_with_kernels
from support import EACH_TARGET, TARGETS, hardened, run

import jr_onnx
from jr_onnx import JumpReluPolicy, PolicyRule
from jr_onnx.runtime.optimization.relu_form import OF_INTEGERS

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


@pytest.mark.parametrize("target", ["custom-op", "standard"])
@EACH_KIND
def test_optimize_keeps_the_bits_and_what_is_fused(activations: str, form: str, target: str, tmp_path: Path) -> None:
    """For a machine without the kernels too: the function comes along."""
    hard, path, feeds = (
        hardened(quantized(activations, form), 0.1, target=target),
        tmp_path / "hard.onnx",
        {"x": images()},
    )
    onnx.save(hard, path)
    report = jr_onnx.optimize(path, output=tmp_path / "fast.onnx")
    fast = onnx.load(report.output)
    assert report.sites == len(report.left) == 4 and not report.unverified
    onnx.checker.check_model(fast)
    assert fused(fast, kernels=True) == fused(hard, kernels=True)
    expected = run_with_kernels(hard, feeds)[0]
    for found in (
        run(fast, feeds)[0],
        run_with_kernels(fast, feeds)[0],
        *jr_onnx.session(report.output).run(None, feeds),
    ):
        np.testing.assert_array_equal(found, expected)


def test_cuda_has_nothing_to_fuse_and_says_why(tmp_path: Path) -> None:
    onnx.save(hardened(quantized("QUInt8", "QDQ"), 0.1), tmp_path / "hard.onnx")
    report = jr_onnx.optimize(tmp_path / "hard.onnx", provider="cuda", output=tmp_path / "fast.onnx")
    assert report.with_add == 0 and set(report.left.values()) == {OF_INTEGERS}
