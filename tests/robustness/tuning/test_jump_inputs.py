"""One session for all jumps: what it gives is what each converted model gives, and it counts right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import (
    DOUBLE,
    FLOAT,
    FLOAT16,
    MODELS,
    Array,
    branch,
    hardened,
    make_model,
    newest_opset,
    node,
    run,
    type_id,
    value,
)

from jr_onnx import JumpReluPolicy, ModelError, PolicyRule, find_sites
from jr_onnx.conversion.element_types import NUMPY_TYPES, round_jump
from jr_onnx.reference import jump_relu
from jr_onnx.robustness.dataset import Dataset, load_data, read_classifier
from jr_onnx.robustness.tuning.jump_inputs import harden
from jr_onnx.robustness.tuning.runs import Counts, calibrate, jump_session


def silent(*_: int) -> None:
    """No progress."""


def run_all(
    model: str | Path | onnx.ModelProto, data: Dataset, *choices: Mapping[str, float] | float, clip: bool = False
) -> tuple[Counts, ...]:
    """Each choice of jumps in one session; a number is the jump of all sites."""
    prepared, classifier = harden(model, clip=clip), read_classifier(model)
    paths = [path for path, _ in prepared.model.sites]
    jumps = [choice if isinstance(choice, Mapping) else dict.fromkeys(paths, choice) for choice in choices]
    with jump_session(prepared, classifier) as session:
        return session.run(data, jumps, silent)


def samples(*shape: int, n: int = 30) -> Dataset:
    """Inputs from -2 to 2 after normalisation, without labels."""
    return load_data((np.random.default_rng(1).random((n, *shape)).astype(np.float32), None), mean=0.5, std=0.25)


def inputs_of(data: Dataset) -> Array:
    return data.normalise(data.batch(slice(None)))


def relu_classifier(element_type: int = FLOAT, opset: int = 18, batch: Any = "N") -> onnx.ModelProto:
    """Ten numbers through a Relu are ten scores."""
    ends = [value(name, element_type, [batch, 10]) for name in "xy"]
    return make_model([node("Relu", "x", "y", "relu")], ends[:1], ends[1:], opset=opset)


# --- against the definition ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("element_type", [FLOAT16, FLOAT, DOUBLE], ids=type_id)
@pytest.mark.parametrize("opset", [7, 8, 9, 11, 12, 13, newest_opset()])
def test_every_type_and_opset_counts_and_answers_by_the_definition(element_type: int, opset: int) -> None:
    data, jumps = samples(10), (0.0, 0.1, 0.7, 3.0)
    x = inputs_of(data).astype(NUMPY_TYPES[element_type])
    for jump, counts in zip(jumps, run_all(relu_classifier(element_type, opset), data, *jumps), strict=True):
        rounded = np.asarray(round_jump(jump, element_type), x.dtype)
        assert counts.positive == {"relu": (x > 0).sum()}
        assert counts.kept == {"relu": (x > rounded).sum()}
        assert counts.predictions.tolist() == jump_relu(x, rounded).argmax(axis=1).tolist()


def test_a_jump_that_no_value_exceeds_leaves_nothing() -> None:
    (counts,) = run_all(relu_classifier(), samples(10), 2.0)
    assert counts.kept == {"relu": 0}
    assert counts.predictions.tolist() == [0] * 30


@pytest.mark.parametrize("batch", [1, 4, 30, 50])
def test_a_fixed_batch_size_answers_for_every_sample(batch: int) -> None:
    data = samples(10)
    fixed, free = run_all(relu_classifier(batch=batch), data, 0.3)[0], run_all(relu_classifier(), data, 0.3)[0]
    assert fixed.predictions.tolist() == free.predictions.tolist()
    # Whole batches alone are counted; all of a single one, which here repeats some samples.
    x = np.resize(np.arange(30), 50) if batch == 50 else np.arange(30 // batch * batch)
    assert fixed.positive == {"relu": (inputs_of(data)[x] > 0).sum()}


def test_of_many_samples_some_batches_from_everywhere_are_counted() -> None:
    data = samples(10, n=2000)
    (counts,) = run_all(relu_classifier(), data, 0.3)
    x = inputs_of(data)
    assert counts.predictions.tolist() == jump_relu(x, np.float32(0.3)).argmax(axis=1).tolist()
    seen = np.concatenate([x[64 * batch : 64 * batch + 64] for batch in (0, 7, 14, 21, 28)])
    assert counts.positive == {"relu": (seen > 0).sum()}
    assert counts.kept == {"relu": (seen > np.float32(0.3)).sum()}


def test_nan_is_no_class() -> None:
    made = make_model(
        [node("Sqrt", "x", "h"), node("Relu", "h", "y", "relu")],
        [value("x", FLOAT, ["N", 10])],
        [value("y", FLOAT, ["N", 10])],
    )
    (counts,) = run_all(made, samples(10), 0.0)
    assert set(counts.predictions.tolist()) == {-1}


# --- against converted models -----------------------------------------------------------------------------------------


def with_inputs_of_sites(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A converted model that gives what its JumpReLUs read, as well."""
    names = {site.path.removesuffix("/JumpReLU"): site.input for site in find_sites(model)}
    given = {one.name for one in (*model.graph.input, *model.graph.output)}
    for site in find_sites(model):
        if site.input not in given:
            model.graph.output.append(value(site.input, site.element_type, None))
    return model, names


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("digits", (1, 8, 8)),
        ("residual.dynamo", (3, 32, 32)),
        ("residual.torchscript", (3, 32, 32)),
        ("mlp.torchscript", (8,)),
        ("half.dynamo", (3, 8, 8)),
        ("relu6.torchscript", (3, 8, 8)),
    ],
)
def test_a_session_gives_what_each_converted_model_gives(name: str, shape: tuple[int, ...]) -> None:
    path = MODELS / f"{name}.onnx"
    classifier = read_classifier(path)
    fixed = tuple(dim if isinstance(dim, int) else size for dim, size in zip(classifier.shape[1:], shape, strict=True))
    data = samples(*fixed, n=10)
    sites = [site.path for site in find_sites(path)]
    own = {site: 0.05 * (number + 1) for number, site in enumerate(sites)}
    rules = tuple(PolicyRule(site, jump) for site, jump in own.items())
    policies = (JumpReluPolicy(0.0), JumpReluPolicy(0.1), JumpReluPolicy(None, rules))
    found = run_all(path, data, 0.0, 0.1, own, clip=True)
    feeds = classifier.feed(inputs_of(data))
    for policy, counts in zip(policies, found, strict=True):
        converted, names = with_inputs_of_sites(hardened(onnx.load(path), None, policy=policy, clip=True))
        outputs = dict(zip([one.name for one in converted.graph.output], run(converted, feeds), strict=True))
        assert counts.predictions.tolist() == outputs[classifier.output].argmax(axis=1).tolist()
        for site in sites:
            values = outputs[names[site]]
            rule = policy.rule_for(site, site)
            jump = np.asarray(policy.default if rule is None else rule.jump, values.dtype)
            assert counts.positive[site] == (values > 0).sum()
            assert counts.kept[site] == (values > jump).sum()


