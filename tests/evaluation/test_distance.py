"""The distance of predictions by hand, its symmetry, and probabilities of 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import entropy

from unmem.errors import UserError
from unmem.evaluation.distance import prediction_distance
from unmem.predictions import symmetric_kl

Real = NDArray[np.float64]
logits = arrays(np.float64, (3, 4), elements=st.floats(-50, 50))


def random_log_probs(n: int, seed: int, scale: float = 2.0) -> Real:
    return log_softmax(np.random.default_rng(seed).normal(0, scale, (n, 5)), axis=1)


def test_it_is_the_mean_of_both_divergences() -> None:
    ours, theirs = random_log_probs(30, 0), random_log_probs(30, 1)
    p, q = np.exp(ours), np.exp(theirs)
    expected = 0.5 * (entropy(p, q, axis=1) + entropy(q, p, axis=1))
    np.testing.assert_allclose(prediction_distance(ours, theirs), expected)


def test_by_hand() -> None:
    found = prediction_distance(np.log([[0.8, 0.2]]), np.log([[0.5, 0.5]]))
    assert found[0] == pytest.approx(0.5 * 0.3 * (np.log(0.8 / 0.5) + np.log(0.5 / 0.2)))


def test_it_is_the_distance_that_scores_holdout_retraining() -> None:
    logits = torch.randn(2, 20, 6, generator=torch.Generator().manual_seed(0)).double()
    ours, theirs = (one.log_softmax(1) for one in logits)
    np.testing.assert_array_equal(prediction_distance(ours.numpy(), theirs.numpy()), symmetric_kl(ours, theirs).numpy())


@settings(max_examples=50, deadline=None)
@given(logits, logits, st.permutations(range(4)))
def test_symmetric_not_negative_and_blind_to_the_names_of_classes(first: Real, second: Real, order: list[int]) -> None:
    ours, theirs = log_softmax(first, axis=1), log_softmax(second, axis=1)
    found = prediction_distance(ours, theirs)
    assert found.shape == (3,)
    assert (found >= 0).all()
    np.testing.assert_array_equal(prediction_distance(theirs, ours), found)
    np.testing.assert_array_equal(prediction_distance(ours, ours), 0)
    np.testing.assert_allclose(prediction_distance(ours[:, order], theirs[:, order]), found, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(prediction_distance(ours[::-1], theirs[::-1]), found[::-1])


def test_farther_predictions_are_farther() -> None:
    sure = np.log(np.stack([np.linspace(0.5, 0.99, 20), 1 - np.linspace(0.5, 0.99, 20)], axis=1))
    found = prediction_distance(sure, np.broadcast_to(sure[:1], sure.shape))
    assert found[0] == 0
    assert (np.diff(found) > 0).all()


def test_of_several_references_it_is_the_mean_of_the_distances() -> None:
    ours, others = random_log_probs(10, 0), [random_log_probs(10, seed) for seed in (1, 2, 3)]
    expected = np.mean([prediction_distance(ours, one) for one in others], axis=0)
    np.testing.assert_allclose(prediction_distance(ours, others), expected)
    np.testing.assert_allclose(prediction_distance(ours, np.stack(others)), expected)
    np.testing.assert_allclose(prediction_distance(ours, others[:1]), prediction_distance(ours, others[0]))
    together = prediction_distance(ours, np.log(np.mean(np.exp(others), axis=0)))
    assert (together < expected).all()  # not the distance to their mean, which is nearer


def test_a_class_that_is_ruled_out_is_very_far_and_not_infinitely() -> None:
    with np.errstate(divide="ignore"):
        sure, other, fair = (np.log([row]) for row in ([1.0, 0.0], [0.0, 1.0], [0.5, 0.5]))
    assert prediction_distance(sure, sure)[0] == 0
    assert prediction_distance(sure, other)[0] == pytest.approx(708.4, abs=0.1)
    assert prediction_distance(sure, fair)[0] == pytest.approx(0.25 * 708.4, abs=0.5)
    # What float64 can hold is not cut.
    tiny = np.array([[0.0, -700.0]])
    assert prediction_distance(tiny, fair)[0] == pytest.approx(0.25 * 700, abs=0.5)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (np.log([[0.5, 0.5]]), np.log([[0.5, 0.25, 0.25]]), r"reference of shape \(1, 3\): does not fit \(1, 2\)"),
        (np.log([[0.5, 0.5]]), [np.log([[0.5, 0.5]] * k) for k in (1, 2)], r"of shape \(2, 2\)"),
        (np.log([0.5, 0.5]), np.log([0.5, 0.5]), "does not fit"),
        (np.log([[0.5, 0.5]]), [], "no model to compare with"),
        (np.array([[0.5, 0.5]]), np.log([[0.5, 0.5]]), "log_probs: the probabilities of some row do not sum to 1"),
        (np.log([[0.5, 0.5]]), np.array([[900.0, 3.0]]), "reference: the probabilities of some row"),
        (np.log([[0.5, 0.5]]), np.array([[np.nan, 0.0]]), "reference: the probabilities of some row"),
    ],
)
def test_what_is_no_prediction_is_refused(ours: Any, theirs: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        prediction_distance(ours, theirs)
