"""Whole models as exporters write them: outputs against onnxruntime, gradients against the torch network itself."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import pytest
from support import BACKEND_DATA, MODELS, Array, run

torch = pytest.importorskip("torch", reason="torch is not installed: there is no differentiable copy without it")
nn: Any = torch.nn

sys.path.append(str(MODELS))
from networks import NETWORKS  # noqa: E402 - behind the check that torch is there

from jr_onnx import ModelError, convert  # noqa: E402
from jr_onnx.robustness.gradients.errors import UnsupportedOperatorError  # noqa: E402
from jr_onnx.robustness.differentiable.model import DifferentiableModel, Evaluator  # noqa: E402
from jr_onnx.robustness.differentiable.operators import to_tensor  # noqa: E402
from jr_onnx.robustness.differentiable.program import compile_program, flatten, read_model  # noqa: E402

#: Files of models/ whose networks have a copy.
EXPORTED = ["mlp", "residual", "functions", "relu6", "half"]

#: Files that have none, and the operator that is in the way.
REFUSED = {
    "controlflow.dynamo": "If, Loop",
    "nested.torchscript": "Loop",
    "scan.dynamo": "Scan",
    "rnn.torchscript": "RNN",
}


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_network_has_the_outputs_and_the_gradients_of_the_torch_network(name: str, exporter: str) -> None:
    copy = DifferentiableModel.from_onnx(MODELS / f"{name}.{exporter}.onnx")
    network = NETWORKS[name].build().float()
    (x,) = NETWORKS[name].inputs(batch=4, seed=3)
    x = x.float().requires_grad_()
    weights = torch.linspace(-1, 1, copy(x).shape[1])
    expected, found = network(x), copy(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    (slope,) = torch.autograd.grad((expected * weights).sum(), x)
    (given,) = torch.autograd.grad((found * weights).sum(), x)
    torch.testing.assert_close(given, slope, rtol=1e-3, atol=1e-4)


def test_an_unrolled_recurrent_network_has_the_outputs_of_onnxruntime() -> None:
    path = MODELS / "rnn.dynamo.onnx"
    (x,) = NETWORKS["rnn"].inputs(batch=2, seed=1)
    with torch.no_grad():
        found = DifferentiableModel.from_onnx(path)(x).numpy()
    np.testing.assert_allclose(found, run(onnx.load(path), {"x": x.numpy()})[0], 1e-5, 1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_with_an_operator_that_has_no_copy_is_refused_by_its_name(name: str) -> None:
    model = onnx.load(MODELS / f"{name}.onnx")
    with pytest.raises(UnsupportedOperatorError) as caught:
        compile_program(flatten(read_model(model)), torch.float32)
    assert caught.value.op_type == REFUSED[name]


class Patches(nn.Module):  # type: ignore[misc]
    """A vision transformer in small: patches, a class token, positions, one encoder layer with GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Parameter(torch.randn(1, 5, 16))
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16), nn.ReLU())
        self.head = nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(x.shape[0], -1, -1), y], 1) + self.positions
        z = self.norm1(y)
        y = y + self.attention(z, z, z, need_weights=False)[0]
        y = y + self.mlp(self.norm2(y))
        return self.head(y[:, 0])


class Mobile(nn.Module):  # type: ignore[misc]
    """Depthwise convolutions, squeeze and excitation, hard activations, group norm, upsampling and pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 1, 1), nn.GroupNorm(2, 8), nn.Hardswish())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.InstanceNorm2d(8, affine=True), nn.SiLU())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1)
        self.shuffle = nn.PixelShuffle(2)
        self.activations = nn.Sequential(nn.ELU(), nn.PReLU(4), nn.LeakyReLU(0.1), nn.AvgPool2d(2, ceil_mode=True))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(4 * 8 * 8 + 16 * 16, 10), nn.LogSoftmax(-1))

    def forward(self, x: Any) -> Any:
        y = self.depthwise(self.stem(x))
        y = y * self.gate(y)
        z = self.activations(self.up(y))
        y = nn.functional.interpolate(y[:, :4], scale_factor=2, mode="bilinear", align_corners=False)
        y = self.shuffle(nn.functional.max_pool2d(y, 2))
        return self.head(torch.cat([z.flatten(1), y.flatten(1)], 1))


def exported(network: Any, x: Any, exporter: str) -> onnx.ModelProto:
    """The network as an exporter writes it, with a free batch size."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "torchscript":
            torch.onnx.export(network, (x,), buffer, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "N"}})
            return onnx.load_from_string(buffer.getvalue())
        pytest.importorskip("onnxscript", reason="onnxscript is not installed: torch's new exporter needs it")
        shapes = ({0: torch.export.Dim("N")},)
        return torch.onnx.export(network, (x,), dynamo=True, dynamic_shapes=shapes, verbose=False).model_proto


