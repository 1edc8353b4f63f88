"""Models of the corpus, quantized by onnxruntime's own quantizer, and hardened then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy_oracle import evaluate_in_numpy, open_session, operators
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from real_models import MODELS, RealModel
from support import NONE, TARGETS, Array, assert_same_but_for_the_sign_of_zero

import jr_onnx

pytestmark = pytest.mark.corpus

#: Small, with Conv or Gemm in front of most ReLUs.
QUANTIZABLE = [
    next(real for real in MODELS if real.name == name)
    for name in (
        "openwakeword/alexa_v0.1",
        "rapidocr-onnxruntime/ch_ppocr_mobile_v2.0_cls_infer",
        "speechmos/model_v8",
    )
]
EACH_MODEL = pytest.mark.parametrize("real", QUANTIZABLE, ids=lambda real: real.name)


class Calibration(CalibrationDataReader):
    """The model's own inputs."""

    def __init__(self, real: RealModel) -> None:
        self._left = list(real.feeds)

    def get_next(self) -> dict[str, Array] | None:
        return self._left.pop() if self._left else None


@EACH_MODEL
def test_dynamic_quantization_leaves_the_relus_to_harden(real: RealModel, tmp_path: Path) -> None:
    """ConvInteger and MatMulInteger take integers; the values of the ReLUs are float."""
    quantized, hard = tmp_path / "quantized.onnx", tmp_path / "hard.onnx"
    quantize_dynamic(str(real.path), str(quantized), weight_type=QuantType.QUInt8)
    model = onnx.load(quantized)
    assert operators(model)["DynamicQuantizeLinear"] and operators(model)["Relu"] == real.sites
    (feeds,) = real.feeds
    wanted = evaluate_in_numpy(model, feeds, 0.1)
    for target, options in TARGETS.items():
        report = jr_onnx.convert(quantized, jump=0.1, output=hard, **options)
        assert len(report.sites) == real.sites
        for kernels in (False, True):
            got = open_session(hard, NONE, kernels).run(None, feeds)
            for output, value in zip(model.graph.output, got, strict=True):
                assert_same_but_for_the_sign_of_zero(np.asarray(value), wanted[output.name], target)
        checked = jr_onnx.check(quantized, hard)
        assert not checked.findings, "\n".join(f"{f.rule} {f.node}: {f.message}" for f in checked.findings)


@EACH_MODEL
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("activations", ["QUInt8", "QInt8"])
def test_relus_that_static_quantization_folded_are_sites(
    real: RealModel, activations: str, form: str, tmp_path: Path
) -> None:
    quantized, hard = tmp_path / "quantized.onnx", tmp_path / "hard.onnx"
    quantize_static(
        str(real.path),
        str(quantized),
        Calibration(real),
        quant_format=QuantFormat[form],
        activation_type=QuantType[activations],
    )
    model = onnx.load(quantized)
    for target, options in TARGETS.items():
        report = jr_onnx.convert(quantized, jump=0.1, output=hard, **options)
        assert len(report.sites) == real.sites, target
        assert any(site.quantized is not None for site in report.sites)
        checked = jr_onnx.check(quantized, hard)
        assert not checked.findings, "\n".join(f"{f.rule} {f.node}: {f.message}" for f in checked.findings)
        plain = open_session(jr_onnx.convert(model, jump=0.0, **options).model, NONE, kernels=False)
        for got, wanted in zip(
            plain.run(None, real.feeds[0]),
            open_session(model, NONE, kernels=False).run(None, real.feeds[0]),
            strict=True,
        ):
            assert_same_but_for_the_sign_of_zero(np.asarray(got), np.asarray(wanted), target)
