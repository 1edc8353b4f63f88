"""A campaign gives the same to the last bit whoever does the work and however often it was interrupted; every success
is one for onnxruntime on the shipped file; and what makes no sense is refused in one line."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from evaluation_models import DIGITS, IMAGES, QUICK, digits, with_jump
from onnx import TensorProto, helper

from jr_onnx.cli.dask import dask_executor
from jr_onnx.errors import JrOnnxError, ModelError, OptionError
from jr_onnx.robustness.attacks.target import AttackOutcome, Effort
from jr_onnx.robustness.dataset import Dataset, load_data
from jr_onnx.robustness.evaluation import campaign, part
from jr_onnx.robustness.evaluation.campaign import run_campaign
from jr_onnx.robustness.evaluation.judge import Judge
from jr_onnx.robustness.evaluation.part import Campaign, Part, attack_part
from jr_onnx.robustness.evaluation.report import EvaluationReport
from jr_onnx.robustness.evaluation.workers import sample_seeds, shards

ATTACKS = ("pgd", "smooth", "transfer", "square", "deepfool-l2")
EPS = (0.05, 0.1)


def run(samples: int = 80, **options: Any) -> EvaluationReport:
    """Two shards, two models: four parts of each attack at each effort."""
    models = {"original": DIGITS, "hardened": with_jump(0.5)}
    return run_campaign(models, digits(samples), **{"eps": EPS, "attacks": ATTACKS, "effort": QUICK, **options})


def everything(report: EvaluationReport) -> dict[str, Any]:
    """All that a report says but the time it took, with every sample and every pixel."""
    found: dict[str, Any] = {**report.to_dict(), "seconds": 0}
    for name, model in report.models.items():
        found[name] = [array.tobytes() for array in (model.correct, model.survives_true, model.survives)]
    for example in report.examples:
        found[f"example {example.sample}"] = [one.pixels.tobytes() for one in example.adversarials]
    return found


@pytest.fixture(scope="module")
def alone() -> EvaluationReport:
    return run()


def test_workers_do_not_show_in_the_result(alone: EvaluationReport) -> None:
    assert everything(run(workers=2)) == everything(alone)
    with ThreadPoolExecutor(2) as executor:
        assert everything(run(executor=executor)) == everything(alone)


@pytest.fixture
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'jr-onnx[dask]'")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None, silence_logs=50
    ) as made:
        yield made


@pytest.mark.slow
def test_a_cluster_does_not_show_in_the_result_even_if_a_worker_is_killed_in_the_middle(
    alone: EvaluationReport, cluster: Any
) -> None:
    killed: list[int] = []

    def kill_one(done: int, _: int) -> None:
        if done == 1 and not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    with dask_executor(cluster.scheduler_address) as executor:
        assert everything(run(executor=executor, progress=kill_one)) == everything(alone)
    assert killed


def test_an_interrupted_run_goes_on_where_it_was(
    alone: EvaluationReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(journal=tmp_path, progress=interrupt)
    attacked: list[Part] = []

    def counted(one: Campaign, part: Part) -> Any:
        attacked.append(part)
        return attack_part(one, part)

    monkeypatch.setattr(campaign, "attack_part", counted)
    progress: list[tuple[int, int]] = []
    report = run(journal=tmp_path, progress=lambda done, total: progress.append((done, total)))
    assert everything(report) == everything(alone)
    done, total = zip(*progress, strict=True)
    assert list(done) == sorted(done)
    assert len(attacked) == done[-1] - 3
    # What is to come is told at its most: attacks that have converged are not repeated.
    assert list(total) == sorted(total, reverse=True)
    assert done[-1] == total[-1]


def test_a_journal_is_for_the_same_settings_only(tmp_path: Path) -> None:
    first = run(40, journal=tmp_path, attacks=("square",))
    other = run(40, journal=tmp_path, attacks=("square",), seed=1)
    assert len(list(tmp_path.iterdir())) == 2
    assert first.settings["seed"] != other.settings["seed"]


def test_every_success_is_one_for_onnxruntime_on_the_shipped_file_and_within_eps(alone: EvaluationReport) -> None:
    data = np.load(IMAGES)
    sessions = {
        "original": onnxruntime.InferenceSession(DIGITS.read_bytes()),
        "hardened": onnxruntime.InferenceSession(with_jump(0.5).SerializeToString()),
    }
    assert sum(len(example.adversarials) for example in alone.examples) > 8
    for example in alone.examples:
        assert np.array_equal(example.pixels, data["x"][example.sample])
        assert example.label == data["y"][example.sample]
        for one in example.adversarials:
            answer = sessions[one.against].run(None, {"image": one.pixels[None]})[0].argmax()
            assert answer == one.answers[one.against] != example.label
            assert np.abs(one.pixels.astype(np.float64) - example.pixels).max() <= one.eps + 1e-7
            assert one.pixels.min() >= 0
            assert one.pixels.max() <= 1


def test_the_digits_come_out_as_they_did(alone: EvaluationReport) -> None:
    """Fixed seeds, fixed figures; sums differ in the last bits between processors, which may turn a sample."""
    reference, hardened = alone.models.values()
    assert (reference.clean_accuracy, hardened.clean_accuracy) == EXPECTED_CLEAN
    for model, (true, worst) in zip((reference, hardened), EXPECTED, strict=True):
        got = [[model.accuracy(eps, adaptive=adaptive) for eps in range(2)] for adaptive in (False, True)]
        np.testing.assert_allclose(got, [true, worst], atol=2.6 / 80)


#: (original, hardened), then for each: (true gradient with the control, worst case), at each eps.
EXPECTED_CLEAN = (0.9625, 0.95)
EXPECTED = (((0.9, 0.55), (0.9, 0.55)), ((0.8125, 0.4125), (0.7875, 0.3875)))


def test_what_fools_at_one_eps_fools_at_every_larger_one(alone: EvaluationReport) -> None:
    for model in alone.models.values():
        for survives in (model.survives_true, model.survives):
            assert (survives[1] <= survives[0]).all()
        assert (model.survives <= model.survives_true).all()
        assert (model.survives_true <= model.correct).all()


def test_survivors_are_carried_from_attack_to_attack(alone: EvaluationReport) -> None:
    for model in alone.models.values():
        for eps in EPS:
            rows = [row for row in model.rows if row.eps == eps]
            assert [row.attack for row in rows] == ["deepfool-l2", "pgd", "smooth", "transfer", "square"]
            # Neither arm knows of the other, and what one attack of an arm has broken the next does not get.
            assert rows[1].tried <= rows[0].tried - rows[0].broke
            assert rows[2].tried <= model.correct.sum()
            assert rows[3].tried <= rows[2].tried
            assert rows[4].tried <= min(row.tried - row.broke for row in rows[:4])
            for before, after in itertools.pairwise(rows):
                assert after.accuracy <= before.accuracy
            assert rows[-1].accuracy == model.accuracy(EPS.index(eps))
            follow = [row for row in rows if not row.adapts]
            assert follow[-1].accuracy == model.accuracy(EPS.index(eps), adaptive=False)


def test_the_smallest_perturbations_are_measured_as_the_paper_does(alone: EvaluationReport) -> None:
    for model in alone.models.values():
        (row,) = model.noise
        assert row.attack == "deepfool-l2"
        assert row.tried == model.correct.sum()
        assert row.fooled > 0.9 * row.tried
        assert row.mean is not None
        assert 0.05 < row.mean < 0.5


def test_candidates_that_are_not_numbers_are_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str, __: object, images: Any, *___: object, **____: object) -> AttackOutcome:
        none = np.zeros(len(images))
        return AttackOutcome(np.full_like(images, np.nan), none == 0, none)

    monkeypatch.setattr(part, "run", broken)
    report = run(40, attacks=("pgd", "deepfool-l2"))
    for model in report.models.values():
        assert np.array_equal(model.survives[0], model.correct)
        assert all(row.broke == 0 and row.failed == row.tried for row in model.rows)
        assert model.noise[0].fooled == 0
        assert model.noise[0].mean is None


def test_a_candidate_outside_the_ball_is_brought_back_before_it_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def far(_: str, __: object, images: Any, *___: object, **____: object) -> AttackOutcome:
        none = np.zeros(len(images))
        return AttackOutcome(1 - images, none > 0, none)

    monkeypatch.setattr(part, "run", far)
    report = run(40, attacks=("pgd",), eps=(1e-6,))
    for model in report.models.values():
        assert np.array_equal(model.survives[0], model.correct)


def test_an_answer_of_nan_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def inverted(_: str, __: object, images: Any, *___: object, **____: object) -> AttackOutcome:
        none = np.zeros(len(images))
        return AttackOutcome(1 - images, none > 0, none)

    answers = Judge.answers

    def dark_only(self: Judge, pixels: Any, dataset: Dataset) -> Any:
        return np.where(pixels[:, 0, 0, 0] > 0.5, -1, answers(self, pixels, dataset))  # no sample's corner is bright

    monkeypatch.setattr(Judge, "answers", dark_only)
    monkeypatch.setattr(part, "run", inverted)
    for model in run(40, attacks=("pgd",), eps=(1.0,)).models.values():
        assert np.array_equal(model.survives[0], model.correct)


def test_without_labels_the_originals_answers_are_the_labels() -> None:
    unlabelled = dataclasses.replace(digits(40), labels=None)
    report = run_campaign({"a": DIGITS, "b": with_jump(0.8)}, unlabelled, eps=[0.1], attacks=["square"], effort=QUICK)
    assert report.models["a"].clean_accuracy == 1
    assert report.models["b"].clean_accuracy < 1
    assert report.settings["labels"] == "the original's answers"


def test_without_labels_an_original_that_answers_nan_is_refused_in_one_line() -> None:
    model = onnx.load(DIGITS)
    for node in model.graph.node:
        node.output[:] = ["before" if name == model.graph.output[0].name else name for name in node.output]
    root = [
        helper.make_node("ReduceMin", ["before"], ["least"], keepdims=1),  # of the batch: below zero, so NaN
        helper.make_node("Sqrt", ["least"], ["root"]),
        helper.make_node("Add", ["before", "root"], [model.graph.output[0].name]),
    ]
    model.graph.node.extend(root)
    unlabelled = dataclasses.replace(digits(16), labels=None)
    with pytest.raises(ModelError, match=r"the original gives NaN for 16 of the samples of .*, which have no labels"):
        run_campaign({"a": model}, unlabelled, eps=[0.1], attacks=["square"], effort=QUICK)


def test_mean_and_std_are_the_tools_business() -> None:
    """The same network behind another preprocessing: pixels stay pixels, and the same perturbations fool it."""
    model = onnx.load(DIGITS)
    given = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["raw" if name == given else name for name in node.input]
    model.graph.initializer.append(helper.make_tensor("std", TensorProto.FLOAT, [], [0.25]))
    model.graph.initializer.append(helper.make_tensor("mean", TensorProto.FLOAT, [], [0.5]))
    undo = [helper.make_node("Mul", [given, "std"], ["scaled"]), helper.make_node("Add", ["scaled", "mean"], ["raw"])]
    nodes = [*undo, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    normalised = load_data(IMAGES, mean=0.5, std=0.25).take(np.arange(40))
    options: dict[str, Any] = {"eps": [0.1], "attacks": ["pgd", "square"], "effort": QUICK}
    plain = run_campaign({"a": DIGITS}, digits(40), **options).models["a"]
    other = run_campaign({"a": model}, normalised, **options).models["a"]
    assert (plain.survives != other.survives).sum() <= 1, "but for rounding"


def test_a_model_with_a_fixed_batch_size_is_attacked_like_any_other() -> None:
    model = onnx.load(DIGITS)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 16
    del model.graph.value_info[:]
    options: dict[str, Any] = {"eps": [0.1], "attacks": ["square"], "effort": QUICK}
    free = run_campaign({"a": DIGITS}, digits(40), **options).models["a"]
    fixed = run_campaign({"a": model}, digits(40), **options).models["a"]
    assert (free.survives != fixed.survives).sum() <= 1


def test_seeds_belong_to_samples_and_not_to_places() -> None:
    every = sample_seeds(3, 7, np.arange(10))
    assert np.array_equal(sample_seeds(3, 7, np.array([4, 9])), every[[4, 9]])
    assert len({*every, *sample_seeds(3, 8, np.arange(10)), *sample_seeds(4, 7, np.arange(10))}) == 30


@pytest.mark.parametrize(("shape", "first"), [((1000, 1, 8, 8), 64), ((1000, 3, 64, 64), 64), ((100, 3, 224, 224), 8)])
def test_shards_cover_every_sample_once_and_are_small_where_samples_are_large(
    shape: tuple[int, ...], first: int
) -> None:
    found = shards(shape)
    assert [sample for shard in found for sample in shard] == list(range(shape[0]))
    assert len(found[0]) == first


def test_an_operator_without_a_gradient_is_named_and_black_box_attacks_still_run() -> None:
    model = onnx.load(DIGITS)
    given = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["wave" if name == given else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("BitShiftOfTheFuture", [given], ["wave"], domain="some.where"))
    model.opset_import.append(helper.make_opsetid("some.where", 1))
    body = [helper.make_node("Identity", ["x"], ["y"])]
    model.functions.append(
        helper.make_function("some.where", "BitShiftOfTheFuture", ["x"], ["y"], body, [helper.make_opsetid("", 20)])
    )
    # A function is inlined, so it runs; an operator that only onnxruntime has does not.
    assert run_campaign({"a": model}, digits(16), eps=[0.1], attacks=["pgd"], effort=QUICK).samples == 16
    model = onnx.load(DIGITS)
    for node in model.graph.node:
        node.input[:] = ["wave" if name == given else name for name in node.input]
    nodes = [helper.make_node("BiasGelu", [given, "zeros"], ["wave"], domain="com.microsoft"), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(helper.make_tensor("zeros", TensorProto.FLOAT, [8], [0.0] * 8))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(ModelError, match=r"BiasGelu.*`attacks=\['square'\]`"):
        run_campaign({"a": model}, digits(16), eps=[0.1], attacks=["pgd"], effort=QUICK)
    report = run_campaign({"a": model}, digits(16), eps=[0.1], attacks=["square"], effort=QUICK)
    assert report.models["a"].rows[0].attack == "square"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"eps": [8]}, "write 8/255, not 8"),
        ({"eps": [0.0]}, "`eps` 0 is not in"),
        ({"eps": [float("nan")]}, "`eps` nan is not in"),
        ({"eps": []}, "`eps` is empty"),
        ({"attacks": ["pdg"]}, "`attacks`: there is no 'pdg'; there are ifgsm"),
        ({"attacks": []}, "`attacks` is empty"),
        ({"effort": Effort(steps=0)}, "`steps` 0: at least 1"),
        ({"effort": Effort(queries=-1)}, "`queries` -1: at least 1"),
        ({"seed": -1}, "`seed` -1: at least 0"),
        ({"workers": 0}, "`workers` 0: at least 1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_makes_no_sense_is_refused_in_one_line(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint) as caught:
        run(20, **options)
    assert "\n" not in str(caught.value)


def test_data_that_do_not_fit_are_refused_in_one_line() -> None:
    with pytest.raises(JrOnnxError, match="the model takes"):
        run_campaign({"a": DIGITS}, wrong_shape(), eps=[0.1], attacks=["square"])


def wrong_shape() -> Dataset:
    return load_data((np.zeros((4, 1, 9, 9), np.float32), np.array([0, 1, 2, 3])))


def test_the_report_is_plain_json(alone: EvaluationReport) -> None:
    told = json.loads(json.dumps(alone.to_dict(), allow_nan=False))
    assert told["samples"] == 80
    assert [model["name"] for model in told["models"]] == ["original", "hardened"]
    assert told["verdicts"]["hardened"]["outcome"] == alone.verdicts["hardened"].outcome


def test_channels_last_with_a_mean_for_each_channel_is_attacked_as_channels_first_is() -> None:
    """The digits in three colours that the model averages, in either layout."""
    mean, std, rows = np.array([0.1, 0.2, 0.3], np.float32), np.array([0.5, 1.0, 2.0], np.float32), slice(0, 24)
    data = np.load(IMAGES)
    first = np.repeat(data["x"][rows], 3, axis=1)
    options: dict[str, Any] = {"eps": [0.1], "attacks": ["pgd", "square", "deepfool-l2"], "effort": QUICK}
    found = []
    for last, pixels in ((False, first), (True, np.ascontiguousarray(first.transpose(0, 2, 3, 1)))):
        samples = load_data(
            (pixels, data["y"][rows]), mean=mean.tolist(), std=std.tolist(), layout="NHWC" if last else "NCHW"
        )
        found.append(run_campaign({"a": coloured(mean, std, last)}, samples, **options).models["a"])
    assert np.array_equal(found[0].correct, found[1].correct)
    assert (found[0].survives_true != found[1].survives_true).sum() <= 1
    assert found[0].noise[0].mean == pytest.approx(found[1].noise[0].mean, rel=1e-2)


def coloured(mean: Any, std: Any, last: bool) -> onnx.ModelProto:
    """The digits classifier behind three normalised channels, of which it takes the average."""
    model = onnx.load(DIGITS)
    given = model.graph.input[0]
    for node in model.graph.node:
        node.input[:] = ["grey" if name == given.name else name for name in node.input]
    shape = (1, 1, 1, 3) if last else (1, 3, 1, 1)
    for name, values in (("m", mean), ("s", std)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.reshape(shape), name))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3 if last else 1]), "axis"))
    undo = [
        helper.make_node("Mul", [given.name, "s"], ["scaled"]),
        helper.make_node("Add", ["scaled", "m"], ["pixels"]),
        helper.make_node("ReduceMean", ["pixels", "axis"], ["average"], keepdims=1),
        helper.make_node("Transpose", ["average"], ["grey"], perm=[0, 3, 1, 2] if last else [0, 1, 2, 3]),
    ]
    nodes = [*undo, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    dims = ("N", 8, 8, 3) if last else ("N", 3, 8, 8)
    given.CopyFrom(helper.make_tensor_value_info(given.name, TensorProto.FLOAT, dims))
    return model
