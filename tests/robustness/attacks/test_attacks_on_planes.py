"""Attacks on a linear classifier, where the distance to the nearest boundary is a formula."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from attacked import linear, right, target_of
from support import Array, make_model, node, value

from jr_onnx.robustness.attacks.attack import run
from jr_onnx.robustness.attacks.search import margin_of, relative_noise
from jr_onnx.robustness.attacks.square import _window
from jr_onnx.robustness.attacks.target import Effort, Target
from jr_onnx.robustness.dataset import Classifier

GENERATOR = np.random.default_rng(11)
WEIGHTS, BIAS = GENERATOR.normal(size=(5, 9)), GENERATOR.normal(size=5)
IMAGES = GENERATOR.normal(size=(20, 1, 3, 3)).astype(np.float32)
MEAN, STD = (0.3,), (0.25,)


def target(mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Target:
    """Nothing is out of range, so that every boundary can be reached."""
    return linear(WEIGHTS, BIAS, mean=mean, std=std, low=-1e3, high=1e3)


LABELS = np.asarray(target().session_run(IMAGES)).argmax(1)


def distances(order: int) -> Array:
    """From each image to the nearest boundary, in normalised units; `order` is that of the dual norm."""
    logits = np.asarray(target().session_run(IMAGES)).astype(np.float64)
    found = []
    for scores, label in zip(logits, LABELS, strict=True):
        others = [k for k in range(5) if k != label]
        found.append(
            min((scores[label] - scores[k]) / np.linalg.norm(WEIGHTS[k] - WEIGHTS[label], order) for k in others)
        )
    return np.asarray(found)


@pytest.mark.parametrize("name, order, dual", [("deepfool-l2", 2, 2), ("deepfool-linf", np.inf, 1)])
def test_deepfool_goes_to_the_nearest_boundary_and_a_little_beyond(name: str, order: float, dual: int) -> None:
    outcome = run(name, target(), IMAGES, LABELS, range(20), Effort(steps=3))
    assert not right(target(), outcome.images, LABELS).any()
    moved = np.linalg.norm(((outcome.images - IMAGES) / STD[0]).reshape(20, -1), order, axis=1)
    np.testing.assert_allclose(moved, (distances(dual) + 1e-4) * 1.02, rtol=1e-3)


def test_trust_region_goes_little_farther_than_it_must() -> None:
    outcome = run("trust-region", target(), IMAGES, LABELS, range(20), Effort(steps=200))
    assert not right(target(), outcome.images, LABELS).any()
    moved = np.linalg.norm(((outcome.images - IMAGES) / STD[0]).reshape(20, -1), 2, axis=1)
    assert (moved >= distances(2)).all()
    assert (moved <= distances(2) * 1.05 + 0.02).all()


@pytest.mark.parametrize("name", ["pgd", "smooth", "bpda", "ifgsm", "square"])
@pytest.mark.parametrize("share", [0.97, 1.05])
def test_the_boundary_of_two_classes_is_crossed_from_its_distance_on_and_not_before(name: str, share: float) -> None:
    two = linear(WEIGHTS[:2], BIAS[:2], mean=MEAN, std=STD, low=-1e3, high=1e3)
    logits = np.asarray(two.session_run(IMAGES)).astype(np.float64)
    labels = logits.argmax(1)
    reach = np.abs(logits[:, 0] - logits[:, 1]) / np.abs(WEIGHTS[0] - WEIGHTS[1]).sum()
    for i, distance in enumerate(reach[:8]):
        effort = Effort(eps=distance * STD[0] * share, steps=60, queries=100, step=distance / 20)
        outcome = run(name, two, IMAGES[i : i + 1], labels[i : i + 1], [i], effort)
        crossed = not right(two, outcome.images, labels[i : i + 1]).any()
        if name == "square":  # it guesses, and may be unlucky
            assert share > 1 or not crossed
        else:
            assert crossed == (share > 1)


@pytest.mark.parametrize("name", ["pgd", "deepfool-l2", "square", "ifgsm"])
def test_mean_and_deviation_are_the_tools_business(name: str) -> None:
    """The same classifier with its preprocessing in the weights is attacked in the same way."""
    inside = linear(
        WEIGHTS / STD[0], BIAS - WEIGHTS.sum(1) * MEAN[0] / STD[0], mean=(0.0,), std=(1.0,), low=-1e3, high=1e3
    )
    effort = Effort(eps=0.05, steps=10, queries=30, step=0.01)
    if name in ("ifgsm", "deepfool-l2"):  # their steps are in normalised units, so only success can be the same
        effort = Effort(eps=10.0, steps=10, step=0.5)
    one = run(name, target(), IMAGES, LABELS, range(20), effort).images
    other = run(name, inside, IMAGES, LABELS, range(20), effort).images
    if name in ("ifgsm", "deepfool-l2"):
        np.testing.assert_array_equal(right(target(), one, LABELS), right(inside, other, LABELS))
    else:
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["pgd", "bpda", "smooth", "ifgsm"])
def test_two_classes_that_are_far_apart_have_a_gradient(name: str) -> None:
    """The cross-entropy is exactly 0 here, with a gradient of 0."""
    sure = linear(WEIGHTS[:2] * 1e4, BIAS[:2] * 1e4, low=-1e3, high=1e3)
    logits = np.asarray(sure.session_run(IMAGES)).astype(np.float64)
    labels = logits.argmax(1)
    reach = np.abs(logits[:, 0] - logits[:, 1]) / np.abs(WEIGHTS[0] - WEIGHTS[1]).sum() / 1e4
    assert np.abs(logits[:, 0] - logits[:, 1]).min() > 800
    effort = Effort(eps=float(reach.max() * 1.05), steps=40, step=float(reach.max() / 20))
    outcome = run(name, sure, IMAGES, labels, range(20), effort)
    assert not outcome.failed.any()
    assert not right(sure, outcome.images, labels).any()


def test_channels_have_their_own_mean_and_deviation() -> None:
    channels = Target(None, lambda x: x, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0))
    images = np.full((1, 3, 2, 2), 1.0, np.float32)
    attacked = images.copy()
    attacked[0, 2, 0, 0] += 0.5
    clean = np.sqrt(4 * (0.9**2 + 0.4**2 + 0.175**2))
    np.testing.assert_allclose(relative_noise(channels, images, attacked, "l2"), [0.125 / clean], rtol=1e-5)
    np.testing.assert_allclose(relative_noise(channels, images, attacked, "linf"), [0.125 / 0.9], rtol=1e-5)


def test_a_margin_is_negative_exactly_where_the_answer_is_another_class() -> None:
    """The answer as `Classifier.predictions` has it, so that clean accuracy and attacks count the same."""
    scores = [-np.inf, -1e300, -3.0, 0.0, 1.0, 1e300, np.inf, np.nan]
    logits = np.asarray(list(itertools.product(scores, repeat=3)))
    answers = Classifier("x", ("N", 9), onnx.TensorProto.DOUBLE, "y", 3, "NCHW").predictions(logits)
    for label in range(3):
        margins = margin_of(logits, np.full(len(logits), label))
        np.testing.assert_array_equal(margins < 0, (answers != label) & (answers >= 0))
        np.testing.assert_array_equal(np.isinf(margins), answers < 0)


def test_margins_of_infinite_scores_are_in_order() -> None:
    logits = np.asarray([[np.inf, 0], [1, -np.inf], [3, 1], [-np.inf, -np.inf], [-np.inf, 0], [-np.inf, np.inf]])
    margins = margin_of(logits, np.zeros(6, np.int64))
    assert margins[2:4].tolist() == [2.0, 0.0]
    assert (np.diff(margins) <= 0).all()
    assert margins[-1] < margins[-2]


def test_probabilities_have_their_margin_in_logarithms() -> None:
    """In float32 the first is 1 in both rows; its rivals say how far away they are."""
    logits = np.asarray([[40.0, 3.0, 0.0], [40.0, 1.0, 20.0], [0.0, 40.0, 1.0]])
    shares = np.exp(logits - np.logaddexp.reduce(logits, 1, keepdims=True)).astype(np.float32)
    assert (shares[:2, 0] == 1).all()
    np.testing.assert_allclose(margin_of(shares, np.zeros(3, np.int64)), [37.0, 20.0, -40.0], rtol=1e-5)
    ties = np.asarray([[0.5, 0.5], [0.0, 0.0]], np.float32)
    assert margin_of(ties, np.zeros(2, np.int64)).tolist() == [0.0, 0.0]
    assert (margin_of(ties, np.ones(2, np.int64)) < 0).all()


def test_vectors_that_are_no_images_can_be_attacked() -> None:
    weights = WEIGHTS[:3, :6].astype(np.float32)
    model = make_model(
        [node("Gemm", "x w", "y", transB=1)],
        [value("x", shape=["N", 6])],
        [value("y", shape=["N", 3])],
        initializers={"w": weights},
    )
    flat = target_of(model)
    x = GENERATOR.random((5, 6)).astype(np.float32)
    labels = np.asarray(flat.session_run(x)).argmax(1)
    for name in ("pgd", "deepfool-linf", "trust-region", "square"):
        outcome = run(name, flat, x, labels, range(5), Effort(eps=0.9, steps=50, queries=200))
        assert outcome.images.shape == x.shape
        assert right(flat, outcome.images, labels).sum() <= 2


@pytest.mark.parametrize("height, width", [(1, 64), (64, 1), (2, 100), (8, 8), (28, 28), (3, 4), (1, 1), (224, 200)])
def test_windows_of_square_have_the_share_that_is_due_whatever_the_shape(height: int, width: int) -> None:
    shares = [(0.0, 0.8), (0.002, 0.4), (0.01, 0.2), (0.03, 0.1), (0.9, 0.8 / 512)]
    for spent, share in shares:
        tall, wide = _window(spent, height, width)
        assert 1 <= tall <= height
        assert 1 <= wide <= width
        area = share * height * width
        assert abs(tall * wide - area) <= max((tall + wide) / 2, 1)  # each length is rounded
        assert tall == wide or height != width


@pytest.mark.parametrize("name", ["pgd", "ifgsm", "deepfool-l2", "deepfool-linf", "trust-region", "square"])
def test_channels_that_come_last_are_attacked_as_if_they_came_first(name: str) -> None:
    weights = {"w": GENERATOR.normal(size=(4, 3 * 4 * 5)).astype(np.float32)}
    mean, std = (0.2, 0.4, 0.6), (0.2, 0.5, 1.0)

    def built(nodes: list[onnx.NodeProto], shape: list[str | int], layout: str) -> Target:
        nodes = [*nodes, node("Flatten", "c", "f"), node("Gemm", "f w", "y", transB=1)]
        values = [value("x", shape=shape)], [value("y", shape=["N", 4])]
        return target_of(make_model(nodes, *values, initializers=weights), mean, std, layout=layout)

    first = built([node("Identity", "x", "c")], ["N", 3, 4, 5], "NCHW")
    last = built([node("Transpose", "x", "c", perm=[0, 3, 1, 2])], ["N", 4, 5, 3], "NHWC")
    images = GENERATOR.random((6, 3, 4, 5), np.float32)
    labels = np.asarray(first.session_run(images)).argmax(1)
    effort = Effort(eps=0.1, steps=15, queries=40)
    one = run(name, first, images, labels, range(6), effort)
    other = run(name, last, np.moveaxis(images, 1, -1), labels, range(6), effort)
    np.testing.assert_allclose(np.moveaxis(other.images, -1, 1), one.images, rtol=0, atol=1e-5)
    np.testing.assert_allclose(other.relative_noise, one.relative_noise, rtol=1e-4)
