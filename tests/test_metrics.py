"""Metrics against scikit-learn and counting by hand, their intervals against formulas, resampling and the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, roc_auc_score

from unmem.errors import UserError
from unmem.metrics import auc_interval, average_precision, average_precision_interval, roc_auc, tpr_at

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


def delong_by_hand(members: Real, others: Real, level: float) -> tuple[float, float]:
    """The logit interval with the variance of placements and Student's t."""
    pairs, m, n = by_pairs(members, others), len(members), len(others)
    first, second = [float(row.mean()) for row in pairs], [float(column.mean()) for column in pairs.T]
    auc = sum(first) / m
    parts = [sum((v - auc) ** 2 for v in one) / (len(one) - 1) / len(one) for one in (first, second)]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (m - 1) + parts[1] ** 2 / (n - 1))
    half = student.ppf((1 + level) / 2, freedom) * sum(parts) ** 0.5 / (auc * (1 - auc))
    ends = [math.log(auc / (1 - auc)) + sign * half for sign in (-1, 1)]
    return 1 / (1 + math.exp(-ends[0])), 1 / (1 + math.exp(-ends[1]))


def newcombe_by_hand(auc: float, m: int, n: int, level: float) -> tuple[float, float]:
    """All areas that are not too far from the one seen, by their own variance, on a fine grid."""
    area = np.linspace(1e-6, 1 - 1e-6, 200_001)
    shape = 1 + ((m + n) / 2 - 1) * ((1 - area) / (2 - area) + area / (1 + area))
    likely = np.abs(auc - area) <= norm.ppf((1 + level) / 2) * np.sqrt(area * (1 - area) * shape / (m * n))
    return area[likely].min(), area[likely].max()


@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize(("spread", "m", "n"), [(1.0, 40, 60), (3.0, 8, 60), (0.5, 6, 12)])
def test_the_interval_is_the_wider_of_two_by_hand(spread: float, m: int, n: int, level: float) -> None:
    random = np.random.default_rng(0)
    for shift in (0.8, -1.0):
        members, others = random.normal(shift, spread, m).round(1), random.normal(0, 1, n).round(1)
        one = delong_by_hand(members, others, level)
        other = newcombe_by_hand(roc_auc(members, others), m, n, level)
        expected = min(one[0], other[0]), max(one[1], other[1])
        assert auc_interval(members, others, level) == pytest.approx(expected, abs=1e-5)


def test_with_many_examples_the_interval_agrees_with_resampling() -> None:
    random = np.random.default_rng(1)
    members, others = random.normal(1, 1, 150), random.normal(0, 1, 250)
    draws = [roc_auc(random.choice(members, 150), random.choice(others, 250)) for _ in range(1_000)]
    low, high = auc_interval(members, others)
    # A standard deviation from 1,000 draws is known to 2.2%, and resampling is itself an approximation.
    assert (high - low) / (2 * norm.ppf(0.975)) == pytest.approx(np.std(draws), rel=0.1)
    assert (low + high) / 2 == pytest.approx(roc_auc(members, others), abs=0.005)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random, held, trials = np.random.default_rng(2), 0, 1_000
    truth = norm.cdf(1 / np.sqrt(2))
    for _ in range(trials):
        low, high = auc_interval(random.normal(1, 1, 60), random.normal(0, 1, 80))
        held += low <= truth <= high
    assert 0.925 <= held / trials <= 0.97  # ± 3.5 standard errors around 94.8%


def normal(area: float, spread: float) -> tuple[float, float]:
    """Mean and standard deviation of the positives, the negatives being standard normal, for this area."""
    return float(norm.ppf(area) * np.sqrt(1 + spread**2)), spread


@pytest.mark.parametrize(
    ("m", "n", "area", "spread"),
    [(3, 27, 0.7, 2.0), (5, 25, 0.85, 2.0), (5, 95, 0.95, 2.0), (10, 90, 0.95, 2.0), (10, 990, 0.99, 2.0),
     (25, 5, 0.85, 0.5), (15, 15, 0.95, 1.0), (3, 997, 0.85, 1.0), (30, 70, 0.99, 2.0)],
)  # fmt: skip
def test_the_interval_of_few_examples_covers_the_area(m: int, n: int, area: float, spread: float) -> None:
    """DeLong's without the logit covers 70% to 86% here."""
    random, trials = np.random.default_rng(m + n), 300
    mean, _ = normal(area, spread)
    found = [auc_interval(random.normal(mean, spread, m), random.normal(0, 1, n)) for _ in range(trials)]
    assert np.mean([low <= area <= high for low, high in found]) >= 0.93


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
        (([], [1.0]), "positives: needs a list of scores"),
        (([1.0], []), "negatives: needs a list of scores"),
        (([[1.0]], [1.0]), r"of shape \(1, 1\)"),
        (([1.0, np.nan], [1.0]), r"positives 1: scores are undefined \(NaN\)"),
        (([1.0], [np.nan, np.nan]), r"negatives 2: scores are undefined"),
    ],
)
def test_sides_without_scores_are_refused(sides: tuple[list[float], list[float]], words: str) -> None:
    for measure in (
        roc_auc,
        auc_interval,
        lambda m, o: tpr_at(m, o, 0.1),
        average_precision,
        average_precision_interval,
    ):
        with pytest.raises(UserError, match=words):
            measure(*sides)