@pytest.mark.parametrize("exporter", ["torchscript", pytest.param("dynamo", marks=pytest.mark.slow)])
@pytest.mark.parametrize("network", [Patches, Mobile])
def test_a_network_exported_now_has_the_outputs_of_onnxruntime_and_the_gradients_of_torch(
    network: type[Any], exporter: str
) -> None:
    torch.manual_seed(0)
    module = network().eval()
    x = torch.randn(3, 1, 8, 8, requires_grad=True)
    model = exported(module, x.detach(), exporter)
    copy = DifferentiableModel.from_onnx(model)
    found = copy(x)
    expected = run(model, {model.graph.input[0].name: x.detach().numpy()})[0]
    np.testing.assert_allclose(found.detach().numpy(), expected, 1e-4, 1e-5)
    for k in (0, 7):
        (given,) = torch.autograd.grad(found[:, k].sum(), x, retain_graph=True)
        (slope,) = torch.autograd.grad(module(x)[:, k].sum(), x)
        torch.testing.assert_close(given, slope, rtol=1e-3, atol=1e-5)


def recorded(path: Path, kind: str, number: int) -> list[Array]:
    """The inputs or outputs that are recorded beside a model of the backend tests."""
    files = (path.parent / "test_data_set_0" / f"{kind}_{index}.pb" for index in range(number))
    return [onnx.numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes())) for file in files]


def test_the_small_models_of_the_backend_tests_have_their_recorded_outputs_whatever_their_opset() -> None:
    """They are of opset 6 and older, and converted to 8 first."""
    compared = 0
    for path in sorted(BACKEND_DATA.rglob("model.onnx")):
        try:
            model = onnx.version_converter.convert_version(onnx.load(path), 8)
        except (RuntimeError, onnx.version_converter.ConvertError):
            continue
        if "PReLU" in path.parent.name:  # the converter leaves its slope in the shape that was right before opset 7
            continue
        inputs = recorded(path, "input", len(model.graph.input) - len(model.graph.initializer))
        try:
            copy = Evaluator(compile_program(flatten(read_model(model)), torch.float64))
            feeds = {name: to_tensor(x, torch.float64) for name, x in zip(copy.program.inputs, inputs, strict=True)}
        except (UnsupportedOperatorError, TypeError):
            continue
        with torch.no_grad():
            found = copy(feeds)
        for one, other in zip(found, recorded(path, "output", len(found)), strict=True):
            np.testing.assert_allclose(one.double().numpy(), other.astype(np.float64), 1e-3, 1e-5, err_msg=str(path))
        compared += 1
    assert compared >= 90


@pytest.mark.parametrize("name", ["light_squeezenet", pytest.param("light_densenet121", marks=pytest.mark.slow)])
def test_a_large_model_of_the_backend_tests_has_the_outputs_of_onnxruntime(name: str) -> None:
    model = onnx.load(next(BACKEND_DATA.rglob(f"{name}.onnx")))
    outputs = Evaluator(compile_program(flatten(read_model(model)), torch.float32))
    (name,) = outputs.program.inputs
    x = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    with torch.no_grad():
        found = outputs({name: torch.from_numpy(x)})[0].numpy()
    np.testing.assert_allclose(found, run(model, {name: x})[0], 1e-3, 1e-6)


def test_a_model_with_external_data_is_read_from_its_folder(tmp_path: Path) -> None:
    model = onnx.load(MODELS / "digits.onnx")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    x = torch.zeros(1, 1, 8, 8)
    expected = DifferentiableModel.from_onnx(MODELS / "digits.onnx")(x)
    torch.testing.assert_close(DifferentiableModel.from_onnx(tmp_path / "m.onnx")(x), expected, rtol=0, atol=0)


def test_a_model_whose_external_data_are_missing_is_refused(tmp_path: Path) -> None:
    model = onnx.load(MODELS / "digits.onnx")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError, match=r"m\.onnx: .*w\.bin"):
        DifferentiableModel.from_onnx(tmp_path / "m.onnx")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        DifferentiableModel.from_onnx(tmp_path / "m.onnx")


