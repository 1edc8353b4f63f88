"""A JumpReLU that a model has written out becomes jr_onnx::JumpReLU with the thresholds that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import (
    FLOAT,
    FLOAT16,
    Array,
    assert_same_bits,
    make_model,
    node,
    relu_model,
    report_of,
    run,
    value,
    without_the_way_back,
)

import jr_onnx
from jr_onnx.cli.main import main
from jr_onnx.reference import jump_relu

THRESHOLDS = np.array([0.0, 0.25, 0.5, 1.0], np.float32)

#: Every column meets values below, at and above its threshold, and all that is special.
X = np.repeat(np.array([-np.inf, -1, -0.0, 0, 0.25, 0.5, 0.75, 1, 2, np.inf, np.nan], np.float32)[:, None], 4, axis=1)

CAST = node("Cast", "m", "c", to=FLOAT)

#: How it may be written -> the nodes, and at which x the value differs from JumpReLU.
WRITTEN: Mapping[str, tuple[Sequence[onnx.NodeProto], Any]] = {
    "Relu(x) * (x > t)": (
        [
            node("Relu", "x", "r"),
            node("Greater", "x t", "m"),
            CAST,
            node("Mul", "r c", "y"),
        ],
        lambda x: np.signbit(x) & (x == 0),
    ),
    "(t < x) * Relu(x)": (
        [node("Less", "t x", "m"), CAST, node("Relu", "x", "r"), node("Mul", "c r", "y")],
        lambda x: np.signbit(x) & (x == 0),
    ),
    "x * (x > t)": (
        [node("Greater", "x t", "m"), CAST, node("Mul", "x c", "y", "gate")],
        lambda x: np.signbit(x) & ~np.isnan(x),
    ),
    "Where(x > t, x, 0)": (
        [node("Greater", "x t", "m"), node("Where", "m x zero", "y")],
        np.isnan,
    ),
}
EACH_FORM = pytest.mark.parametrize("form", WRITTEN)


def written(form: str, thresholds: Array = THRESHOLDS, shape: Sequence[Any] = ("n", 4)) -> onnx.ModelProto:
    """x -> JumpReLU, written out -> y."""
    nodes, _ = WRITTEN[form]
    weights = {"t": thresholds, "zero": np.float32(0)} if "zero" in str(nodes) else {"t": thresholds}
    return make_model(nodes, [value("x", shape=shape)], [value("y", shape=shape)], initializers=weights)


def recognised(model: onnx.ModelProto) -> onnx.ModelProto:
    hardened = jr_onnx.convert(model, recognise=True).model
    onnx.checker.check_model(hardened, full_check=True)
    return hardened


@EACH_FORM
def test_it_becomes_jump_relu_and_differs_only_where_the_report_says_so(form: str) -> None:
    model = written(form)
    report = report_of(model, None, recognise=True)
    assert [(site.lowering, site.jump) for site in report.sites] == [("JumpReLU", (0.0, 0.25, 0.5, 1.0))]
    hardened = recognised(model)
    assert [one.op_type for one in hardened.graph.node] == ["JumpReLU"]
    assert [one.name for one in hardened.graph.initializer][:1] == ["t"]
    (before,), (after,) = run(model, {"x": X}), run(hardened, {"x": X})
    assert_same_bits(after, np.stack([jump_relu(x, t) for x, t in zip(X.T, THRESHOLDS, strict=True)], axis=1))
    differs = before.view(np.uint32) != after.view(np.uint32)
    differs &= ~(np.isnan(before) & np.isnan(after))
    assert not (differs & ~WRITTEN[form][1](X)).any()


@EACH_FORM
def test_the_check_is_clean_and_the_way_back_exact(form: str, tmp_path: Path) -> None:
    original, hard, back = (tmp_path / name for name in ("original.onnx", "hard.onnx", "back.onnx"))
    onnx.save(written(form, shape=(5, 4)), original)
    jr_onnx.convert(original, recognise=True, output=hard)
    report = jr_onnx.check(original, hard)
    assert (report.findings, [site.jump for site in report.sites]) == ((), ["0 to 1 (4 channels)"])
    assert jr_onnx.check(None, hard).findings == ()
    assert jr_onnx.revert(hard, output=back).exact
    assert back.read_bytes() == original.read_bytes()


def test_the_check_finds_thresholds_that_were_changed() -> None:
    model = written("x * (x > t)", shape=(5, 4))
    hardened = recognised(model)
    hardened.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(THRESHOLDS * 2, "t"))
    assert jr_onnx.check(model, hardened).findings


@pytest.mark.parametrize("external", [False, True], ids=["inline", "external"])
def test_many_thresholds_are_read_from_where_they_are(external: bool, tmp_path: Path) -> None:
    thresholds = np.random.default_rng(0).random(5000, np.float32)
    model = written("Relu(x) * (x > t)", thresholds, ("n", 5000))
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=external, location="data", size_threshold=0)
    report = jr_onnx.convert(path, recognise=True, output=tmp_path / "hard.onnx")
    assert report.sites[0].jump == tuple(map(float, thresholds))
    found = jr_onnx.check(path, tmp_path / "hard.onnx", shapes={"x": (2, 5000)}).findings
    assert {one.severity for one in found} <= {"warning"}  # of another file it reads no jump
    onnx.save(written("Relu(x) * (x > t)", -thresholds, ("n", 5000)), path)
    with pytest.raises(jr_onnx.ModelError, match="its threshold is negative or not finite in places"):
        jr_onnx.convert(path, recognise=True, output=tmp_path / "hard.onnx")


def test_inspect_needs_no_external_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(written("x * (x > t)"), path, save_as_external_data=True, location="data", size_threshold=0)
    (tmp_path / "data").unlink()
    (listed,) = jr_onnx.inspect(path).nodes
    assert listed.how == "JumpReLU written as x * (x > t), but its threshold is in another file"


def test_what_others_take_too_stays_for_them() -> None:
    nodes = [*WRITTEN["x * (x > t)"][0], node("ReduceSum", "c", "active", keepdims=0)]
    outputs = [value("y", shape=("n", 4)), value("active", shape=())]
    model = make_model(nodes, [value("x", shape=("n", 4))], outputs, initializers={"t": THRESHOLDS})
    hardened = recognised(model)
    assert [one.op_type for one in hardened.graph.node] == ["Greater", "Cast", "JumpReLU", "ReduceSum"]
    assert hardened.graph.node[2].name == "gate"
    for before, after in zip(run(model, {"x": X[3:9]}), run(hardened, {"x": X[3:9]}), strict=True):
        assert_same_bits(after, before)


@pytest.mark.parametrize(
    ("thresholds", "why_not"),
    [
        (np.array([0.5, -0.5, 0, 1], np.float32), "negative or not finite in places"),
        (np.array([0.5, np.inf, 0, 1], np.float32), "negative or not finite in places"),
        (np.array([0.5, np.nan, 0, 1], np.float32), "negative or not finite in places"),
        (np.ones((3, 1, 4), np.float32), "differs along more than one axis"),
        (np.ones((2, 4), np.float32), "differs along more than one axis"),
        (np.ones((1, 1, 4), np.float32), "may have a larger shape than x"),
    ],
    ids=["negative", "infinite", "nan", "two axes of three", "two axes", "wider"],
)
def test_what_would_give_other_values_is_left_alone_and_the_reason_given(thresholds: Array, why_not: str) -> None:
    shape = ("n", 4) if thresholds.ndim == 1 else (2, 4)
    model = written("x * (x > t)", thresholds, shape)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(jr_onnx.ModelError, match=why_not):
        jr_onnx.convert(model, recognise=True)
    assert why_not in str([one.how for one in jr_onnx.inspect(model).nodes])


@pytest.mark.parametrize(
    ("shape", "overridable", "why_not"),
    [
        ((1, 1, 1, 1), False, "its 0 may have a larger shape than x"),
        ((5, 1), False, "its 0 may have a larger shape than x"),
        ((), True, "its 0 is the default of a graph input"),
    ],
)
def test_a_zero_that_widens_x_or_may_be_another_number_is_none(
    shape: tuple[int, ...], overridable: bool, why_not: str
) -> None:
    zero = {"zero": np.zeros(shape, np.float32)}
    inputs = [value("x", shape=("n", 4)), *([value("zero", shape=shape)] if overridable else [])]
    nodes = WRITTEN["Where(x > t, x, 0)"][0]
    model = make_model(nodes, inputs, [value("y")], initializers={"t": THRESHOLDS} | zero)
    with pytest.raises(jr_onnx.ModelError, match=why_not):
        jr_onnx.convert(model, recognise=True)


def test_a_threshold_that_whoever_runs_the_model_gives_is_none() -> None:
    nodes, _ = WRITTEN["x * (x > t)"]
    inputs = [value("x", shape=("n", 4)), value("t", shape=(4,))]
    outputs = [value("y", shape=("n", 4))]
    with pytest.raises(jr_onnx.ModelError, match="its threshold is no constant"):
        jr_onnx.convert(make_model(nodes, inputs, outputs), recognise=True)
    with pytest.raises(jr_onnx.ModelError, match="the default of a graph input"):
        jr_onnx.convert(make_model(nodes, inputs, outputs, initializers={"t": THRESHOLDS}), recognise=True)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("GreaterOrEqual", "x t", "m"), CAST, node("Mul", "x c", "y")],
        [node("Greater", "t x", "m"), CAST, node("Mul", "x c", "y")],
        [node("Neg", "x", "z"), node("Greater", "x t", "m"), CAST, node("Mul", "z c", "y")],
        [node("Greater", "x t", "m"), node("Where", "m x t", "y")],
    ],
    ids=["at the threshold", "below it", "another factor", "another value"],
)
def test_what_only_looks_like_it_is_none(nodes: Sequence[onnx.NodeProto]) -> None:
    model = make_model(
        nodes, [value("x", shape=("n", 4))], [value("y", shape=("n", 4))], initializers={"t": THRESHOLDS}
    )
    with pytest.raises(jr_onnx.ModelError, match="no JumpReLU is written out in this model"):
        jr_onnx.convert(model, recognise=True)


def test_float16_keeps_its_type() -> None:
    nodes = [node("Greater", "x t", "m"), node("Cast", "m", "c", to=FLOAT16), node("Mul", "x c", "y")]
    x, y = value("x", FLOAT16, ("n", 4)), value("y", FLOAT16, ("n", 4))
    model = make_model(nodes, [x], [y], initializers={"t": THRESHOLDS.astype(np.float16)})
    (after,) = run(recognised(model), {"x": X.astype(np.float16)})
    columns = zip(X.astype(np.float16).T, THRESHOLDS.astype(np.float16), strict=True)
    assert_same_bits(after, np.stack([jump_relu(x, t) for x, t in columns], axis=1))


def test_inspect_lists_it_with_its_thresholds() -> None:
    (listed,) = (one for one in jr_onnx.inspect(written("x * (x > t)")).nodes if one.op_type == "Mul")
    assert listed.jump == (0.0, 0.25, 0.5, 1.0)
    assert listed.how == "JumpReLU written out as x * (x > t); `recognise=True` makes it jr_onnx::JumpReLU"


def test_what_asks_for_a_jump_too_is_refused() -> None:
    for arguments in ({"jump": 0.5}, {"policy": jr_onnx.JumpReluPolicy(0.5)}, {"target": "subgraph"}, {"clip": True}):
        with pytest.raises(jr_onnx.OptionError, match="`recognise`"):
            jr_onnx.convert(relu_model(), recognise=True, **arguments)


def test_without_the_record_how_it_was_written_is_not_known() -> None:
    with pytest.raises(jr_onnx.ModelError, match="how they were written is not recorded"):
        jr_onnx.revert(without_the_way_back(recognised(written("x * (x > t)"))))


def test_the_thresholds_can_be_replaced_afterwards() -> None:
    hardened = jr_onnx.convert(recognised(written("x * (x > t)")), jump=0.5).model
    (y,) = run(hardened, {"x": X})
    assert_same_bits(y, jump_relu(X, np.float32(0.5)))


# --- Sparse autoencoders, exported by torch ---------------------------------------------------------------------------


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
@pytest.mark.parametrize("style", ["gemma scope", "saelens", "saelens in training"])
def test_an_exported_autoencoder_gives_what_it_gave(style: str, dynamo: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="exports an autoencoder with torch")

    class Autoencoder(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.encoder, self.decoder = torch.nn.Linear(8, 32), torch.nn.Linear(32, 8)
            self.threshold = torch.nn.Parameter(torch.rand(32))

        def forward(self, x: Any) -> Any:
            before = self.encoder(x)
            if style == "gemma scope":
                return self.decoder((before > self.threshold) * torch.nn.functional.relu(before))
            if style == "saelens":
                rectified = torch.relu(before)
                return self.decoder(rectified * (before > self.threshold).to(rectified.dtype))
            return self.decoder((before * (before > self.threshold)).to(before))

    network, path = Autoencoder().eval(), tmp_path / "sae.onnx"
    x = torch.randn(5, 8)
    torch.onnx.export(network, (x,), path, dynamo=dynamo, verbose=False, **({"external_data": False} if dynamo else {}))
    hard = tmp_path / "hard.onnx"
    assert main(["convert", str(path), "--recognise", "-o", str(hard), "--quiet"]) == 0
    (site,) = (one for one in jr_onnx.find_sites(hard) if one.op_type.endswith("JumpReLU"))
    assert site.shape == (5, 32)
    assert jr_onnx.check(path, hard).findings == ()
    name = onnx.load(path).graph.input[0].name
    (given,), (wanted,) = (run(onnx.load(one), {name: x.numpy()}) for one in (hard, path))
    np.testing.assert_array_equal(given, wanted)
    with torch.no_grad():
        np.testing.assert_allclose(given, network(x).numpy(), rtol=1e-4, atol=1e-5)
