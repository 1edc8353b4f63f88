"""Real models, hardened in every way, against what NumPy and the original give; README.md lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy_oracle import evaluate_in_numpy, open_session, operators
from real_models import MODELS, RealModel
from support import NONE, TARGETS, Array, assert_same_bits, assert_same_but_for_the_sign_of_zero

import jr_onnx
from jr_onnx.cli.main import main

pytestmark = pytest.mark.corpus

JUMPS = (0.0, 0.1)
LEVELS = {
    "none": NONE,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

#: Where onnxruntime optimises, sums are in another order, over the largest value; the most seen is 2.3e-5.
TOLERANCE = 1e-4

WITH_RELU = [model for model in MODELS if model.sites]
WITHOUT_RELU = [model for model in MODELS if not model.sites]


def name_of(model: RealModel) -> str:
    """The name of a model, for the ids of tests."""
    return model.name


@dataclass(frozen=True)
class Evaluated:
    """A model of the corpus, and what it should give at each jump on each set of inputs."""

    real: RealModel

    @cached_property
    def model(self) -> onnx.ModelProto:
        return onnx.load(self.real.path)

    @property
    def data(self) -> dict[str, Array] | None:
        """What `check` is given."""
        return self.real.feeds[0] if self.real.choosy else None

    @cached_property
    def expected(self) -> dict[float, list[list[Array]]]:
        original = open_session(self.real.path, NONE)
        with_jump = (evaluate_in_numpy(self.model, feeds, 0.1) for feeds in self.real.feeds)
        return {
            0.0: [original.run(None, feeds) for feeds in self.real.feeds],
            0.1: [[outputs[value.name] for value in self.model.graph.output] for outputs in with_jump],
        }


@pytest.fixture(scope="module", params=WITH_RELU, ids=name_of)
def evaluated(request: pytest.FixtureRequest) -> Evaluated:
    """Each model with ReLUs once; pytest runs all tests of one before the next."""
    return Evaluated(request.param)


#: Operators that a model is there for: other activations, bodies, recurrent and quantized layers, and the like.
NOTED = re.compile("Clip|Conv|Dynamic|Erf|GRU|Gemm|Hard|If|LSTM|Layer|Leaky|MatMul|Max$|Pad|Resize|Scaler|Sigmoid|Tree")


def row_of(real: RealModel) -> str:
    """A model's line in README.md."""
    model = onnx.load(real.path)
    found = operators(model)
    exporter = f"{model.producer_name} {model.producer_version}".removesuffix("None").strip() or "not named"
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    noted = ", ".join(sorted(filter(NOTED.match, found)))
    return f"| {real.name} | {exporter} | {opset} | {found.total()} | {noted} | {real.sites} |"


@pytest.mark.parametrize("real", MODELS, ids=name_of)
def test_the_readme_has_it(real: RealModel) -> None:
    readme = Path(__file__).with_name("README.md").read_text()
    assert row_of(real) in readme
    assert f"| {real.package.requirement} | {real.package.license} |" in readme


