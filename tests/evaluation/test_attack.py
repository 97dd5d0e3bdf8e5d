"""The attack against scikit-learn's own classifier, and on the examples it is meant for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

import unmem as um
from tests.helpers import logits_model
from unmem.data import Examples
from unmem.evaluation import called_unseen
from unmem.predictions import label_probability

# Logits (x, 0): the confidence of label 0 is the logistic of x.
MODEL = logits_model([[1.0], [0.0]])


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def of_label_0(x: np.ndarray, prefix: str) -> Examples:
    ids = [f"{prefix}{i:03d}" for i in range(len(x))]
    return Examples.of(x[:, None].astype(np.float32), np.zeros(len(x), dtype=int), ids=ids, n_classes=2)


@pytest.mark.parametrize("seed", range(4))
def test_the_attack_is_the_classifier_it_says_it_is(seed: int) -> None:
    random = np.random.default_rng(seed)
    sides = [random.normal(mean, 1.5, 60).astype(np.float32) for mean in (1.2, 0.0)]
    forget = np.linspace(-5, 6, 200, dtype=np.float32)
    columns = logistic(np.concatenate(sides).astype(float))[:, None]
    oracle = SVC(C=3, kernel="rbf", gamma=1).fit(columns, np.repeat([1, 0], 60))
    expected = oracle.predict(logistic(forget.astype(float))[:, None]) == 0
    found = called_unseen(MODEL, of_label_0(forget, "f"), of_label_0(sides[0], "r"), of_label_0(sides[1], "u"))
    assert 0 < expected.mean() < 1
    assert (found != expected).sum() <= 1  # one at the boundary may fall to either side


def test_the_confidence_of_a_sure_model_is_not_rounded_to_1() -> None:
    found = label_probability(torch.tensor([[30.0, 0.0]]), torch.tensor([0]))
    assert 1 - found[0] == pytest.approx(np.exp(-30.0), rel=1e-2)


def test_the_confidence_is_each_row_s_own_whatever_the_batch() -> None:
    """A trap in public code: p[:, labels] takes all rows × all labels."""
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 1, 2, 2, 0, 3])
    rows = [float(logits[i].double().softmax(0)[labels[i]]) for i in range(7)]
    np.testing.assert_allclose(label_probability(logits, labels), rows)
    np.testing.assert_allclose(label_probability(logits + 17.0, labels), rows, rtol=1e-5)
    relabelled = torch.tensor([2, 0, 3, 1])
    moved = torch.empty_like(logits)
    moved[:, relabelled] = logits
    np.testing.assert_allclose(label_probability(moved, relabelled[labels]), rows)


def test_membership_is_attacked_with_the_holdout_and_not_the_test_set() -> None:
    """The holdout is told apart from the training set and the test set is not, so only the former gives itself away."""
    x = np.random.default_rng(0).normal(5, 0.3, 80)
    train, holdout, test = of_label_0(x, ""), of_label_0(-x[:40], "h"), of_label_0(x[:40], "t")
    data = um.Splits("made", train, holdout, test)
    forget_low = of_label_0(np.concatenate([np.full(20, -5.0), x[20:]]), "")
    problem = um.Problem(MODEL, um.Splits("made", forget_low, holdout, test), train.ids[:20], recipe=um.Recipe())
    assert um.evaluate({}, problem).do_nothing.mia == 1.0
    assert um.evaluate({}, um.Problem(MODEL, data, train.ids[:20], recipe=um.Recipe())).do_nothing.mia == 0.0