def test_a_function_that_is_called_twice_has_one_jump_and_one_count() -> None:
    path = MODELS / "functions.torchscript.onnx"
    classifier = read_classifier(path)
    data = samples(*(int(dim) for dim in classifier.shape[1:]), n=10)
    paths = [site.path for site in find_sites(path)]
    assert len(paths) == 2
    (counts,) = run_all(path, data, 0.3)
    converted = hardened(onnx.load(path), 0.3)
    (scores,) = run(converted, classifier.feed(inputs_of(data)))
    assert counts.predictions.tolist() == scores.argmax(axis=1).tolist()
    assert set(counts.positive) == set(paths)


def test_a_site_in_a_branch_has_its_jump_and_no_count() -> None:
    then, other = branch([node("Relu", "h", "t", "relu")], "t"), branch([node("Neg", "h", "e")], "e")
    made = make_model(
        [node("Relu", "x", "h", "stem"), node("If", "c", "y", "choose", then_branch=then, else_branch=other)],
        [value("x", FLOAT, ["N", 10])],
        [value("y", FLOAT, ["N", 10])],
        initializers={"c": np.bool_(True)},
    )
    data = samples(10)
    (counts,) = run_all(made, data, {"stem": 0.2, "choose/then_branch/relu": 1.2})
    assert set(counts.positive) == {"stem"}
    assert counts.predictions.tolist() == jump_relu(inputs_of(data), np.float32(1.2)).argmax(axis=1).tolist()


@pytest.mark.parametrize("target", ["custom-op", "subgraph", "standard"])
@pytest.mark.parametrize("jump", [0.5, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)])
def test_the_jumps_of_a_model_that_was_hardened_before_are_replaced(target: Any, jump: Any) -> None:
    data, before = samples(10), hardened(relu_classifier(), jump, target=target)
    for again, original in zip(
        run_all(before, data, 0.0, 0.4), run_all(relu_classifier(), data, 0.0, 0.4), strict=True
    ):
        assert again.predictions.tolist() == original.predictions.tolist()
        assert list(again.kept.values()) == list(original.kept.values())