def test_the_model_that_is_given_is_left_alone() -> None:
    model = onnx.load(MODELS / "functions.dynamo.onnx")
    before = model.SerializeToString()
    DifferentiableModel.from_onnx(model)
    assert model.SerializeToString() == before


def test_two_inputs_and_two_outputs_are_refused() -> None:
    model = onnx.load(MODELS / "digits.onnx")
    model.graph.output.append(onnx.helper.make_tensor_value_info(model.graph.node[0].output[0], 1, None))
    with pytest.raises(ModelError, match="2 outputs; a classifier has one"):
        DifferentiableModel.from_onnx(model)
    model = onnx.load(MODELS / "digits.onnx")
    model.graph.input.append(onnx.helper.make_tensor_value_info("other", 1, [1]))
    with pytest.raises(ModelError, match="2 inputs; a classifier has one"):
        DifferentiableModel.from_onnx(model)


def test_a_quantized_model_has_the_outputs_of_onnxruntime_and_a_gradient(tmp_path: Path) -> None:
    """Rounding has no gradient of its own; the copy passes it straight through."""
    quantization = pytest.importorskip("onnxruntime.quantization", reason="this onnxruntime cannot quantize")
    images = np.load(MODELS / "digits_test.npz")["x"]

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"image": images[:64]}])

        def get_next(self) -> dict[str, Array] | None:
            return next(self.batches, None)

    # Seven bits: with eight, onnxruntime's kernels for processors without VNNI saturate, and give other values.
    digits, quantized = MODELS / "digits.onnx", tmp_path / "q.onnx"
    quantization.quantize_static(digits, quantized, Reader(), per_channel=True, reduce_range=True)
    model = onnx.load(tmp_path / "q.onnx")
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    copy = DifferentiableModel.from_onnx(model)
    x = torch.from_numpy(images[:64]).requires_grad_()
    found = copy(x)
    expected = run(model, {"image": images[:64]})[0]
    step = np.abs(expected).max() / 128  # a value halfway between two integers may be rounded to either
    np.testing.assert_allclose(found.detach().numpy(), expected, 0, 1.01 * step)
    assert (np.abs(found.detach().numpy() - expected) < 1e-4).mean() > 0.95
    (slope,) = torch.autograd.grad(found[:, 0].sum(), x)
    assert (slope != 0).any(dim=3).any(dim=2).all()


def test_relu6_that_was_hardened_has_its_jump_behind_the_clip() -> None:
    for exporter in ("dynamo", "torchscript"):
        model = convert(onnx.load(MODELS / f"relu6.{exporter}.onnx"), jump=0.3, clip=True).model
        assert model is not None
        copy = DifferentiableModel.from_onnx(model)
        assert len(copy.sites) == 3
        (x,) = NETWORKS["relu6"].inputs(batch=3, seed=2)
        expected = run(model, {"x": x.numpy()})[0]
        np.testing.assert_allclose(copy(x).detach().numpy(), expected, 1e-4, 1e-5)


@pytest.mark.parametrize("size", [1, 4])
def test_a_model_with_a_fixed_batch_takes_any_batch(size: int) -> None:
    """What exporters write without dynamic axes: Reshape to numbers that only one batch size has."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10)).eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(size, 1, 8, 8),), buffer, dynamo=False)
    copy = DifferentiableModel.from_onnx(onnx.load_from_string(buffer.getvalue()))
    assert copy.batch == size
    x = torch.randn(6, 1, 8, 8, requires_grad=True)
    torch.testing.assert_close(copy(x), module(x))
    (given,) = torch.autograd.grad(copy(x)[:, 3].sum(), x)
    (slope,) = torch.autograd.grad(module(x)[:, 3].sum(), x)
    torch.testing.assert_close(given, slope)


def test_nodes_in_the_wrong_order_are_refused() -> None:
    model = onnx.load(MODELS / "mlp.torchscript.onnx")
    nodes = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    with pytest.raises(ModelError, match="is used before it is given; sort the graph's nodes"):
        DifferentiableModel.from_onnx(model)


def test_a_value_that_nothing_gives_is_refused() -> None:
    model = onnx.load(MODELS / "mlp.torchscript.onnx")
    model.graph.node[1].input[0] = "nowhere"
    with pytest.raises(ModelError, match="'nowhere'"):
        DifferentiableModel.from_onnx(model)
