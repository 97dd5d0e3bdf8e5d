"""Scores that contradict each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from unmem.memorization import Scores, opposed

IDS = np.array([f"{i}" for i in range(200)])


def score(name: str, values: np.ndarray, ids: np.ndarray = IDS) -> Scores:
    return Scores(name, ids, values)


def noisy(slope: float, seed: int = 0, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    return x, slope * x + random.normal(size=n)


def test_a_negative_rank_correlation_is_named_with_its_interval() -> None:
    x, y = noisy(-1.0)
    (found,) = opposed([score("a", x), score("b", y)])
    rho = float(spearmanr(x, y).statistic)
    half = norm.ppf(0.975) * np.sqrt((1 + rho**2 / 2) / 197)
    assert (found.first, found.second, found.n) == ("a", "b", 200)
    assert found.spearman == pytest.approx(rho)
    assert found.low == pytest.approx(np.tanh(np.arctanh(rho) - half))
    assert found.high == pytest.approx(np.tanh(np.arctanh(rho) + half))
    assert found.low < rho < found.high < 0
    assert "a and b rank the examples in opposite order" in found.text
    assert f"{rho:.2f}" in found.text
    assert found.to_dict()["text"] == found.text


def test_agreement_and_no_relation_are_not_named() -> None:
    x, y = noisy(1.0)
    assert opposed([score("a", x), score("b", y)]) == ()
    x, y = noisy(0.0)
    assert opposed([score("a", x), score("b", y)]) == ()
    assert opposed([score("a", x)]) == ()
    assert opposed([]) == ()


def test_every_opposed_pair_is_named_at_a_level_that_all_pairs_share() -> None:
    x, y = noisy(-1.0)
    found = opposed([score("a", x), score("b", y), score("c", x + 0.01)])
    assert [(one.first, one.second) for one in found] == [("a", "b"), ("b", "c")]
    (alone,) = opposed([score("a", x), score("b", y)])
    assert found[0].high > alone.high  # three pairs: each at a third of the level


def test_scores_are_compared_by_id_where_both_are_defined() -> None:
    x, y = noisy(-1.0)
    order = np.random.default_rng(1).permutation(200)
    holes = np.where(np.arange(200) % 10 == 0, np.nan, y)
    (found,) = opposed([score("a", x), score("b", holes[order], IDS[order])])
    where = ~np.isnan(holes)
    assert found.n == 180
    assert found.spearman == pytest.approx(float(spearmanr(x[where], y[where]).statistic))


def test_constant_scores_and_few_examples_say_nothing() -> None:
    x, _ = noisy(-1.0)
    assert opposed([score("a", x), score("b", np.ones(200))]) == ()
    assert opposed([score("a", x[:9], IDS[:9]), score("b", -x[:9], IDS[:9])]) == ()
    assert len(opposed([score("a", x[:10], IDS[:10]), score("b", -x[:10], IDS[:10])])) == 1


def test_unrelated_scores_raise_few_false_alarms() -> None:
    """Four scores, six pairs: at most 5% of runs may name one; 0.05/2 as only one side counts."""
    random = np.random.default_rng(0)
    alarms = sum(bool(opposed([score(name, random.normal(size=200)) for name in "abcd"])) for _ in range(400))
    assert alarms / 400 < 0.05