def recurrent_classifier() -> onnx.ModelProto:
    """A step of an RNN with Relu, and a Relu behind it."""
    draw = np.random.default_rng(0)
    weights = {"w": draw.normal(size=(1, 5, 10)), "r": draw.normal(size=(1, 5, 5)), "axes": np.array([0])}
    return make_model(
        [
            node("Unsqueeze", "x axes", "x1"),
            node("RNN", "x1 w r", "- last", "rnn", hidden_size=5, activations=["Relu"]),
            node("Squeeze", "last axes", "h"),
            node("Relu", "h", "y", "relu"),
        ],
        [value("x", FLOAT, ["N", 10])],
        [value("y", FLOAT, ["N", 5])],
        initializers={name: w.astype(np.int64 if name == "axes" else np.float32) for name, w in weights.items()},
    )


def test_an_activation_of_an_rnn_keeps_relu() -> None:
    model = recurrent_classifier()
    model.graph.node[1].output[0] = ""
    prepared = harden(model, clip=False)
    assert prepared.fixed == ("rnn",)
    assert [path for path, _ in prepared.model.sites] == ["relu"]
    data = samples(10)
    (counts,) = run_all(model, data, 0.0)
    (scores,) = run(model, {"x": inputs_of(data)})
    assert counts.predictions.tolist() == scores.argmax(axis=1).tolist()


def test_external_data_are_found_beside_the_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(
        onnx.load(MODELS / "digits.onnx"), path, save_as_external_data=True, location="m.data", size_threshold=1024
    )
    before = sorted(tmp_path.iterdir())
    data = load_data(MODELS / "digits_test.npz").take(np.arange(20))
    assert run_all(path, data, 0.5)[0].predictions.tolist() == (
        run_all(MODELS / "digits.onnx", data, 0.5)[0].predictions.tolist()
    )
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("clip", [False, True])
def test_a_model_without_a_site_is_refused(clip: bool) -> None:
    made = make_model([node("Neg", "x", "y")], [value("x", FLOAT, ["N", 4])], [value("y", FLOAT, ["N", 4])])
    with pytest.raises(ModelError, match="no Relu"):
        harden(made, clip=clip)


def test_a_model_that_does_not_run_on_the_samples_says_so_in_a_line() -> None:
    made = make_model(
        [node("Relu", "x", "h", "relu"), node("Reshape", "h shape", "y")],
        [value("x", FLOAT, ["N", 10])],
        [value("y", FLOAT, ["M", 5])],
        initializers={"shape": np.array([7, 5])},
    )
    with pytest.raises(ModelError, match="onnxruntime does not run the model") as caught:
        run_all(made, samples(10), 0.0)
    assert len(str(caught.value).splitlines()) == 1


# --- calibration ------------------------------------------------------------------------------------------------------


def test_quantiles_are_those_of_the_activations_of_all_samples() -> None:
    data = load_data(MODELS / "digits_test.npz").take(np.arange(50))
    path = MODELS / "digits.onnx"
    found = calibrate(harden(path, clip=False), read_classifier(path), data, silent)
    plain, names = with_inputs_of_sites(hardened(onnx.load(path), 0.0))
    outputs = dict(zip([one.name for one in plain.graph.output], run(plain, {"image": inputs_of(data)}), strict=True))
    for site, histogram in found.items():
        values = outputs[names[site]]
        positive = np.sort(values[values > 0])
        # Sums come out otherwise in batches of another size: a value may fall on the other side of zero.
        assert histogram.count == pytest.approx(len(positive), abs=3)
        for q in (0.01, 0.1, 0.5, 0.9):
            assert histogram.quantile(q) == pytest.approx(np.quantile(positive, q, method="inverted_cdf"), rel=0.009)


def test_a_site_that_reads_the_input_itself_is_calibrated() -> None:
    data = samples(10)
    found = calibrate(harden(relu_classifier(), clip=False), read_classifier(relu_classifier()), data, silent)
    assert found["relu"].count == (inputs_of(data) > 0).sum()


def test_progress_comes_to_its_end() -> None:
    seen: list[tuple[int, int]] = []
    path, data = MODELS / "digits.onnx", load_data(MODELS / "digits_test.npz")
    prepared, classifier = harden(path, clip=False), read_classifier(path)
    calibrate(prepared, classifier, data, lambda *step: seen.append(step))
    assert seen == [(done, len(seen)) for done in range(1, len(seen) + 1)]
    with jump_session(prepared, classifier) as session:
        seen.clear()
        session.run(data, [dict.fromkeys((p for p, _ in prepared.model.sites), 0.1)] * 3, lambda *s: seen.append(s))
    assert seen == [(done, len(seen)) for done in range(1, len(seen) + 1)]