def distance(got: Array, want: Array) -> float:
    """The largest difference, over the largest value."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype and got.shape == want.shape
    return float(np.max(np.abs(got - want), initial=0) / max(np.max(np.abs(want), initial=0), 1e-6))


def assert_gives(session: onnxruntime.InferenceSession, evaluated: Evaluated, jump: float, where: str) -> None:
    """All outputs, within the tolerance."""
    for feeds, wanted in zip(evaluated.real.feeds, evaluated.expected[jump], strict=True):
        for got, want in zip(session.run(None, feeds), wanted, strict=True):
            assert distance(got, want) <= TOLERANCE, where


def assert_clean(report: jr_onnx.CheckReport) -> None:
    """No findings."""
    assert not report.findings, "\n".join(f"{f.rule} {f.node}: {f.message}" for f in report.findings)


def test_the_jump_tells(evaluated: Evaluated) -> None:
    """On these inputs the jump of 0.1 changes an output: the tests below could not fail otherwise."""
    for plain, jumped in zip(evaluated.expected[0.0], evaluated.expected[0.1], strict=True):
        assert all(np.isfinite(value).all() for value in (*plain, *jumped))
        assert any(map(distance, jumped, plain))


@pytest.mark.parametrize("target", TARGETS)
def test_every_relu_is_a_site(evaluated: Evaluated, target: str) -> None:
    assert evaluated.real.sites == operators(evaluated.model)["Relu"]
    report = jr_onnx.convert(evaluated.real.path, jump=0.1, dry_run=True, **TARGETS[target])
    assert len(report.sites) == evaluated.real.sites
    inspected = jr_onnx.inspect(evaluated.real.path)
    assert sum(node.converted and node.op_type == "Relu" for node in inspected.nodes) == evaluated.real.sites


def test_clip_leaves_gates_alone(evaluated: Evaluated) -> None:
    """What Clips there are are parts of hard-swish and hard-sigmoid written out, and bounds of numbers."""
    report = jr_onnx.convert(evaluated.real.path, jump=0.1, clip=True, dry_run=True)
    assert len(report.sites) == evaluated.real.sites
    assert sum(left.op_type == "Clip" for left in report.left_alone) == operators(evaluated.model)["Clip"]


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("target", TARGETS)
def test_it_gives_what_numpy_gives(evaluated: Evaluated, target: str, jump: float, tmp_path: Path) -> None:
    """At jump 0 that is what the original gives. With every optimization off it is so to the bit."""
    hard = tmp_path / "hard.onnx"
    jr_onnx.convert(evaluated.real.path, jump=jump, output=hard, **TARGETS[target])
    for kernels in (False, True) if target == "custom-op" else (False,):
        session = open_session(hard, NONE, kernels)
        for feeds, wanted in zip(evaluated.real.feeds, evaluated.expected[jump], strict=True):
            for got, want in zip(session.run(None, feeds), wanted, strict=True):
                assert_same_but_for_the_sign_of_zero(np.asarray(got), np.asarray(want), f"kernels={kernels}")
        for level in ("basic", "extended", "all"):
            where = f"kernels={kernels}, level={level}"
            assert_gives(open_session(hard, LEVELS[level], kernels), evaluated, jump, where)


@pytest.mark.parametrize(("target", "jump"), [*((target, 0.1) for target in TARGETS), ("custom-op", 0.0)])
def test_check_finds_nothing(evaluated: Evaluated, target: str, jump: float, tmp_path: Path) -> None:
    hard = tmp_path / "hard.onnx"
    jr_onnx.convert(evaluated.real.path, jump=jump, output=hard, **TARGETS[target])
    assert_clean(jr_onnx.check(evaluated.real.path, hard, data=evaluated.data))


def test_optimised_it_gives_the_same(evaluated: Evaluated, tmp_path: Path) -> None:
    hard, fast = tmp_path / "hard.onnx", tmp_path / "fast.onnx"
    jr_onnx.convert(evaluated.real.path, jump=0.1, output=hard)
    report = jr_onnx.optimize(hard, output=fast)
    assert report.sites == evaluated.real.sites
    assert_gives(jr_onnx.session(fast), evaluated, 0.1, "optimised")
    assert_clean(jr_onnx.check(None, fast, data=evaluated.data))


@pytest.mark.parametrize("real", WITHOUT_RELU, ids=name_of)
def test_without_relu_convert_says_so_and_changes_nothing(
    real: RealModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not operators(onnx.load(real.path))["Relu"]
    output = tmp_path / "hard.onnx"
    assert main(["convert", str(real.path), "--jump", "0.1", "-o", str(output)]) == 2
    error = capsys.readouterr().err
    assert "no Relu" in error and error.count("\n") == 1
    assert not output.exists()
    jr_onnx.convert(real.path, jump=0.1, output=output, allow_empty=True)
    for feeds in real.feeds:
        pairs = zip(
            open_session(output, NONE).run(None, feeds), open_session(real.path, NONE).run(None, feeds), strict=True
        )
        for got, want in pairs:
            assert_same_bits(np.asarray(got), np.asarray(want))