def test_impossible_shares_and_levels_are_refused() -> None:
    for fpr in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="no share of false alarms"):
            tpr_at([1.0], [0.0], fpr)
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(UserError, match="no level of confidence"):
            auc_interval([1.0], [0.0], level)
        with pytest.raises(UserError, match="no level of confidence"):
            average_precision_interval([1.0], [0.0], level)


# Average precision


@settings(deadline=None)
@given(scores, scores)
def test_average_precision_is_that_of_scikit_learn(members: Real, others: Real) -> None:
    marked = np.repeat([1, 0], [len(members), len(others)])
    expected = average_precision_score(marked, np.concatenate([members, others]))
    assert average_precision(members, others) == pytest.approx(expected, abs=1e-12)


def test_infinite_scores_that_are_equal_are_one_step() -> None:
    assert average_precision([np.inf, 0], [np.inf, -np.inf]) == pytest.approx((1 / 2 + 2 / 3) / 2)


def true_average_precision(share: float, mean: float, spread: float) -> float:
    """Mean over the positives of the precision at each, by their quantiles."""
    below = (np.arange(100_000) + 0.5) / 100_000
    found, alarms = share * below, (1 - share) * norm.sf(mean + spread * norm.isf(below))
    return float((found / (found + alarms)).mean())


@pytest.mark.parametrize(
    ("n", "share", "area", "spread"),
    [(30, 0.1, 0.99, 2.0), (30, 0.3, 0.7, 1.0), (30, 0.5, 0.95, 1.0), (30, 0.9, 0.7, 1.0), (100, 0.05, 0.95, 2.0),
     (100, 0.3, 0.99, 0.5)],
)  # fmt: skip
def test_the_interval_of_few_examples_covers_the_average_precision(
    n: int, share: float, area: float, spread: float
) -> None:
    """Percentiles over resamplings cover 20% to 75% here."""
    random, (mean, _) = np.random.default_rng(n), normal(area, spread)
    truth, inside = true_average_precision(share, mean, spread), []
    for seed in range(200):
        m = int(np.clip(random.binomial(n, share), 2, n - 2))
        positives, negatives = random.normal(mean, spread, m), random.normal(0, 1, n - m)
        low, high = average_precision_interval(positives, negatives, resamples=60, seed=seed)
        assert 0 <= low <= average_precision(positives, negatives) <= high <= 1
        inside.append(low <= truth <= high)
    assert np.mean(inside) >= 0.93


@pytest.mark.parametrize(("m", "k", "n"), [(40, 3, 300), (4, 2, 60)])
def test_the_interval_of_average_precision_is_the_wider_of_wilson_and_resampling(m: int, k: int, n: int) -> None:
    """m positives of one score, k negatives above them and n below: how many of each are drawn decides."""
    positives, negatives = np.full(m, 1.0), np.append(np.full(k, 2.0), np.zeros(n))
    value = m / (m + k)
    assert average_precision(positives, negatives) == pytest.approx(value)
    total = m + k + n
    drawn = np.random.default_rng(3).multinomial(total, np.array([m, k, n]) / total, 20_000)
    drawn = drawn[drawn[:, 0] > 0]
    half = student.ppf(0.975, m - 1) * np.std(drawn[:, 0] / (drawn[:, 0] + drawn[:, 1])) / (value * (1 - value))
    by_logit = [1 / (1 + np.exp(-(np.log(value / (1 - value)) + sign * half))) for sign in (-1, 1)]
    by_positives = proportion(value, m)
    found = average_precision_interval(positives, negatives, resamples=3_000)
    expected = min(by_logit[0], by_positives[0]), max(by_logit[1], by_positives[1])
    assert found == pytest.approx(expected, abs=0.008)
    assert expected != pytest.approx(by_positives, abs=0.01)


def test_a_perfect_ranking_or_a_side_of_one_example_says_little() -> None:
    narrow = average_precision_interval(np.arange(2.0, 7), np.array([1.0, 0.0, 0.5]))
    assert narrow == pytest.approx(proportion(1.0, 5), abs=1e-5)
    assert average_precision_interval([1.0], [0.0, 2.0]) == (0.0, 1.0)
    assert average_precision_interval([1.0, 3.0], [2.0]) == (0.0, 1.0)


def proportion(share: float, n: int) -> tuple[float, float]:
    """Wilson's interval: all shares whose own normal interval holds the one seen."""
    shares = np.linspace(0, 1, 200_001)
    likely = np.abs(share - shares) <= norm.ppf(0.975) * np.sqrt(shares * (1 - shares) / n) + 1e-9
    return shares[likely].min(), shares[likely].max()
