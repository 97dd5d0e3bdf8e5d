"""The curve against scikit-learn and counting by hand, its interval against placements and resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from unmem.errors import UserError
from unmem.evaluation.roc import auc_interval, roc_auc, tpr_at

Real = NDArray[np.float64]
# Few different values, so that ties are the rule.
scores = st.lists(st.integers(-3, 3), min_size=1, max_size=12).map(lambda values: np.array(values, dtype=float))
shares = st.floats(0, 1)


def by_pairs(members: Real, others: Real) -> Real:
    """[m, n]: 1 where the member is above, one half where equal."""
    return (members[:, None] > others) + 0.5 * (members[:, None] == others)


@settings(deadline=None)
@given(scores, scores)
def test_auc_is_the_share_of_pairs_that_the_member_wins(members: Real, others: Real) -> None:
    assert roc_auc(members, others) == pytest.approx(by_pairs(members, others).mean())


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_auc_agrees_with_scikit_learn(decimals: int) -> None:
    random = np.random.default_rng(decimals)
    members, others = random.normal(0.7, 1, 80).round(decimals), random.normal(0, 1, 130).round(decimals)
    expected = roc_auc_score(np.repeat([1, 0], [80, 130]), np.concatenate([members, others]))
    assert roc_auc(members, others) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(scores, scores)
def test_auc_depends_on_ranks_alone_and_turns_around_with_the_sides(members: Real, others: Real) -> None:
    value = roc_auc(members, others)
    assert roc_auc(others, members) == pytest.approx(1 - value)
    assert roc_auc(-members, -others) == pytest.approx(1 - value)
    assert roc_auc(np.exp(members) - 7, np.exp(others) - 7) == pytest.approx(value)


def test_infinite_scores_are_ranked_and_whole_numbers_taken() -> None:
    assert roc_auc([np.inf, 0], [-np.inf, 0]) == 0.875
    assert roc_auc([3, 4], [1, 2]) == 1.0


@settings(deadline=None)
@given(scores, scores, shares)
def test_tpr_is_the_best_of_all_thresholds_that_keep_the_false_alarms(members: Real, others: Real, fpr: float) -> None:
    thresholds = [np.inf, *members, *others]
    allowed = [(members >= t).mean() for t in thresholds if (others >= t).mean() <= fpr]
    assert tpr_at(members, others, fpr) == max(allowed)


def test_ties_on_the_threshold_are_false_alarms() -> None:
    others = np.array([0.0] * 98 + [1.0] * 2)
    assert tpr_at([1.0, 2.0], others, 0.01) == 0.5  # calling 1.0 a member would make two false alarms and not one
    assert tpr_at([1.0, 2.0], others, 0.02) == 1.0
    assert tpr_at([0.0], others, 0.99) == 0.0
    assert tpr_at([-1.0], others, 1.0) == 1.0


@pytest.mark.parametrize("n", [7, 49, 100, 1000])
def test_the_share_of_false_alarms_is_not_lost_to_rounding(n: int) -> None:
    """0.29 · 100 is 28.999…: one false alarm fewer than may be made."""
    others = np.arange(n, dtype=float)
    for k in range(n + 1):
        members = others + 0.5
        assert tpr_at(members, others, k / n) * n == pytest.approx(min(k + 1, n))
        below = np.nextafter(k / n, -1)
        if k > 0:
            assert tpr_at(members, others, below) * n == pytest.approx(k)


def test_the_interval_is_the_variance_of_placements_by_hand() -> None:
    random = np.random.default_rng(0)
    members, others = random.normal(0.8, 1, 40).round(1), random.normal(0, 1, 60).round(1)
    pairs = by_pairs(members, others)
    first, second = [float(row.mean()) for row in pairs], [float(column.mean()) for column in pairs.T]
    auc = sum(first) / 40
    variance = sum((v - auc) ** 2 for v in first) / 39 / 40 + sum((v - auc) ** 2 for v in second) / 59 / 60
    for level in (0.95, 0.8):
        half = norm.ppf((1 + level) / 2) * variance**0.5
        assert auc_interval(members, others, level) == pytest.approx((auc - half, auc + half))


def test_the_interval_agrees_with_resampling() -> None:
    random = np.random.default_rng(1)
    members, others = random.normal(1, 1, 150), random.normal(0, 2, 250)
    draws = [roc_auc(random.choice(members, 150), random.choice(others, 250)) for _ in range(1_000)]
    low, high = auc_interval(members, others)
    # A standard deviation from 1,000 draws is known to 2.2%, and resampling is itself an approximation.
    assert (high - low) / (2 * norm.ppf(0.975)) == pytest.approx(np.std(draws), rel=0.1)
    assert (low + high) / 2 == pytest.approx(roc_auc(members, others))


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random, held, trials = np.random.default_rng(2), 0, 1_000
    truth = norm.cdf(1 / np.sqrt(2))
    for _ in range(trials):
        low, high = auc_interval(random.normal(1, 1, 60), random.normal(0, 1, 80))
        held += low <= truth <= high
    assert 0.925 <= held / trials <= 0.97  # ± 3.5 standard errors around 94.8%


@settings(deadline=None)
@given(scores, scores)
def test_the_interval_is_around_the_value_and_a_share(members: Real, others: Real) -> None:
    low, high = auc_interval(members, others)
    assert 0 <= low <= roc_auc(members, others) + 1e-12
    assert roc_auc(members, others) - 1e-12 <= high <= 1
    assert (low, high) != (high, low)  # never a point
    turned = auc_interval(others, members)
    assert turned == pytest.approx((1 - high, 1 - low))


def test_perfect_separation_is_not_taken_for_certainty() -> None:
    ones, zeros = np.ones(20), np.zeros(30)
    low, high = auc_interval(ones, zeros)
    assert high == 1.0
    assert low**20 == pytest.approx(0.025)  # 20 independent pairs, each won with the chance `low`
    assert auc_interval(zeros, ones) == pytest.approx((0.0, 1 - auc_interval(ones, zeros)[0]))
    assert auc_interval(np.ones(2000), np.zeros(2000))[0] > 0.998
    assert auc_interval(ones, np.ones(20)) == pytest.approx((0.5 * low, 1 - 0.5 * low))
    assert auc_interval([1.0], zeros) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        (([], [1.0]), "members: needs a list of scores"),
        (([1.0], []), "others: needs a list of scores"),
        (([[1.0]], [1.0]), r"of shape \(1, 1\)"),
        (([1.0, np.nan], [1.0]), r"members 1: scores are undefined \(NaN\)"),
        (([1.0], [np.nan, np.nan]), r"others 2: scores are undefined"),
    ],
)
def test_sides_without_scores_are_refused(sides: tuple[list[float], list[float]], words: str) -> None:
    for measure in (roc_auc, auc_interval, lambda m, o: tpr_at(m, o, 0.1)):
        with pytest.raises(UserError, match=words):
            measure(*sides)


def test_impossible_shares_and_levels_are_refused() -> None:
    for fpr in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="no share of false alarms"):
            tpr_at([1.0], [0.0], fpr)
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(UserError, match="no level of confidence"):
            auc_interval([1.0], [0.0], level)
