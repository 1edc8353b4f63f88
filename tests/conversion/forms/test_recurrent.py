"""RNN, GRU and LSTM: Relu among their activations becomes a threshold, against recurrent networks written in NumPy.

Source of the equations: ONNX operators RNN, GRU and LSTM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from support import FLOAT, TARGETS, Array, check, hardened, make_model, node, report_of, run, value

from jr_onnx import OptionError, find_sites
from jr_onnx.conversion.sites.matchers import SiteKind
from jr_onnx.reference import jump_relu

TIME, BATCH, INPUT, HIDDEN = 5, 2, 3, 4
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
JUMP = 0.5

Function = Callable[[Array], Array]


def activation(name: str, alpha: float, beta: float, jump: float | None) -> Function:
    """One activation; a Relu is, with a jump, JumpReLU."""
    functions: dict[str, Function] = {
        "affine": lambda x: alpha * x + beta,
        "elu": lambda x: np.where(x < 0, alpha * np.expm1(x), x),
        "hardsigmoid": lambda x: np.clip(alpha * x + beta, 0, 1),
        "leakyrelu": lambda x: np.where(x < 0, alpha * x, x),
        "relu": lambda x: np.maximum(x, 0) if jump is None else jump_relu(x, jump),
        "scaledtanh": lambda x: alpha * np.tanh(beta * x),
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "softplus": lambda x: np.log1p(np.exp(x)),
        "softsign": lambda x: x / (1 + np.abs(x)),
        "tanh": np.tanh,
        "thresholdedrelu": lambda x: np.where(x > alpha, x, 0),
    }
    return functions[name.lower()]


# onnxruntime's defaults. ONNX has the same for the first three; it says 1 for ThresholdedRelu.
ALPHAS = {"elu": 1.0, "hardsigmoid": 0.2, "leakyrelu": 0.01, "thresholdedrelu": 0.0, "affine": 0.0, "scaledtanh": 0.0}
BETAS = {"hardsigmoid": 0.5, "affine": 0.0, "scaledtanh": 0.0}


def activations(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float], jump: float | None
) -> list[Function]:
    """Each activation takes the next alpha and beta if it has one, and its default behind the end of the list."""
    alpha, beta = iter(alphas), iter(betas)
    given = []
    for name in names:
        low = name.lower()
        a = next(alpha, ALPHAS[low]) if low in ALPHAS else 0.0
        b = next(beta, BETAS[low]) if low in BETAS else 0.0
        given.append(activation(name, a, b, jump))
    return given


def recurrent(op: str, x: Array, w: Array, r: Array, b: Array, functions: list[Function]) -> Array:
    """Y of one direction, [time, batch, hidden]."""
    bias = b[: len(b) // 2] + b[len(b) // 2 :]
    h, c = np.zeros((BATCH, HIDDEN)), np.zeros((BATCH, HIDDEN))
    states = []
    for step in x:
        if op == "RNN":
            h = functions[0](step @ w.T + h @ r.T + bias)
        elif op == "GRU":
            wz, wr, wh = np.split(w, 3)
            rz, rr, rh = np.split(r, 3)
            bz, br, bh = np.split(bias, 3)
            z = functions[0](step @ wz.T + h @ rz.T + bz)
            reset = functions[0](step @ wr.T + h @ rr.T + br)
            h = (1 - z) * functions[1](step @ wh.T + (reset * h) @ rh.T + bh) + z * h
        else:
            i, o, f, g = np.split(step @ w.T + h @ r.T + bias, 4, axis=1)
            c = functions[0](f) * c + functions[0](i) * functions[1](g)
            h = functions[0](o) * functions[2](c)
        states.append(h)
    return np.stack(states)


class Network:
    """A model with one recurrent node, and what NumPy makes of it."""

    def __init__(
        self,
        op: str,
        names: Sequence[str],
        alphas: Sequence[float] = (),
        betas: Sequence[float] = (),
        **attributes: Any,
    ) -> None:
        self.op, self.names, self.alphas, self.betas = op, names, alphas, betas
        per_direction = {"RNN": 1, "GRU": 2, "LSTM": 3}[op]
        self.directions = len(names) // per_direction
        self.direction = attributes.pop("direction", "bidirectional" if self.directions == 2 else "forward")
        generator = np.random.default_rng(3)
        rows = GATES[op] * HIDDEN

        def draw(*shape: int) -> Array:
            return generator.normal(0, 0.6, (self.directions, *shape)).astype(np.float32)

        self.w, self.r, self.b = draw(rows, INPUT), draw(rows, HIDDEN), draw(2 * rows)
        self.x = generator.normal(0, 1, (TIME, BATCH, INPUT)).astype(np.float32)
        if alphas:
            attributes["activation_alpha"] = list(alphas)
        if betas:
            attributes["activation_beta"] = list(betas)
        recurrent_node = node(
            op,
            "x w r b",
            "y",
            "recurrent",
            hidden_size=HIDDEN,
            activations=list(names),
            direction=self.direction,
            **attributes,
        )
        self.model = make_model(
            [recurrent_node],
            [value("x", FLOAT, [TIME, BATCH, INPUT])],
            [value("y", FLOAT, [TIME, self.directions, BATCH, HIDDEN])],
            opset=14,
            initializers={"w": self.w, "r": self.r, "b": self.b},
        )

    def expected(self, jump: float | None) -> Array:
        """Y in double precision; a Relu has the jump, if there is one."""
        functions = activations(self.names, self.alphas, self.betas, jump)
        per_direction = len(functions) // self.directions
        outputs = []
        for index in range(self.directions):
            backwards = self.direction == "reverse" or index == 1
            x = self.x[::-1] if backwards else self.x
            chosen = functions[index * per_direction : (index + 1) * per_direction]
            weights = [m[index].astype(np.float64) for m in (self.w, self.r, self.b)]
            y = recurrent(self.op, x.astype(np.float64), *weights, chosen)
            outputs.append(y[::-1] if backwards else y)
        return np.stack(outputs, axis=1)


CASES = {
    "alone": ("RNN", ["Relu"]),
    "in lower case": ("GRU", ["sigmoid", "relu"]),  # onnxruntime's RNN takes no other spelling than ONNX's
    "in capitals": ("LSTM", ["SIGMOID", "RELU", "TANH"]),
    "first of two directions": ("RNN", ["Relu", "Tanh"]),
    "second of two directions": ("RNN", ["Tanh", "Relu"]),
    "both directions": ("RNN", ["Relu", "Relu"]),
    "behind an alpha": ("RNN", ["LeakyRelu", "Relu"], [0.3]),
    "behind an alpha that has its default": ("RNN", ["LeakyRelu", "Relu"]),
    "before an alpha": ("RNN", ["Relu", "LeakyRelu"], [0.3]),
    "before an alpha that has its default": ("RNN", ["Relu", "Elu"]),
    "behind the model's own threshold": ("RNN", ["ThresholdedRelu", "Relu"], [0.7]),
    "behind the model's own threshold with its default": ("RNN", ["ThresholdedRelu", "Relu"]),
    "in a GRU": ("GRU", ["Sigmoid", "Relu"]),
    "in a GRU behind alpha and beta": ("GRU", ["HardSigmoid", "Relu"], [0.3], [0.6]),
    "in a GRU behind defaults": ("GRU", ["HardSigmoid", "Relu"]),
    "in a GRU, twice": ("GRU", ["HardSigmoid", "Relu", "Sigmoid", "Relu"], [0.3], [0.4]),
    "in a GRU, between alphas": ("GRU", ["HardSigmoid", "Relu", "HardSigmoid", "Elu"], [0.3, 0.1, 0.7], [0.4, 0.6]),
    "in a GRU, between alphas that are not all given": ("GRU", ["Affine", "Relu", "HardSigmoid", "Elu"], [0.3], [0.4]),
    "in an LSTM": ("LSTM", ["Sigmoid", "Tanh", "Relu"]),
    "in an LSTM, twice": ("LSTM", ["Sigmoid", "Relu", "Relu"]),
    "in an LSTM behind a default": ("LSTM", ["HardSigmoid", "Relu", "Tanh"]),
    "in an LSTM, in both directions": (
        "LSTM",
        ["HardSigmoid", "Relu", "ScaledTanh", "Sigmoid", "LeakyRelu", "Relu"],
        [0.25, 1.5, 0.2],
        [0.45, 0.8],
    ),
}

EACH_CASE = pytest.mark.parametrize("case", CASES)


@EACH_CASE
def test_numpy_and_onnxruntime_agree_on_the_original(case: str) -> None:
    network = Network(*CASES[case])
    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if network.op == "RNN" and version < (1, 29):
        pytest.skip("onnxruntime before 1.29 looks for the alphas of an RNN in the wrong places")
    np.testing.assert_allclose(run(network.model, {"x": network.x})[0], network.expected(None), atol=1e-5)


@EACH_CASE
@pytest.mark.parametrize("target", TARGETS)
def test_every_relu_among_the_activations_becomes_jump_relu(case: str, target: str) -> None:
    network = Network(*CASES[case])
    result = hardened(network.model, JUMP, **TARGETS[target])
    check(result)
    want = network.expected(JUMP)
    # The jump matters, and no value is so near to it that float and double could differ about it.
    assert np.abs(want - network.expected(None)).max() > 0.01
    np.testing.assert_allclose(run(result, {"x": network.x})[0], want, atol=1e-5)


def test_a_reversed_network_is_converted() -> None:
    network = Network("RNN", ["Relu"], direction="reverse")
    result = hardened(network.model, JUMP)
    np.testing.assert_allclose(run(result, {"x": network.x})[0], network.expected(JUMP), atol=1e-5)


@EACH_CASE
def test_converting_again_replaces_the_jump(case: str) -> None:
    network = Network(*CASES[case])
    again = hardened(hardened(network.model, JUMP), 0.1)
    assert again.graph == hardened(network.model, 0.1).graph


def test_the_attributes_are_those_of_a_threshold() -> None:
    network = Network("GRU", ["HardSigmoid", "Relu", "LeakyRelu", "relu"])
    (changed,) = hardened(network.model, 0.25).graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in changed.attribute}
    assert attributes["activations"] == [b"HardSigmoid", b"ThresholdedRelu", b"LeakyRelu", b"ThresholdedRelu"]
    np.testing.assert_array_equal(attributes["activation_alpha"], np.float32([0.2, 0.25, 0.01, 0.25]))
    assert "activation_beta" not in attributes
    assert attributes["hidden_size"] == HIDDEN


def alphas_of(model: onnx.ModelProto) -> list[float]:
    """The activation_alpha of the first node."""
    return next(list(a.floats) for a in model.graph.node[0].attribute if a.name == "activation_alpha")


@pytest.mark.parametrize("names", [["Relu", "Tanh"], ["Tanh", "Relu"], ["Relu", "Relu"]], ids=", ".join)
def test_an_rnn_has_an_alpha_for_each_direction(names: list[str]) -> None:
    # By the text of ONNX, Tanh takes none. But onnxruntime up to 1.28 takes the alpha of the second direction from the
    # second place, and ends the process where there is none; a list of two is right by either reading.
    result = hardened(Network("RNN", names).model, 0.25)
    assert alphas_of(result) == [0.25, 0.25]
    assert alphas_of(hardened(result, 0.5)) == [0.5, 0.5]


def test_defaults_are_not_written_out_behind_the_last_relu() -> None:
    names = ["HardSigmoid", "Relu", "Tanh", "HardSigmoid", "Elu", "LeakyRelu"]
    assert alphas_of(hardened(Network("LSTM", names).model, 0.25)) == [np.float32(0.2), 0.25]
    # But what was written stays.
    given = hardened(Network("LSTM", names, [0.5, 0.75], [0.5]).model, 0.25)
    assert alphas_of(given) == [0.5, 0.25, 0.75]


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_a_value_that_is_just_the_jump_becomes_zero(op: str) -> None:
    # The text of ONNX says x >= alpha, onnxruntime compares x > alpha: the alpha is the jump itself. The weights are 0
    # or 1 and the gates open, so that the input reaches the Relu without a rounding.
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    names = {"RNN": ["Relu"], "GRU": ["HardSigmoid", "Relu"], "LSTM": ["HardSigmoid", "Relu", "Affine"]}[op]
    w = np.zeros((1, gates, 1), np.float32)
    w[0, -1, 0] = 1
    bias = np.zeros((1, 2 * gates), np.float32)
    bias[0, : gates - 1] = {"RNN": [], "GRU": [-99, 99], "LSTM": [99, 99, -99]}[op]
    attributes: dict[str, Any] = {"activations": names, "hidden_size": 1}
    if op == "LSTM":
        attributes |= {"activation_alpha": [0.2, 1.0], "activation_beta": [0.5, 0.0]}
    x = np.array([0.25, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 1, -1], np.float32).reshape(-1, 1, 1)
    model = make_model(
        [node(op, "x w r b", "y", **attributes)],
        [value("x", FLOAT, x.shape)],
        [value("y", FLOAT, [5, 1, 1, 1])],
        opset=14,
        initializers={"w": w, "r": np.zeros((1, gates, 1), np.float32), "b": bias},
    )
    np.testing.assert_array_equal(run(model, {"x": x})[0].ravel(), np.maximum(x, 0).ravel())
    got = run(hardened(model, 0.5), {"x": x})[0].ravel()
    np.testing.assert_array_equal(got, jump_relu(x, 0.5).ravel())


def test_a_network_without_relu_is_no_site() -> None:
    assert not find_sites(Network("LSTM", ["Sigmoid", "Tanh", "Tanh"]).model)


def test_default_activations_are_no_site() -> None:
    model = Network("RNN", ["Relu"]).model
    kept = [a for a in model.graph.node[0].attribute if a.name != "activations"]
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.extend(kept)
    assert not find_sites(model)


def test_the_models_own_threshold_alone_is_left_alone() -> None:
    report = report_of(Network("RNN", ["ThresholdedRelu"], [0.4]).model, JUMP, allow_empty=True)
    assert [left.reason for left in report.left_alone] == ["the model's own threshold in its activations"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_report_says_that_the_jump_is_an_attribute_whatever_the_target(target: str) -> None:
    (site,) = report_of(Network("RNN", ["Relu"]).model, 0.3, **TARGETS[target]).sites
    assert (site.lowering, site.reason) == ("ThresholdedRelu activation", "an activation is an attribute")
    assert site.jump == float(np.float32(0.3))
    assert site.differs == "NaN becomes 0"


def test_a_nan_becomes_zero_as_the_report_says() -> None:
    network = Network("RNN", ["Relu"])
    x = network.x.copy()
    x[-1, 0, 0] = np.nan
    # onnxruntime's own Relu in there does the same.
    assert not run(network.model, {"x": x})[0][-1, 0, 0].any()
    assert not run(hardened(network.model), {"x": x})[0][-1, 0, 0].any()


def test_one_jump_a_channel_is_refused() -> None:
    with pytest.raises(OptionError, match=r"'recurrent'.*takes one jump, not one a channel"):
        report_of(Network("RNN", ["Relu"]).model, (0.1,))


def test_an_output_that_is_not_the_first_is_enough() -> None:
    network = Network("RNN", ["Relu"])
    model = network.model
    model.graph.node[0].output[:] = ["", "y_h"]
    del model.graph.output[:]
    model.graph.output.append(value("y_h", FLOAT, [1, BATCH, HIDDEN]))
    (site,) = find_sites(model)
    assert (site.kind, site.output) == (SiteKind.RECURRENT, "y_h")
    got = run(hardened(model, JUMP), {"x": network.x})[0]
    np.testing.assert_allclose(got, network.expected(JUMP)[-1], atol=1e-5)
